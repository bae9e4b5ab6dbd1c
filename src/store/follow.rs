//! The pool's way to a database that moves or changes its password: new connections are opened as the settings say now.
//! Connections that are open stay, unless they lead to another database, or are another user's.

use std::time::{Duration, Instant};

use sqlx::{
    Connection,
    postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions},
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    ACQUIRE_TIMEOUT, Store,
    database::{self, Database},
    session,
};
use crate::backoff::jittered;

/// How often the settings are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// When the database moved: connections that were opened before are not used again.
pub(super) type Moved = Option<Instant>;

/// How long a connection is believed to be alive after it was last used: a busy pool asks nothing before it lends one.
const FRESH: Duration = Duration::from_millis(500);
/// How long one may take to answer before it is lent: there must be time left to open another.
const LENT_WITHIN: Duration = Duration::from_secs(2);

/// A pool that gives up what was opened before the last move, and what does not answer. Opens nothing yet.
///
/// The pool's own tests have no deadline: a connection that fell silent would keep its place for ever on its way back.
pub(super) fn pool(database: &Database, moved: &watch::Sender<Moved>, max_connections: u32) -> PgPool {
    let moved = moved.subscribe();
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(move |connection, about| {
            let current = moved.borrow().is_none_or(|moved| about.age < moved.elapsed());
            Box::pin(async move {
                if current && about.idle_for > FRESH {
                    answers(connection, LENT_WITHIN).await?;
                }
                Ok(current)
            })
        })
        .after_release(|connection, _| Box::pin(async move { answers(connection, ACQUIRE_TIMEOUT).await.map(|()| true) }))
        .connect_lazy_with(session(database.options()))
}

/// An error unless the connection answers in time. What is left of a statement that was given up is read first.
async fn answers(connection: &mut PgConnection, within: Duration) -> Result<(), sqlx::Error> {
    timeout(within, connection.ping()).await.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}

impl Store {
    /// Keeps the pool's settings as the files say, until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(jittered(LOOK_EVERY)) => {}
            }
            let options = self.database.options();
            let moved = target(&options) != target(&self.pool.connect_options());
            self.pool.set_connect_options(session(options));
            if moved {
                info!(database = self.address(), "the database moved: connections to where it was are given up");
                // What is being opened right now may still lead there, and is open by then.
                self.moved.send_replace(Some(Instant::now() + ACQUIRE_TIMEOUT));
                self.close_idle().await;
            }
        }
    }

    /// Closes what nobody uses: it would stay open until somebody wants it.
    async fn close_idle(&self) {
        for _ in 0..self.pool.num_idle() {
            let Some(connection) = self.pool.try_acquire() else { return };
            let _ = timeout(ACQUIRE_TIMEOUT, connection.close()).await;
        }
    }
}

/// Which database, as whom.
fn target(options: &PgConnectOptions) -> (String, String) {
    (database::address(options), options.get_username().to_owned())
}

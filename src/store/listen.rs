//! Hearing of changes: one connection that listens, proves that notifications still reach it, and says "look at everything"
//! after every gap.

use std::time::Duration;

use futures::{SinkExt, channel::mpsc};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Store, explain};
use crate::backoff::Backoff;

/// The channel the trigger notifies.
const CHANNEL: &str = "sync_executions";
/// The channel on which the connection notifies itself.
const HEARTBEAT_CHANNEL: &str = "sync_executions_heartbeat";
/// Silence after which it does.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// How long that may take to come back, or connecting to succeed.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The execution of this object changed.
    Object {
        /// `metadata.namespace`
        namespace: String,
        /// `metadata.name`
        name: String,
    },
    /// Anything may have changed: listening has just begun, or begun again.
    Anything,
}

impl Change {
    /// Reads the trigger's payload, `namespace/name`.
    fn parse(payload: &str) -> Self {
        payload
            .split_once('/')
            .map_or(Self::Anything, |(namespace, name)| Self::Object { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl Store {
    /// Sends every change to `changes` until `stop`, or until nobody receives. Reconnects for ever.
    pub async fn listen(&self, mut changes: mpsc::Sender<Change>, stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                ended = self.listen_once(&mut changes, &mut backoff) => match ended {
                    Ok(()) => return,
                    Err(error) => warn!(database = self.address(), error = explain(&error), "listening for changes stopped; connecting again"),
                },
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = backoff.wait() => {}
            }
        }
    }

    /// Listens on one connection. `Ok` when nobody receives any more.
    async fn listen_once(&self, changes: &mut mpsc::Sender<Change>, backoff: &mut Backoff) -> Result<(), sqlx::Error> {
        let mut moved = self.pool.moves();
        // Not of the store's pool: a listener that is given up says good-bye without a deadline, and would keep its place there
        // for ever if it fell silent.
        let options = PgConnectOptions::clone(&self.pool.options());
        let own = PgPoolOptions::new().max_connections(1).acquire_timeout(ANSWER_WITHIN).connect_lazy_with(options);
        let mut listener = in_time(PgListener::connect_with(&own)).await?;
        // A gap must be seen here, not hidden: what was notified meanwhile is lost.
        listener.eager_reconnect(false);
        in_time(listener.listen_all([CHANNEL, HEARTBEAT_CHANNEL])).await?;
        backoff.reset();
        info!("listening for changes of the record");
        let mut next = Change::Anything;
        loop {
            if changes.send(next).await.is_err() {
                return Ok(());
            }
            next = tokio::select! {
                heard = hear(&mut listener) => heard?,
                // Elsewhere now: what is notified there would not be heard here.
                _ = moved.changed() => return Err(gap()),
            };
        }
    }
}

/// The next change. In silence the connection notifies itself: a statement that succeeds proves only that it lives, not that
/// it is told anything.
async fn hear(listener: &mut PgListener) -> Result<Change, sqlx::Error> {
    loop {
        if let Ok(heard) = timeout(HEARTBEAT_EVERY, notification(listener)).await {
            match heard? {
                Some(change) => return Ok(change),
                // An own heartbeat that was late, or that of another listener.
                None => continue,
            }
        }
        in_time(sqlx::query("SELECT pg_notify($1, '')").bind(HEARTBEAT_CHANNEL).execute(&mut *listener)).await?;
        if let Some(change) = timeout(ANSWER_WITHIN, notification(listener)).await.unwrap_or_else(|_| Err(unheard()))? {
            return Ok(change);
        }
    }
}

/// What comes next: a change, or a heartbeat.
async fn notification(listener: &mut PgListener) -> Result<Option<Change>, sqlx::Error> {
    let notification = listener.try_recv().await?.ok_or_else(gap)?;
    Ok((notification.channel() == CHANNEL).then(|| Change::parse(notification.payload())))
}

/// Some notifications were not heard.
fn gap() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())
}

/// The connection lives, but it is told nothing.
fn unheard() -> sqlx::Error {
    let why = "notifications do not arrive: is there a pooler in front that does not work by session?";
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
}

async fn in_time<T>(step: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(ANSWER_WITHIN, step).await.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_names_the_object_and_anything_else_means_everything() {
        assert_eq!(Change::parse("ns/a.b"), Change::Object { namespace: "ns".into(), name: "a.b".into() });
        assert_eq!(Change::parse(""), Change::Anything);
    }
}

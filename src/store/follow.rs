//! The pool's way to a database that moves or changes its password: new connections are opened as the settings say now.
//! Connections that are open stay, unless they lead to another database, or are another user's.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Store, database, session};
use crate::backoff::jittered;

/// How often the settings are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl Store {
    /// Keeps the pool's settings as the files say, until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(jittered(LOOK_EVERY)) => {}
            }
            let options = self.database.options();
            let moved = target(&options) != target(&self.pool.options());
            self.pool.set_options(session(options));
            if moved {
                info!(database = self.address(), "the database moved: connections to where it was are given up");
                self.pool.give_up_all().await;
            }
            self.pool.tidy().await;
        }
    }
}

/// Which database, as whom.
fn target(options: &PgConnectOptions) -> (String, String) {
    (database::address(options), options.get_username().to_owned())
}

//! Hearing of changes: one connection that listens, proves itself alive, and says "look at everything" after every gap.

use std::time::Duration;

use futures::{SinkExt, channel::mpsc};
use sqlx::postgres::PgListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Store, explain};
use crate::backoff::Backoff;

/// The channel the trigger notifies.
const CHANNEL: &str = "sync_executions";
/// Silence after which the connection is asked for a sign of life.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// How long it may take to answer, or to connect.
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
        let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
        let mut moved = self.moved.subscribe();
        let mut listener = timeout(ANSWER_WITHIN, PgListener::connect_with(&self.pool)).await.map_err(|_| silent())??;
        // A gap must be seen here, not hidden: what was notified meanwhile is lost.
        listener.eager_reconnect(false);
        timeout(ANSWER_WITHIN, listener.listen(CHANNEL)).await.map_err(|_| silent())??;
        backoff.reset();
        info!("listening for changes of the record");
        let mut next = Change::Anything;
        loop {
            if changes.send(next).await.is_err() {
                return Ok(());
            }
            next = loop {
                let heard = tokio::select! {
                    heard = timeout(HEARTBEAT_EVERY, listener.try_recv()) => heard,
                    // Elsewhere now: what is notified there would not be heard here.
                    _ = moved.changed() => return Err(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())),
                };
                match heard {
                    Ok(Ok(Some(notification))) => break Change::parse(notification.payload()),
                    Ok(Ok(None)) => return Err(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())),
                    Ok(Err(error)) => return Err(error),
                    Err(_) => {
                        let heartbeat = sqlx::query("SELECT 1").execute(&mut listener);
                        timeout(ANSWER_WITHIN, heartbeat).await.map_err(|_| silent())??;
                    }
                }
            };
        }
    }
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

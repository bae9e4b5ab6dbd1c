//! The RabbitMQ door: which queues there are, each step with a deadline. Connecting, publishing and consuming are in the files
//! beside; none knows the record.

pub mod intake;
mod link;
pub mod publisher;
pub mod server;

use std::{sync::Arc, time::Duration};

use lapin::{Channel, options::QueueDeclareOptions, types::FieldTable};
use thiserror::Error;
use tokio::time::timeout;

use self::{link::Link, server::Server};

/// Deadline for connecting and for declaring.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the broker is given to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What can go wrong at the broker. The text names it by address, never by its URL.
#[derive(Debug, Error)]
pub enum Error {
    /// The broker refused, or the connection broke.
    #[error("broker {address}: {operation}: {}", explain(source))]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// `host:port/vhost`.
        address: String,
        /// What lapin said.
        source: lapin::Error,
    },
    /// No answer within the deadline.
    #[error("broker {address}: {operation}: no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Silent {
        /// What was tried.
        operation: &'static str,
        /// `host:port/vhost`.
        address: String,
    },
}

/// What lapin says, in words that help.
fn explain(error: &lapin::Error) -> String {
    match error.kind() {
        lapin::ErrorKind::IOError(io) => crate::tls::explain(io).unwrap_or_else(|| error.to_string()),
        _ => error.to_string(),
    }
}

/// Where the broker is and how its queues are called. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    server: Arc<Server>,
    /// The work queue.
    pub queue: String,
    /// The queue of the workers' reports.
    pub status_queue: String,
}

impl Broker {
    /// The broker at that server. Does not connect.
    #[must_use]
    pub fn new(server: Server, queue: String, status_queue: String) -> Self {
        Self { server: Arc::new(server), queue, status_queue }
    }

    /// `host:port/vhost`, for messages.
    fn address(&self) -> String {
        self.server.address()
    }

    async fn step<T>(&self, operation: &'static str, step: impl Future<Output = lapin::Result<T>>) -> Result<T, Error> {
        match timeout(CONNECT_TIMEOUT, step).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(source)) => Err(Error::Failed { operation, address: self.address(), source }),
            Err(_) => Err(Error::Silent { operation, address: self.address() }),
        }
    }

    /// The client library keeps room for 64 frames of `frame_max` bytes in each connection.
    async fn connect(&self, purpose: &str, frame_max: u32) -> Result<Link, Error> {
        self.step("connect", self.server.connect(&format!("sync-operator {purpose}"), frame_max)).await
    }

    /// Says goodbye, without waiting long for an answer, and hangs up.
    async fn close(link: Link) {
        let _ = timeout(CLOSE_TIMEOUT, link.connection.close(200, "done".into())).await;
    }

    /// A channel on which `queue` is known to exist. What is there is taken as it is; what is missing is declared exactly
    /// as the worker declares it: durable, no arguments. So whoever comes first, nobody gets 406 PRECONDITION_FAILED.
    async fn channel_for(&self, link: &Link, queue: &str) -> Result<Channel, Error> {
        let channel = self.step("open a channel", link.connection.create_channel()).await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        if self.step("look for the queue", channel.queue_declare(queue.into(), passive, FieldTable::default())).await.is_ok() {
            return Ok(channel);
        }
        // The failed look closed the channel (AMQP 0-9-1, 404 NOT_FOUND).
        let channel = self.step("open a channel", link.connection.create_channel()).await?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.step("declare the queue", channel.queue_declare(queue.into(), durable, FieldTable::default())).await?;
        Ok(channel)
    }
}

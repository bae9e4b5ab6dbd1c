//! The RabbitMQ door: where the broker is, which queues there are, how to connect. Publishing and consuming are in the
//! files beside; neither knows the record.

pub mod intake;
pub mod publisher;

use std::time::Duration;

use lapin::{Channel, Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable, uri::AMQPUri};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tokio::time::timeout;

/// Deadline for connecting and for declaring.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the broker is given to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Seconds between heartbeats, unless the URL says otherwise: a silent broker is noticed after twice that.
const HEARTBEAT_SECONDS: u16 = 10;

/// What can go wrong at the broker. The text names it by address, never by its URL.
#[derive(Debug, Error)]
pub enum Error {
    /// The broker refused, or the connection broke.
    #[error("broker {address}: {operation}: {source}")]
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

/// Where the broker is and how its queues are called.
#[derive(Clone)]
pub struct Broker {
    uri: AMQPUri,
    address: String,
    /// The work queue.
    pub queue: String,
    /// The queue of the workers' reports.
    pub status_queue: String,
}

impl Broker {
    /// The broker at `url`. Does not connect.
    ///
    /// # Errors
    /// What is wrong with the URL, without the URL.
    pub fn new(url: &SecretString, queue: String, status_queue: String) -> Result<Self, String> {
        // The parser's own words on a wrong scheme repeat the URL, password and all.
        let known = ["amqp://", "amqps://"].iter().any(|scheme| url.expose_secret().starts_with(scheme));
        if !known {
            return Err("it does not begin with amqp:// or amqps://".to_owned());
        }
        let mut uri: AMQPUri = url.expose_secret().parse()?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        let address = format!("{}:{}/{}", uri.authority.host, uri.authority.port, uri.vhost.trim_start_matches('/'));
        Ok(Self { uri, address, queue, status_queue })
    }

    async fn step<T>(&self, operation: &'static str, step: impl Future<Output = lapin::Result<T>>) -> Result<T, Error> {
        match timeout(CONNECT_TIMEOUT, step).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(source)) => Err(Error::Failed { operation, address: self.address.clone(), source }),
            Err(_) => Err(Error::Silent { operation, address: self.address.clone() }),
        }
    }

    async fn connect(&self, purpose: &str) -> Result<Connection, Error> {
        let properties = ConnectionProperties::default().with_connection_name(format!("sync-operator {purpose}").into());
        self.step("connect", Connection::connect_uri(self.uri.clone(), properties)).await
    }

    /// Says goodbye, without waiting long for an answer.
    async fn close(connection: Connection) {
        let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "done".into())).await;
    }

    /// A channel on which `queue` is known to exist. What is there is taken as it is; what is missing is declared exactly
    /// as the worker declares it: durable, no arguments. So whoever comes first, nobody gets 406 PRECONDITION_FAILED.
    async fn channel_for(&self, connection: &Connection, queue: &str) -> Result<Channel, Error> {
        let channel = self.step("open a channel", connection.create_channel()).await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        if self.step("look for the queue", channel.queue_declare(queue.into(), passive, FieldTable::default())).await.is_ok() {
            return Ok(channel);
        }
        // The failed look closed the channel (AMQP 0-9-1, 404 NOT_FOUND).
        let channel = self.step("open a channel", connection.create_channel()).await?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.step("declare the queue", channel.queue_declare(queue.into(), durable, FieldTable::default())).await?;
        Ok(channel)
    }
}

//! The message on the work queue: the bytes and properties that the worker in production reads. Publishing is elsewhere.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use uuid::Uuid;

use super::{Mode, Window, window::WindowError};

/// A claimed execution, with all that its message says.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The execution id.
    pub id: i64,
    /// `metadata.uid` of the SyncExecution.
    pub request_uid: Uuid,
    /// Which try of delivery this is, from 1.
    pub attempt: i32,
    /// What is asked.
    pub mode: Mode,
    /// The window of a backfill.
    pub window: Option<Window>,
    /// When the execution was recorded: the message's timestamp, so that a second copy has the same.
    pub created_at: DateTime<Utc>,
}

/// The JSON body. Field names are the worker's; it ignores those that it does not know.
#[derive(Serialize)]
struct Body<'a> {
    mode: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_ini: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_fim: Option<String>,
    request_id: String,
}

/// A message, ready to be published. Equal deliveries give equal messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// JSON, UTF-8.
    pub body: Vec<u8>,
    /// `UID/attempt`: a second copy of the same delivery carries the same id.
    pub message_id: String,
    /// The execution id.
    pub correlation_id: String,
    /// Seconds since the epoch, when the execution was recorded (AMQP 0-9-1 `timestamp`).
    pub timestamp: u64,
}

/// `type` of every message on the work queue.
pub const MESSAGE_TYPE: &str = "sync.execution.requested";
/// `app_id` of every message of this program.
pub const APP_ID: &str = "sync-operator";
/// `content_type` of every message of this program.
pub const CONTENT_TYPE: &str = "application/json";

impl Delivery {
    /// The message id, `UID/attempt`.
    #[must_use]
    pub fn message_id(&self) -> String {
        format!("{}/{}", self.request_uid, self.attempt)
    }

    /// The message for a worker whose clock shows the time of `zone`.
    ///
    /// # Errors
    /// [`WindowError::LocalTimeRepeated`], see [`Window::to_local`].
    pub fn message(&self, zone: Tz) -> Result<Message, WindowError> {
        let window = match (self.mode, self.window) {
            (Mode::Backfill, Some(window)) => Some(window.to_local(zone)?),
            // An update's window is the worker's to compute.
            _ => None,
        };
        let (data_ini, data_fim) = window.map_or((None, None), |local| (Some(local.start), Some(local.end)));
        let body = Body { mode: self.mode.as_str(), data_ini, data_fim, request_id: self.id.to_string() };
        Ok(Message {
            body: serde_json::to_vec(&body).unwrap_or_default(),
            message_id: self.message_id(),
            correlation_id: self.id.to_string(),
            timestamp: u64::try_from(self.created_at.timestamp()).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::America::Cuiaba;

    use super::*;

    fn delivery(mode: Mode, window: Option<Window>) -> Delivery {
        Delivery {
            id: 42,
            request_uid: "7b0d5c0e-30b9-4d7a-9c62-8a7d3c1f2e11".parse().unwrap(),
            attempt: 1,
            mode,
            window,
            created_at: "2025-07-11T09:00:00.25Z".parse().unwrap(),
        }
    }

    #[test]
    fn an_update_is_these_bytes() {
        let message = delivery(Mode::Update, None).message(Cuiaba).unwrap();
        assert_eq!(std::str::from_utf8(&message.body).unwrap(), r#"{"mode":"update","request_id":"42"}"#);
        assert_eq!(message.message_id, "7b0d5c0e-30b9-4d7a-9c62-8a7d3c1f2e11/1");
        assert_eq!(message.correlation_id, "42");
        assert_eq!(message.timestamp, 1_752_224_400);
    }

    #[test]
    fn a_backfill_is_these_bytes() {
        let window = Window::new("2025-07-10T16:00:00Z".parse().unwrap(), "2025-07-10T22:00:00Z".parse().unwrap()).unwrap();
        let message = delivery(Mode::Backfill, Some(window)).message(Cuiaba).unwrap();
        assert_eq!(
            std::str::from_utf8(&message.body).unwrap(),
            r#"{"mode":"backfill","data_ini":"2025-07-10T12:00:00","data_fim":"2025-07-10T18:00:00","request_id":"42"}"#
        );
    }

    #[test]
    fn an_update_keeps_its_bytes_when_a_window_was_reported_before() {
        let window = Window::new("2025-07-10T16:00:00Z".parse().unwrap(), "2025-07-10T22:00:00Z".parse().unwrap()).unwrap();
        assert_eq!(delivery(Mode::Update, Some(window)).message(Cuiaba), delivery(Mode::Update, None).message(Cuiaba));
    }

    #[test]
    fn a_window_that_the_worker_cannot_be_told_gives_no_message() {
        let window = Window::new("2019-02-10T00:00:00Z".parse().unwrap(), "2019-02-17T02:30:00Z".parse().unwrap()).unwrap();
        assert!(delivery(Mode::Backfill, Some(window)).message(Cuiaba).is_err());
    }
}

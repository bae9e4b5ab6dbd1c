//! Reports of workers by AMQP: JSON on the status queue. A message is acked only once its report is settled in the record,
//! or can never be; while the database is away it waits unacked.

use std::{sync::Arc, time::Duration};

use chrono_tz::Tz;
use futures::StreamExt;
use lapin::{
    Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Broker, Error, link::Link};
use crate::{
    backoff::Backoff,
    crash,
    domain::Report,
    health::{Dependency, Health},
    metrics::{Metrics, ReportLabels},
    store::{Reported, Store},
};

/// Reports taken at a time.
const PREFETCH: u16 = 32;
/// Largest frame: what the broker has by default. The headers of a message must fit into one, and one that is larger breaks the
/// connection, so it must not be less than what those who send may use. Said before connecting: room that is made then is not
/// touched before it is needed, while room that is made when the broker has said its limit is.
const FRAME_MAX: u32 = 128 * 1024;
/// A larger message is no report.
const BODY_MAX: usize = 256 * 1024;

/// Takes reports from the status queue into the record.
pub struct Intake {
    /// Where the reports are.
    pub broker: Broker,
    /// Where they go.
    pub store: Store,
    /// The zone of local times in reports.
    pub zone: Tz,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Told whether the broker can be reached.
    pub health: Arc<Health>,
}

/// A report and the execution that it is about.
#[derive(Debug, Deserialize)]
struct Body {
    /// As it came with the message; `id` as in the REST API is taken too.
    #[serde(alias = "id")]
    request_id: Option<RequestId>,
    #[serde(flatten)]
    report: Report,
}

/// The execution id, as a string like in our message, or as a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RequestId {
    Number(i64),
    Text(String),
}

/// Reads a status message: the execution id is in `request_id`, or else in the property `correlation_id`.
fn read(body: &[u8], correlation_id: Option<&str>) -> Result<(i64, Report), String> {
    if body.len() > BODY_MAX {
        return Err(format!("{} bytes: a report has at most {BODY_MAX}", body.len()));
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let id = match (body.request_id, correlation_id) {
        (Some(RequestId::Number(id)), _) => Some(id),
        (Some(RequestId::Text(id)), _) => id.parse().ok(),
        (None, Some(id)) => id.parse().ok(),
        (None, None) => None,
    };
    Ok((id.ok_or("no execution id: send `request_id` as it came with the message")?, body.report))
}

impl Intake {
    /// Consumes until `stop`. Reconnects for ever.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                connected = self.connect() => match connected {
                    Ok((link, deliveries)) => {
                        backoff.reset();
                        let ended = self.consume(deliveries, &stop).await;
                        Broker::close(link).await;
                        ended
                    }
                    Err(error) => Err(error),
                },
            };
            match ended {
                Ok(()) => return,
                Err(error) => {
                    warn!(error = %error, queue = self.broker.status_queue, "not taking reports; connecting again");
                    self.health.fails(Dependency::Broker, &error);
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = backoff.wait() => {}
            }
        }
    }

    async fn connect(&self) -> Result<(Link, Consumer), Error> {
        let broker = &self.broker;
        let link = broker.connect("reports", FRAME_MAX).await?;
        let channel = broker.channel_for(&link, &broker.status_queue).await?;
        broker.step("set the prefetch count", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let queue = broker.status_queue.as_str().into();
        let consume = channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), FieldTable::default());
        let deliveries = broker.step("consume", consume).await?;
        self.health.works(Dependency::Broker);
        info!(queue = broker.status_queue, "taking reports");
        Ok((link, deliveries))
    }

    /// Settles one report after the other; what is under way at `stop` is finished. `Ok` when stopped.
    async fn consume(&self, mut deliveries: Consumer, stop: &CancellationToken) -> Result<(), Error> {
        let broken = |source| Error::Failed { operation: "consume", address: self.broker.address(), source };
        loop {
            let delivery = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                delivery = deliveries.next() => delivery,
            };
            let Some(delivery) = delivery else {
                return Err(broken(lapin::ErrorKind::IOError(Arc::new(std::io::ErrorKind::ConnectionReset.into())).into()));
            };
            let delivery = delivery.map_err(broken)?;
            if !self.settle(&delivery, stop).await {
                return Ok(());
            }
            let ack = crash::effect("ack a report", || delivery.ack(BasicAckOptions::default()));
            self.broker.step("ack a report", ack).await?;
        }
    }

    /// Writes the report into the record; waits while the database is away. `false` when stopped before that.
    async fn settle(&self, delivery: &Delivery, stop: &CancellationToken) -> bool {
        let correlation_id = delivery.properties.correlation_id().as_ref().map(ToString::to_string);
        let (id, report) = match read(&delivery.data, correlation_id.as_deref())
            .and_then(|(id, report)| Ok((id, report.validate(self.zone).map_err(|error| error.to_string())?)))
        {
            Ok(read) => read,
            Err(error) => {
                warn!(error, queue = self.broker.status_queue, "dropped a message that is no report");
                self.count("invalid");
                return true;
            }
        };
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            match self.store.report(id, &report).await {
                Ok(Reported::Accepted(execution)) => {
                    info!(
                        execution.id = id,
                        status = execution.status.as_str(),
                        records = execution.records_processed,
                        via = "amqp",
                        "report accepted"
                    );
                    self.count("accepted");
                    return true;
                }
                Ok(Reported::Contradicts(execution)) => {
                    warn!(
                        execution.id = id,
                        status = execution.status.as_str(),
                        via = "amqp",
                        "report contradicts a finished execution: dropped"
                    );
                    self.count("contradicts");
                    return true;
                }
                Ok(Reported::Unknown) => {
                    warn!(execution.id = id, via = "amqp", "report on an unknown execution: dropped");
                    self.count("unknown");
                    return true;
                }
                Err(error) if error.is_unavailable() => {
                    warn!(error = %error, execution.id = id, "cannot record a report yet");
                    tokio::select! {
                        () = stop.cancelled() => return false,
                        () = backoff.wait() => {}
                    }
                }
                Err(error) => {
                    warn!(error = %error, execution.id = id, via = "amqp", "report cannot be recorded: dropped");
                    self.count("invalid");
                    return true;
                }
            }
        }
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.reports.get_or_create(&ReportLabels { via: "amqp", outcome }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Status;

    #[test]
    fn the_execution_id_is_read_wherever_workers_put_it() {
        for (body, correlation_id) in [
            (r#"{"request_id":"42"}"#, None),
            (r#"{"id":42}"#, None),
            (r#"{"request_id":42}"#, Some("7")),
            (r#"{"status":"running"}"#, Some("42")),
        ] {
            assert_eq!(read(body.as_bytes(), correlation_id).unwrap().0, 42, "{body}");
        }
        let report = read(br#"{"request_id":"42","status":"success","records_processed":3}"#, None).unwrap().1;
        assert_eq!((report.status, report.records_processed), (Some(Status::Success), Some(3)));
    }

    #[test]
    fn what_is_no_report_is_told_so() {
        for body in [&b"\xff\xfe"[..], b"[]", b"{}", br#"{"request_id":"x"}"#, br#"{"request_id":"42","status":"done"}"#] {
            assert!(read(body, None).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }
}

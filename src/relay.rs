//! The relay: claim → publish → mark. It alone turns a recorded execution into a message. It never decides what a message
//! says (`domain::message`) nor speaks AMQP (`broker`).

mod marks;
pub mod settlement;

use std::{sync::Arc, time::Duration};

use chrono_tz::Tz;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{marks::Marks, settlement::Settlement};
use crate::{
    backoff::{Backoff, jittered},
    broker::{Broker, publisher::Publisher},
    clock,
    domain::{
        execution::{FinishReason, PublishProblem, Request},
        message::{Delivery, Message},
    },
    leader::Leadership,
    metrics::{Metrics, Outcome},
    store::{self, Claimed, Store},
};

/// Messages in flight: confirms come no faster with more.
const BATCH: i64 = 200;
/// Batches that are being marked while the next is published.
const MARKS: usize = 1;
/// How old a claim made ahead may be when its batch is published: that may take 10 s, and the claim must hold until then.
const AHEAD_MAX: Duration = Duration::from_secs(5);
/// How often to look for work that nobody announced.
const POLL: Duration = Duration::from_secs(2);
/// How many waiting executions are told of an outage by one statement.
const NOTE_BATCH: i64 = 500;
/// How long a confirmed batch is tried to be marked during shutdown; after that it is published again, with the same ids.
const MARK_AT_SHUTDOWN: Duration = Duration::from_secs(10);

/// Tells whether a SyncExecution shows that its message was published.
pub type ShownAsPublished = Box<dyn Fn(&Request) -> bool + Send + Sync>;

/// Publishes what is recorded and not published.
pub struct Relay {
    /// The record.
    pub store: Store,
    /// Where messages go.
    pub broker: Broker,
    /// The worker's zone.
    pub zone: Tz,
    /// Whose messages it publishes; all without. Of others it does not know what their objects show, nor whether they are gone.
    pub namespaces: Option<Vec<String>>,
    /// Told when something was recorded.
    pub recorded: Arc<Notify>,
    /// Asked before every publish.
    pub leadership: Leadership,
    /// Asked of every claim.
    pub shown_as_published: ShownAsPublished,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// What one pass leaves to the next.
#[derive(Default)]
struct Progress {
    publisher: Option<Publisher>,
    marks: Marks,
    ahead: Option<Ahead>,
    /// The broker or the database was in trouble: nothing is claimed ahead that might have to wait for its claim to run out.
    trouble: bool,
}

/// What was claimed while the batch before was published.
struct Ahead {
    claimed: Vec<Claimed>,
    since: tokio::time::Instant,
}

/// What a pass came to.
enum Pass {
    /// There may be more: go on at once.
    More,
    /// Nothing to do.
    Idle,
    /// The broker or the database is in trouble: wait longer each time.
    Trouble,
    /// The broker cannot be reached, in the words noted on what waits: wait longer each time.
    BrokerAway(String),
}

impl Relay {
    /// Runs until `stop`; what is claimed then is still published and marked.
    pub async fn run(self, stop: CancellationToken) {
        let relay = Arc::new(self);
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
        let mut progress = Progress::default();
        while !stop.is_cancelled() {
            let pass = relay.pass(&mut progress, &stop).await;
            progress.trouble = matches!(pass, Pass::Trouble | Pass::BrokerAway(_));
            match &pass {
                Pass::More => backoff.reset(),
                Pass::Idle => {
                    backoff.reset();
                    relay.rest(&pass, jittered(POLL), &stop).await;
                }
                Pass::Trouble | Pass::BrokerAway(_) => relay.rest(&pass, backoff.next_wait(), &stop).await,
            }
        }
        if progress.ahead.is_some() && progress.publisher.as_ref().is_some_and(Publisher::is_open) {
            relay.pass(&mut progress, &stop).await;
        }
        progress.marks.wait(0).await;
        if let Some(publisher) = progress.publisher {
            publisher.close().await;
        }
    }

    /// Waits for the next pass.
    async fn rest(&self, pass: &Pass, wait: Duration, stop: &CancellationToken) {
        let next = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(next) => return,
                () = self.recorded.notified() => match pass {
                    Pass::More | Pass::Idle => return,
                    // No reason to try sooner, but what is new shall not wait that long for its reason.
                    Pass::BrokerAway(text) => self.note_outage(text).await,
                    Pass::Trouble => {}
                },
            }
        }
    }

    async fn pass(self: &Arc<Self>, progress: &mut Progress, stop: &CancellationToken) -> Pass {
        let Progress { publisher, marks, ahead, trouble } = progress;
        marks.wait(MARKS).await;
        marks.again(self, stop);
        if publisher.as_ref().is_none_or(|publisher| !publisher.is_open()) {
            *publisher = match Publisher::connect(&self.broker).await {
                Ok(connected) => {
                    info!(queue = self.broker.queue, "connected to the broker");
                    Some(connected)
                }
                Err(error) => {
                    warn!(error = %error, "the broker is not available; executions wait");
                    let text = error.to_string();
                    self.note_outage(&text).await;
                    return Pass::BrokerAway(text);
                }
            };
        }
        let Some(connected) = publisher.as_ref() else { return Pass::Trouble };
        if !self.leadership.holds() {
            return Pass::Idle;
        }
        let claimed = match ahead.take().filter(|ahead| ahead.since.elapsed() < AHEAD_MAX) {
            Some(ahead) => Ok(ahead.claimed),
            None if stop.is_cancelled() => return Pass::Idle,
            None => self.claim().await,
        };
        let mut claimed = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                warn!(error = %error, "cannot look for executions to publish");
                return Pass::Trouble;
            }
        };
        let full = i64::try_from(claimed.len()).is_ok_and(|claimed| claimed == BATCH);
        claimed.retain(|claimed| !marks.holds(claimed.delivery.id));
        if claimed.is_empty() {
            return Pass::Idle;
        }
        let batch = self.compose(claimed).await;
        // Leadership may have passed while the database was slow; the claims expire by themselves then.
        if !self.leadership.holds() {
            return Pass::Idle;
        }
        let messages: Vec<Message> = batch.iter().map(|(_, message)| message.clone()).collect();
        let deliver = async {
            let fates = connected.publish(&messages).await;
            let settlement = Settlement::of(&batch, &fates);
            self.tell(&settlement.confirmed);
            marks.add(self, settlement.confirmed.iter().map(|delivery| delivery.id).collect(), stop);
            settlement
        };
        let (settlement, claimed_ahead) = tokio::join!(deliver, self.claim_ahead(full && !*trouble && !stop.is_cancelled()));
        *ahead = claimed_ahead;
        if settlement.failed.is_empty() {
            return if full { Pass::More } else { Pass::Idle };
        }
        let reconnect = settlement.wants_new_connection();
        self.release(settlement.failed).await;
        if let Some(broken) = publisher.take_if(|_| reconnect) {
            tokio::spawn(broken.close());
        }
        Pass::Trouble
    }

    async fn claim(&self) -> Result<Vec<Claimed>, store::Error> {
        self.store.claim(BATCH, self.namespaces.as_deref()).await
    }

    /// Claims the next batch, if it is to. If that fails, the next pass tries it itself, and tells.
    async fn claim_ahead(&self, wanted: bool) -> Option<Ahead> {
        let since = tokio::time::Instant::now();
        if wanted { self.claim().await.ok().map(|claimed| Ahead { claimed, since }) } else { None }
    }

    /// The messages of what was claimed. What cannot be told to the worker ends as failed. A row that is
    /// not published while its object shows that it was has been restored from an older state: it is put aside for a person
    /// to decide.
    async fn compose(&self, claimed: Vec<Claimed>) -> Vec<(Delivery, Message)> {
        let mut batch = Vec::with_capacity(claimed.len());
        for Claimed { delivery, request, again } in claimed {
            if (self.shown_as_published)(&request) {
                match self.store.hold(delivery.id).await {
                    Ok(()) => warn!(
                        execution.id = delivery.id,
                        object.namespace = request.namespace,
                        object.name = request.name,
                        "not published again: its object shows that it was published before, so the record is an older one, restored; see condition RecordBehind"
                    ),
                    Err(error) => warn!(execution.id = delivery.id, error = %error, "cannot put an execution aside yet"),
                }
                continue;
            }
            if again {
                self.metrics.publishes_again.inc();
                info!(
                    execution.id = delivery.id,
                    message.id = delivery.message_id(),
                    "publishing again: the message may have been sent before"
                );
            }
            match delivery.message(self.zone) {
                Ok(message) => batch.push((delivery, message)),
                Err(error) => {
                    let ended = self.store.fail(delivery.id, FinishReason::AmbiguousLocalTime, &error.to_string()).await;
                    match ended {
                        Ok(()) => {
                            warn!(execution.id = delivery.id, error = %error, "execution failed: its window cannot be told to the worker");
                        }
                        Err(store) => warn!(execution.id = delivery.id, error = %store, "cannot end an execution yet"),
                    }
                }
            }
        }
        batch
    }

    /// Tells of confirmed executions.
    fn tell(&self, confirmed: &[&Delivery]) {
        let now = clock::now();
        for delivery in confirmed {
            let delay = (now - delivery.created_at).to_std().unwrap_or_default();
            self.metrics.publish_delay_seconds.observe(delay.as_secs_f64());
            self.count("confirmed");
            info!(execution.id = delivery.id, message.id = delivery.message_id(), "execution published");
        }
    }

    /// Marks executions whose messages are out. Tried until the database takes it: giving up means a second copy. Answers
    /// those that somebody holds locked; they are marked later, or by their worker's report.
    async fn mark(&self, ids: &[i64], stop: &CancellationToken) -> Vec<i64> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut give_up = None;
        loop {
            let error = match self.store.mark_published(ids).await {
                Ok(locked) => return locked,
                Err(error) => error,
            };
            warn!(error = %error, executions = ids.len(), "cannot mark executions as published yet");
            if stop.is_cancelled() {
                let deadline = *give_up.get_or_insert(tokio::time::Instant::now() + MARK_AT_SHUTDOWN);
                if tokio::time::Instant::now() >= deadline {
                    warn!(
                        executions = ids.len(),
                        "shut down before confirmed executions could be marked: they will be published again, with the same message ids"
                    );
                    return ids.to_vec();
                }
            }
            backoff.wait().await;
        }
    }

    async fn release(&self, failed: Vec<(i64, PublishProblem, String)>) {
        for problem in [PublishProblem::BrokerUnavailable, PublishProblem::Unroutable, PublishProblem::Rejected] {
            let (ids, texts): (Vec<i64>, Vec<&str>) =
                failed.iter().filter(|(_, kind, _)| *kind == problem).map(|(id, _, text)| (*id, text.as_str())).unzip();
            let Some(text) = texts.first() else { continue };
            warn!(
                executions = ids.len(),
                problem = problem.as_str(),
                error = text,
                "executions could not be published; they will be tried again"
            );
            for _ in &ids {
                self.count(problem.as_str());
            }
            if let Err(error) = self.store.release(&ids, problem, text).await {
                // The claims expire by themselves.
                warn!(error = %error, "cannot note why executions were not published");
            }
        }
    }

    async fn note_outage(&self, text: &str) {
        loop {
            match self.store.note_broker_unavailable(text, NOTE_BATCH, self.namespaces.as_deref()).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => return log_store(&error),
            }
        }
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.publishes.get_or_create(&Outcome { outcome }).inc();
    }
}

fn log_store(error: &store::Error) {
    warn!(error = %error, "cannot note that the broker is away");
}

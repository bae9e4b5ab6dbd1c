//! Watches the objects of a place, as any client of the cluster would: what it sees is what counts as shown.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, pin_mut};
use kube::{
    Api,
    api::{ListParams, WatchEvent, WatchParams},
};
use tokio::{task::JoinHandle, time::sleep};

use crate::load::SyncExecution;

/// No event for this long is quiet.
const QUIET: Duration = Duration::from_millis(1_500);

/// How far an object must have got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It shows that its message is published.
    Published,
    /// It shows that it succeeded.
    Succeeded,
}

/// When an object was seen to get that far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// First seen.
    pub created: Option<Instant>,
    /// First seen as published.
    pub published: Option<Instant>,
    /// First seen as succeeded.
    pub succeeded: Option<Instant>,
}

#[derive(Default)]
struct State {
    seen: HashMap<String, Seen>,
    published: usize,
    succeeded: usize,
    changes: u64,
    last: Option<Instant>,
    failed: Option<String>,
}

/// A watch that remembers.
pub struct Observer {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Observer {
    /// Watches from now on.
    pub async fn start(objects: Api<SyncExecution>) -> Result<Self> {
        let list = objects.list_metadata(&ListParams::default().limit(1)).await.context("list")?;
        let version = list.metadata.resource_version.context("a list without version")?;
        let state = Arc::new(Mutex::new(State::default()));
        let watching = Arc::clone(&state);
        let task = tokio::spawn(async move {
            if let Err(error) = watch(&objects, version, &watching).await {
                lock(&watching).failed = Some(format!("{error:#}"));
            }
        });
        Ok(Self { state, task })
    }

    /// Waits until `count` objects show that much; when the last of them did. Fails after `patience` without any event.
    pub async fn wait(&self, what: Shown, count: usize, patience: Duration) -> Result<Instant> {
        let mut idle_since = Instant::now();
        let mut last_event = None;
        loop {
            {
                let state = lock(&self.state);
                if let Some(error) = &state.failed {
                    bail!("the watch of the bench broke: {error}");
                }
                let so_far = if what == Shown::Published { state.published } else { state.succeeded };
                if so_far >= count {
                    let times =
                        state.seen.values().filter_map(|seen| if what == Shown::Published { seen.published } else { seen.succeeded });
                    return times.max().context("nothing was waited for");
                }
                if state.last != last_event {
                    last_event = state.last;
                    idle_since = Instant::now();
                }
                if idle_since.elapsed() > patience {
                    bail!("only {so_far} of {count} objects are {what:?}, and nothing changed for {} s", patience.as_secs());
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until nothing has changed for a while.
    pub async fn quiet(&self) {
        while lock(&self.state).last.is_some_and(|last| last.elapsed() < QUIET) {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// How often a stored object changed so far: each change that is one gives exactly one event.
    #[must_use]
    pub fn changes(&self) -> u64 {
        lock(&self.state).changes
    }

    /// When each object was seen, by name.
    #[must_use]
    pub fn seen(&self) -> HashMap<String, Seen> {
        lock(&self.state).seen.clone()
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch(objects: &Api<SyncExecution>, mut version: String, state: &Mutex<State>) -> Result<()> {
    loop {
        let events = objects.watch(&WatchParams::default().timeout(280), &version).await.context("watch")?;
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let (object, changed) = match event? {
                WatchEvent::Added(object) => (object, false),
                WatchEvent::Modified(object) => (object, true),
                WatchEvent::Bookmark(bookmark) => {
                    version = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Deleted(_) => continue,
                WatchEvent::Error(error) => bail!("watch: {error:?}"),
            };
            version = object.metadata.resource_version.clone().unwrap_or(version);
            note(&mut lock(state), object, changed);
        }
    }
}

fn note(state: &mut State, object: SyncExecution, changed: bool) {
    let now = Instant::now();
    state.last = Some(now);
    state.changes += u64::from(changed);
    let phase = object.status.and_then(|status| status.phase).unwrap_or_default();
    let succeeded = phase == "Succeeded";
    let published = succeeded || phase == "Queued" || phase == "Running";
    let seen = state.seen.entry(object.metadata.name.unwrap_or_default()).or_default();
    seen.created.get_or_insert(now);
    if published && seen.published.is_none() {
        seen.published = Some(now);
        state.published += 1;
    }
    if succeeded && seen.succeeded.is_none() {
        seen.succeeded = Some(now);
        state.succeeded += 1;
    }
}

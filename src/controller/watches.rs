//! Watching SyncExecutions: one watch for each namespace, or one for all, into one cache and one queue. A namespace whose watch
//! fails holds up no other, but only when all are listed it is said that all is listed. Decides nothing about objects.

use std::{collections::BTreeSet, fmt, mem::take, str::FromStr, sync::Arc};

use futures::{StreamExt, channel::mpsc, stream};
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::{
    cache::Cache,
    deletions::Seen,
    mirror::Mirror,
    object::{Key, Known, Watched},
    queue::Queue,
};
use crate::health::{Dependency, Health};

/// Seconds after which a watch is begun anew, from where it was: one that fell silent without an end is noticed then.
const WATCH_SECONDS: u32 = 30;
/// Objects in one answer to a list: what is read at once is what a list costs in memory.
const PAGE: u32 = 500;
/// Longest name of a namespace.
const NAME_MAX: usize = 63;

/// Which namespaces are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// Every one.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl Namespaces {
    /// Their names; none for all of them.
    #[must_use]
    pub fn names(&self) -> Option<Vec<String>> {
        match self {
            Self::All => None,
            Self::Only(names) => Some(names.iter().cloned().collect()),
        }
    }
}

impl FromStr for Namespaces {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self::All);
        }
        let names = text.split(',').map(|name| match name.trim() {
            name if is_label(name) => Ok(name.to_owned()),
            name => Err(format!(
                "WATCH_NAMESPACE: `{name}` cannot be the name of a namespace (lower-case letters, digits and inner hyphens, at most \
                 {NAME_MAX}): write names separated by commas, like team-a,team-b, or nothing for all namespaces"
            )),
        });
        Ok(Self::Only(names.collect::<Result<_, _>>()?))
    }
}

/// Whether it is a label as RFC 1123 has them.
fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Only(names) => f.write_str(&names.iter().map(String::as_str).collect::<Vec<_>>().join(",")),
        }
    }
}

/// Who is told what the watches see.
pub(super) struct Told {
    /// Of every object that is to be looked at.
    pub queue: Queue,
    /// Of deletions, and of all being listed.
    pub seen: mpsc::UnboundedSender<Seen>,
    /// Of the highest execution id that any object shows, when all are listed but those whose list fails.
    pub highest: watch::Sender<Option<i64>>,
    /// What it remembers of deleted objects can go, and it knows what it wrote itself.
    pub mirror: Arc<Mirror>,
    /// Whether the watches work.
    pub health: Arc<Health>,
}

/// Keeps `cache` as the API server has it, and tells what is new, until `stop`. A watch that broke begins again.
pub(super) async fn watch(client: Client, namespaces: Namespaces, cache: Cache, told: Told, stop: CancellationToken) {
    let watches: Vec<(Option<String>, Api<Watched>)> = match namespaces {
        Namespaces::All => vec![(None, Api::all(client))],
        Namespaces::Only(names) => names.into_iter().map(|name| (Some(name.clone()), Api::namespaced(client.clone(), &name))).collect(),
    };
    let mut merged = Merged::new(cache, told, watches.iter().map(|(namespace, _)| namespace.clone()).collect());
    let events = watches.into_iter().enumerate().map(|(number, (_, api))| {
        // Each waits for itself after an error: the others go on meanwhile.
        let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
        watcher(api, config).default_backoff().map(move |event| (number, event)).boxed()
    });
    let mut events = stream::select_all(events);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some((number, event)) = events.next() => merged.take(number, event),
        }
    }
}

/// One cache behind several watches.
struct Merged {
    cache: Cache,
    told: Told,
    watches: Vec<Watch>,
    /// Seen by the first lists, and to be recorded, for which all must be listed.
    held: Vec<Key>,
}

/// What is known of one watch.
#[derive(Default)]
struct Watch {
    /// None: all of them.
    namespace: Option<String>,
    /// The number of the list that is under way, or was the last.
    list: u32,
    /// Whether a list was ever complete.
    listed: bool,
    /// Why the list fails.
    failing: Option<String>,
}

impl Merged {
    fn new(cache: Cache, told: Told, namespaces: Vec<Option<String>>) -> Self {
        let watches = namespaces.into_iter().map(|namespace| Watch { namespace, ..Watch::default() }).collect();
        Self { cache, told, watches, held: Vec::new() }
    }

    /// Takes what a watch says into the cache, and tells.
    fn take(&mut self, number: usize, event: watcher::Result<Event<Watched>>) {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                self.failed(number, &error);
                return;
            }
        };
        // Every list begins with this one, also one that is about to fail.
        if !matches!(event, Event::Init) && self.watches[number].failing.take().is_some() {
            self.tell_health();
        }
        match event {
            Event::Init => self.watches[number].list += 1,
            Event::InitApply(object) | Event::Apply(object) => self.put(number, object),
            Event::Delete(object) => self.deleted(&object),
            Event::InitDone => self.listed(number),
        }
    }

    /// What an object shows after our own write of it, or again after another list, is no news.
    fn put(&mut self, number: usize, object: Watched) {
        let key = self.cache.key(&object.namespace().unwrap_or_default(), &object.name_any());
        let Some(known) = Known::of(key, object).map(Arc::new) else { return };
        let before = self.cache.put(Arc::clone(&known), self.watches[number].list);
        if let Some(before) = before.as_ref().filter(|before| before.uid != known.uid) {
            self.gone(before.uid);
        }
        let echo = self.told.mirror.is_echo(known.uid, known.shown.digest);
        if before.is_some_and(|before| known.asks_as(&before) && (echo || known.shown == before.shown)) {
            return;
        }
        if self.told.highest.borrow().is_none() && !known.shown.recorded && !known.deleting {
            self.held.push(known.key.clone());
        } else {
            self.told.queue.soon(known.key.clone());
        }
    }

    fn deleted(&mut self, object: &Watched) {
        self.cache.remove(&Key::new(&object.namespace().unwrap_or_default(), &object.name_any()));
        if let Some(uid) = object.uid().and_then(|uid| uid.parse().ok()) {
            self.gone(uid);
        }
    }

    fn gone(&self, uid: Uuid) {
        self.told.mirror.forget(uid);
        let _ = self.told.seen.unbounded_send(Seen::Deleted(uid));
    }

    /// Forgets what a complete list did not bring. Whether it is really gone is for the sweep to find out.
    fn listed(&mut self, number: usize) {
        let watch = &mut self.watches[number];
        watch.listed = true;
        for known in self.cache.remove_all_before(watch.list, watch.namespace.as_deref()) {
            self.told.mirror.forget(known.uid);
        }
        if self.watches.iter().all(|watch| watch.listed) {
            let _ = self.told.seen.unbounded_send(Seen::Listed);
        }
        self.tell_highest();
    }

    /// Once. A namespace whose list fails must not hold up the others for ever.
    fn tell_highest(&mut self) {
        if self.told.highest.borrow().is_none() && self.watches.iter().all(|watch| watch.listed || watch.failing.is_some()) {
            self.told.highest.send_replace(Some(self.cache.highest_execution_id()));
            for key in take(&mut self.held) {
                self.told.queue.soon(key);
            }
        }
    }

    fn failed(&mut self, number: usize, error: &watcher::Error) {
        let watch = &mut self.watches[number];
        let namespace = watch.namespace.as_deref().unwrap_or("all");
        warn!(namespace, error = %error, "watching SyncExecutions failed; trying again");
        // Only after a failed list does success show as events; after others the watch goes on in silence.
        if matches!(error, watcher::Error::InitialListFailed(_)) {
            watch.failing = Some(format!("namespace {namespace}: {error}"));
            self.tell_health();
            self.tell_highest();
        }
    }

    fn tell_health(&self) {
        match self.watches.iter().find_map(|watch| watch.failing.as_ref()) {
            Some(why) => self.told.health.fails(Dependency::Watch, why),
            None => self.told.health.works(Dependency::Watch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_namespaces_is_read_as_people_write_it() {
        assert_eq!("".parse(), Ok(Namespaces::All));
        let named = |names: &[&str]| Ok(Namespaces::Only(names.iter().map(|name| (*name).to_owned()).collect()));
        assert_eq!("a".parse(), named(&["a"]));
        assert_eq!("team-b, team-a,team-b".parse(), named(&["team-a", "team-b"]));
    }

    #[test]
    fn a_list_with_a_hole_or_a_wrong_name_is_not_taken_for_all_namespaces() {
        for wrong in [",", "a,", ",a", "a,,b", "A", "a_b", "-a", "a-", "a b", "*", &"a".repeat(64)] {
            assert!(wrong.parse::<Namespaces>().unwrap_err().contains("WATCH_NAMESPACE"), "{wrong}");
        }
    }
}

//! Watching SyncExecutions: one watch for each namespace, or one for all, into one cache and one stream. A namespace whose watch
//! fails holds up no other, but only when all are listed it is said that all is listed. Decides nothing about objects.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use futures::{Stream, StreamExt, channel::mpsc, stream};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store as Cache, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::watch;
use tracing::warn;

use super::{Guarded, deletions::Seen, mirror::Mirror, reconcile::execution_id};
use crate::health::{Dependency, Health};

/// Seconds after which a watch is begun anew: a silent one is noticed then.
const WATCH_SECONDS: u32 = 120;
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
    /// Of deletions, and of all being listed.
    pub seen: mpsc::UnboundedSender<Seen>,
    /// Of the highest execution id that any object shows, when all are listed but those whose list fails.
    pub highest: watch::Sender<Option<i64>>,
    /// What it remembers of deleted objects can go.
    pub mirror: Arc<Mirror>,
    /// Whether the watches work.
    pub health: Arc<Health>,
}

/// All objects of these namespaces as they appear and change. Never ends, and fails never: a watch that broke begins again.
pub(super) fn watch(
    client: Client,
    namespaces: &Namespaces,
    writer: Writer<Guarded>,
    told: Told,
) -> impl Stream<Item = Result<Guarded, watcher::Error>> + Send + use<> {
    let watches: Vec<(Option<String>, Api<Guarded>)> = match namespaces {
        Namespaces::All => vec![(None, Api::all(client))],
        Namespaces::Only(names) => names.iter().map(|name| (Some(name.clone()), Api::namespaced(client.clone(), name))).collect(),
    };
    let mut merged = Merged::new(writer, told, watches.iter().map(|(namespace, _)| namespace.clone()).collect());
    let events = watches.into_iter().enumerate().map(|(number, (_, api))| {
        // Each waits for itself after an error: the others go on meanwhile.
        let events = watcher(api, watcher::Config::default().timeout(WATCH_SECONDS)).default_backoff().modify(prune);
        events.map(move |event| (number, event)).boxed()
    });
    stream::select_all(events).filter_map(move |(number, event)| std::future::ready(merged.take(number, event).map(Ok)))
}

/// What is never read is not kept: it is most of an object's size.
fn prune(object: &mut Guarded) {
    object.managed_fields_mut().clear();
    object.meta_mut().annotations = None;
}

/// One cache behind several watches.
struct Merged {
    writer: Writer<Guarded>,
    cache: Cache<Guarded>,
    told: Told,
    watches: Vec<Watch>,
}

/// What is known of one watch.
#[derive(Default)]
struct Watch {
    /// None: all of them.
    namespace: Option<String>,
    /// What the list that is under way has brought so far.
    listing: HashSet<ObjectRef<Guarded>>,
    /// Whether a list was ever complete.
    listed: bool,
    /// Why the list fails.
    failing: Option<String>,
}

impl Merged {
    fn new(mut writer: Writer<Guarded>, told: Told, namespaces: Vec<Option<String>>) -> Self {
        // Complete from the start, as the cache sees it: a list of one watch must not replace what the others brought.
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        let watches = namespaces.into_iter().map(|namespace| Watch { namespace, ..Watch::default() }).collect();
        Self { cache: writer.as_reader(), writer, told, watches }
    }

    /// Takes what a watch says into the cache, and tells; the object, if it is there now.
    fn take(&mut self, number: usize, event: watcher::Result<Event<Guarded>>) -> Option<Guarded> {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                self.failed(number, &error);
                return None;
            }
        };
        // Every list begins with this one, also one that is about to fail.
        if !matches!(event, Event::Init) && self.watches[number].failing.take().is_some() {
            self.tell_health();
        }
        match event {
            Event::Init => {
                self.watches[number].listing.clear();
                None
            }
            Event::InitApply(object) => {
                self.watches[number].listing.insert(ObjectRef::from_obj(&object));
                self.writer.apply_watcher_event(&Event::Apply(object.clone()));
                Some(object)
            }
            Event::Apply(object) => {
                self.writer.apply_watcher_event(&Event::Apply(object.clone()));
                Some(object)
            }
            Event::Delete(object) => {
                if let Some(uid) = self.forget(&object).and_then(|uid| uid.parse().ok()) {
                    let _ = self.told.seen.unbounded_send(Seen::Deleted(uid));
                }
                None
            }
            Event::InitDone => {
                self.listed(number);
                None
            }
        }
    }

    /// Forgets what a complete list did not bring. Whether it is really gone is for the sweep to find out.
    fn listed(&mut self, number: usize) {
        let watch = &mut self.watches[number];
        watch.listed = true;
        let listing = std::mem::take(&mut watch.listing);
        let namespace = watch.namespace.clone();
        let missing = self.cache.state_filter(|object| {
            (namespace.is_none() || object.namespace() == namespace) && !listing.contains(&ObjectRef::from_obj(object))
        });
        for object in missing {
            self.forget(&object);
        }
        if self.watches.iter().all(|watch| watch.listed) {
            let _ = self.told.seen.unbounded_send(Seen::Listed);
        }
        self.tell_highest();
    }

    /// Once. A namespace whose list fails must not hold up the others for ever.
    fn tell_highest(&self) {
        if self.told.highest.borrow().is_none() && self.watches.iter().all(|watch| watch.listed || watch.failing.is_some()) {
            let objects = self.cache.state();
            let shown = objects.iter().filter_map(|object| execution_id(object.0.as_ref().ok()?));
            self.told.highest.send_replace(Some(shown.max().unwrap_or_default()));
        }
    }

    fn forget(&mut self, object: &Guarded) -> Option<String> {
        self.writer.apply_watcher_event(&Event::Delete(object.clone()));
        let uid = object.uid()?;
        self.told.mirror.forget(&uid);
        Some(uid)
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

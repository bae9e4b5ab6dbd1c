//! All objects of the watched namespaces, as the watch last brought them. Many read, one writes; decides nothing about objects.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::object::{Key, Known};
use crate::domain::execution::Request;

/// The cache. Cheap to clone: all clones are one.
#[derive(Clone, Default)]
pub struct Cache(Arc<RwLock<Inner>>);

#[derive(Default)]
struct Inner {
    objects: HashMap<Key, Entry>,
    /// Each name once, for all the keys in it.
    namespaces: HashSet<Arc<str>>,
    hasher: RandomState,
}

struct Entry {
    known: Arc<Known>,
    /// The last list of its watch that brought it, or that was before the event that did.
    list: u32,
}

impl Cache {
    /// The object of that key.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Known>> {
        self.read().objects.get(key).map(|entry| Arc::clone(&entry.known))
    }

    /// The object of a request; a namesake is not it.
    #[must_use]
    pub fn of_request(&self, request: &Request) -> Option<Arc<Known>> {
        self.get(&Key::new(&request.namespace, &request.name)).filter(|known| known.is_of(request))
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.read().objects.keys().cloned().collect()
    }

    /// The keys of those objects that are under way, of one of `parts` equal parts of all.
    #[must_use]
    pub fn under_way(&self, part: u64, parts: u64) -> Vec<Key> {
        let inner = self.read();
        let in_part = |key: &Key| inner.hasher.hash_one(key) % parts == part % parts;
        inner.objects.iter().filter(|(key, entry)| in_part(key) && entry.known.is_under_way()).map(|(key, _)| key.clone()).collect()
    }

    /// The highest execution id that any object shows; 0 when none does.
    #[must_use]
    pub fn highest_execution_id(&self) -> i64 {
        self.read().objects.values().filter_map(|entry| entry.known.shown.execution_id).max().unwrap_or_default()
    }

    /// A key whose namespace is not stored once more.
    pub(super) fn key(&self, namespace: &str, name: &str) -> Key {
        let mut inner = self.write();
        let namespace = inner.namespaces.get(namespace).cloned().unwrap_or_else(|| {
            let new: Arc<str> = namespace.into();
            inner.namespaces.insert(Arc::clone(&new));
            new
        });
        Key { namespace, name: name.into() }
    }

    /// Puts an object in, as brought in or after that list of its watch; what was known of it before.
    pub(super) fn put(&self, known: Arc<Known>, list: u32) -> Option<Arc<Known>> {
        let key = known.key.clone();
        self.write().objects.insert(key, Entry { known, list }).map(|entry| entry.known)
    }

    /// Takes an object out.
    pub(super) fn remove(&self, key: &Key) -> Option<Arc<Known>> {
        self.write().objects.remove(key).map(|entry| entry.known)
    }

    /// Takes out what that list did not bring, of one namespace or of all.
    pub(super) fn remove_all_before(&self, list: u32, namespace: Option<&str>) -> Vec<Arc<Known>> {
        let of_watch = |key: &Key| namespace.is_none_or(|namespace| *key.namespace == *namespace);
        self.write().objects.extract_if(|key, entry| of_watch(key) && entry.list != list).map(|(_, entry)| entry.known).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn put(cache: &Cache, namespace: &str, name: &str, list: u32) -> Option<Arc<Known>> {
        let object = json!({"metadata": {"name": name, "namespace": namespace, "uid": Uuid::new_v4()}, "spec": {"mode": "update"}});
        let key = cache.key(namespace, name);
        cache.put(Arc::new(Known::of(key, serde_json::from_value(object).unwrap()).unwrap()), list)
    }

    #[test]
    fn what_a_list_did_not_bring_goes_and_other_namespaces_stay() {
        let cache = Cache::default();
        for (namespace, name, list) in [("a", "old", 1), ("a", "kept", 1), ("b", "other", 1), ("a", "kept", 2)] {
            put(&cache, namespace, name, list);
        }
        let gone: Vec<String> = cache.remove_all_before(2, Some("a")).iter().map(|known| known.key.to_string()).collect();
        assert_eq!(gone, ["a/old"]);
        assert!(cache.get(&Key::new("a", "kept")).is_some() && cache.get(&Key::new("b", "other")).is_some());
    }

    #[test]
    fn a_namesake_is_not_the_object_of_the_request() {
        let cache = Cache::default();
        put(&cache, "a", "x", 1);
        let known = cache.get(&Key::new("a", "x")).unwrap();
        assert!(cache.of_request(&known.request()).is_some());
        assert!(cache.of_request(&Request { uid: Uuid::new_v4(), ..known.request() }).is_none());
    }

    #[test]
    fn every_part_has_what_no_other_has_and_all_have_all() {
        let cache = Cache::default();
        for number in 0..100 {
            put(&cache, "a", &format!("x-{number}"), 1);
        }
        let parts: Vec<usize> = (0..10).map(|part| cache.under_way(part, 10).len()).collect();
        assert_eq!(parts.iter().sum::<usize>(), 100);
        assert!(parts.iter().all(|part| *part < 50), "{parts:?}");
    }
}

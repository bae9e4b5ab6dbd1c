//! What is read of a SyncExecution, and what is kept of it: a few hundred bytes. Whoever needs the whole object asks the API
//! server for it. No IO here.

use std::{
    borrow::Cow,
    fmt,
    hash::{DefaultHasher, Hasher},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::Resource;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    crd::{ConditionType, Reason, SyncExecution, SyncExecutionStatus, v1alpha1::SyncExecutionSpec},
    domain::{Phase, execution::Request},
};

/// Which object. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// `metadata.namespace`; one allocation for all objects in it.
    pub namespace: Arc<str>,
    /// `metadata.name`
    pub name: Arc<str>,
}

impl Key {
    /// The key of that object.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A SyncExecution as the watch brings it. What is never looked at is not even read: managed fields and annotations are most
/// of an object's size. One that cannot be read does not break the list that it is in.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Raw")]
pub struct Watched {
    metadata: ObjectMeta,
    spec: Result<SyncExecutionSpec, String>,
    status: Result<Option<SyncExecutionStatus>, String>,
}

#[derive(Deserialize)]
struct Raw {
    metadata: RawMeta,
    #[serde(default)]
    spec: Lenient<SyncExecutionSpec>,
    #[serde(default)]
    status: Option<Lenient<SyncExecutionStatus>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
}

/// A value, or why it is none.
struct Lenient<T>(Result<T, String>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(Err("it is missing".to_owned()))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(serde_json::from_value(value).map_err(|error| error.to_string())))
    }
}

impl From<Raw> for Watched {
    fn from(raw: Raw) -> Self {
        let Raw { metadata, spec, status } = raw;
        Self {
            metadata: ObjectMeta {
                name: metadata.name,
                namespace: metadata.namespace,
                uid: metadata.uid,
                resource_version: metadata.resource_version,
                generation: metadata.generation,
                creation_timestamp: metadata.creation_timestamp,
                deletion_timestamp: metadata.deletion_timestamp,
                ..ObjectMeta::default()
            },
            spec: spec.0.map_err(|error| format!("spec: {error}")),
            status: status.map(|status| status.0.map_err(|error| format!("status: {error}"))).transpose(),
        }
    }
}

impl Resource for Watched {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        SyncExecution::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        SyncExecution::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        SyncExecution::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        SyncExecution::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What is kept of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Where it is.
    pub key: Key,
    /// `metadata.uid`
    pub uid: Uuid,
    /// `metadata.generation`
    pub generation: Option<i64>,
    /// `metadata.creationTimestamp`
    pub created: DateTime<Utc>,
    /// Whether it is being deleted, and something keeps it.
    pub deleting: bool,
    /// `spec.ttlSecondsAfterFinished`
    pub ttl_seconds: Option<i64>,
    /// What it asks for, until that is recorded.
    pub spec: Option<Box<SyncExecutionSpec>>,
    /// What it shows.
    pub shown: Shown,
    /// Why nothing can be done about it.
    pub unreadable: Option<Box<str>>,
}

impl Known {
    /// Of an object as it came; `None` for one that never was on a server.
    #[must_use]
    pub fn of(key: Key, object: Watched) -> Option<Self> {
        let Watched { metadata, spec, status } = object;
        let uid = Uuid::parse_str(metadata.uid.as_deref()?).ok()?;
        let unreadable = spec.as_ref().err().or(status.as_ref().err()).map(|error| error.as_str().into());
        let shown = status.ok().flatten().as_ref().map(Shown::of).unwrap_or_default();
        let spec = spec.ok();
        Some(Self {
            key,
            uid,
            generation: metadata.generation,
            created: metadata.creation_timestamp.and_then(|time| DateTime::from_timestamp(time.0.as_second(), 0)).unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
            ttl_seconds: spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished),
            spec: spec.filter(|_| !shown.recorded).map(Box::new),
            shown,
            unreadable,
        })
    }

    /// Whether both are the same object, asking for the same: only what it shows may differ.
    #[must_use]
    pub fn asks_as(&self, other: &Self) -> bool {
        (self.uid, self.generation, self.deleting) == (other.uid, other.generation, other.deleting) && self.unreadable == other.unreadable
    }

    /// Whether this is the very object that asked, and not another one of its name.
    #[must_use]
    pub fn is_of(&self, request: &Request) -> bool {
        self.uid == request.uid
    }

    /// Its identity, as the record has it.
    #[must_use]
    pub fn request(&self) -> Request {
        Request { uid: self.uid, namespace: self.key.namespace.to_string(), name: self.key.name.to_string() }
    }

    /// Whether its execution can still change, as far as it shows.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.unreadable.is_none() && self.shown.trouble.is_none() && !self.shown.phase.is_some_and(Phase::is_final)
    }
}

/// What a status tells, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Tells it from every other status.
    pub digest: u64,
    /// `observedGeneration`
    pub generation: Option<i64>,
    /// `phase`
    pub phase: Option<Phase>,
    /// `revision`
    pub revision: Option<i64>,
    /// Whether there is an execution id: it was recorded once.
    pub recorded: bool,
    /// That id.
    pub execution_id: Option<i64>,
    /// Whether the message was published.
    pub published: bool,
    /// Whether it calls a person.
    pub stalled: bool,
    /// What is wrong with its record.
    pub trouble: Option<Trouble>,
}

impl Shown {
    /// Of that status.
    #[must_use]
    pub fn of(status: &SyncExecutionStatus) -> Self {
        let condition = |kind: ConditionType| status.conditions.iter().find(|condition| condition.type_ == kind.as_str());
        let recorded = condition(ConditionType::Recorded);
        Self {
            digest: digest(status),
            generation: status.observed_generation,
            phase: status.phase,
            revision: status.revision,
            recorded: status.execution_id.is_some(),
            execution_id: status.execution_id.as_deref().and_then(|id| id.parse().ok()),
            published: status.publish_time.is_some(),
            stalled: condition(ConditionType::Stalled).is_some(),
            trouble: recorded.and_then(|recorded| {
                [Trouble::Lost, Trouble::Behind].into_iter().find(|trouble| trouble.reason().as_str() == recorded.reason)
            }),
        }
    }
}

/// What can be wrong with the record of an object that shows one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is gone.
    Lost,
    /// It is older than what the object shows.
    Behind,
}

impl Trouble {
    /// The reason of the condition `Recorded`.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Lost => Reason::RecordLost,
            Self::Behind => Reason::RecordBehind,
        }
    }
}

/// A number that tells a status from others: equal statuses have equal ones, and different ones differ but for one case in
/// 2⁶⁴. Only ever compared within one process.
#[must_use]
pub fn digest(status: &SyncExecutionStatus) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&serde_json::to_vec(status).unwrap_or_default());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{controller::status, domain::execution::example::recorded};

    fn known(object: Value) -> Known {
        Known::of(Key::new("ns", "x"), serde_json::from_value(object).unwrap()).unwrap()
    }

    fn object(spec: Value, status: Value) -> Value {
        let fields = json!([{"manager": "m", "operation": "Apply", "fieldsV1": {"f:spec": {}}}]);
        let metadata = json!({"name": "x", "namespace": "ns", "uid": Uuid::nil(), "generation": 1, "managedFields": fields});
        json!({"apiVersion": "sync.pncp.io/v1alpha1", "kind": "SyncExecution", "metadata": metadata, "spec": spec, "status": status})
    }

    #[test]
    fn what_an_object_asks_for_is_kept_until_it_shows_that_it_is_recorded() {
        let new = known(object(json!({"mode": "update"}), json!({"observedGeneration": -1})));
        assert!(new.spec.is_some() && !new.shown.recorded && new.is_under_way());
        let shown = status::of(&recorded(), Some(1));
        let later = known(object(json!({"mode": "update"}), serde_json::to_value(&shown).unwrap()));
        assert!(later.spec.is_none());
        assert_eq!(later.shown, Shown::of(&shown), "read back it is the same");
        assert!(new.asks_as(&later));
    }

    #[test]
    fn one_that_cannot_be_read_says_why_and_breaks_nothing() {
        for (spec, status, why) in [
            (json!({"mode": "unheard-of"}), json!({}), "spec: "),
            (json!({"mode": "update"}), json!({"phase": "Unheard-of"}), "status: "),
            (json!(null), json!({}), "spec: "),
        ] {
            let known = known(object(spec, status));
            assert!(known.unreadable.as_ref().is_some_and(|error| error.starts_with(why)), "{known:?}");
            assert!(!known.is_under_way());
        }
    }

    #[test]
    fn trouble_with_the_record_is_seen() {
        let mut full: SyncExecution = serde_json::from_value(object(json!({"mode": "update"}), json!({}))).unwrap();
        full.status = Some(status::of(&recorded(), Some(1)));
        for (status, trouble) in [(status::record_lost(&full), Trouble::Lost), (status::record_behind(&full), Trouble::Behind)] {
            let shown = Shown::of(&status);
            assert_eq!((shown.trouble, shown.stalled, shown.recorded), (Some(trouble), true, true));
        }
    }

    #[test]
    fn an_object_is_kept_in_few_bytes() {
        assert!(size_of::<Known>() <= 224, "{} bytes", size_of::<Known>());
    }
}

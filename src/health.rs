//! What this process knows to be missing right now, for `/readyz`. Those who talk to a dependency say how it went;
//! nobody is asked anew for a probe.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Something that is needed to be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// RabbitMQ.
    Broker,
    /// The API server.
    Kubernetes,
    /// The watch on SyncExecutions.
    Watch,
}

impl Dependency {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Kubernetes => "kubernetes",
            Self::Watch => "watch on syncexecutions",
        }
    }
}

/// What is missing, with the reason.
#[derive(Debug, Default)]
pub struct Health(Mutex<BTreeMap<Dependency, String>>);

impl Health {
    /// Everything in `needed` is missing until it is said to work.
    #[must_use]
    pub fn expecting(needed: &[Dependency]) -> Self {
        Self(Mutex::new(needed.iter().map(|dependency| (*dependency, "not connected yet".to_owned())).collect()))
    }

    /// It works.
    pub fn works(&self, dependency: Dependency) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&dependency);
    }

    /// It does not, and why.
    pub fn fails(&self, dependency: Dependency, reason: &impl ToString) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(dependency, reason.to_string());
    }

    /// What is missing, one sentence each.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let missing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        missing.iter().map(|(dependency, reason)| format!("{}: {reason}", dependency.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_heard_of_is_missing_until_it_works() {
        let health = Health::expecting(&[Dependency::Broker]);
        assert_eq!(health.missing(), ["broker: not connected yet"]);
        health.works(Dependency::Broker);
        assert!(health.missing().is_empty());
        health.fails(Dependency::Kubernetes, &"refused");
        assert_eq!(health.missing(), ["kubernetes: refused"]);
    }
}

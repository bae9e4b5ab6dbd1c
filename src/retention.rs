//! Deleting old executions by policy: only ended ones, and only those whose SyncExecution is gone. An object that is left without
//! its row would show a lost record, and one that never showed its execution would be recorded and published a second time.
//! Decides neither when nor who: the leader does it from time to time, and a command by hand.

use std::{collections::HashSet, str::FromStr, time::Duration};

use chrono::TimeDelta;
use kube::{Api, Client, ResourceExt, api::ListParams};
use thiserror::Error;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    crd::SyncExecution,
    domain::Status,
    kubernetes::describe,
    store::{self, Ended, Store},
};

/// Rows of one statement.
const BATCH: i64 = 1000;
/// Rest between deletes, so that others get at the disk.
const REST: Duration = Duration::from_millis(100);
/// Objects of one call.
const PAGE: u32 = 500;
/// Deadline of one call.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time to keep, in days.
const DAYS_MAX: u32 = 36_500;

/// After how many days executions of a status are deleted; those of the others are kept for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy(Vec<(Status, u32)>);

/// Why a text is no policy.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` says no days: write days for all, like 90, or for each status, like success=90,error=365,cancelled=30")]
pub struct NoPolicy(String);

impl FromStr for Policy {
    type Err = NoPolicy;

    fn from_str(text: &str) -> Result<Self, NoPolicy> {
        let wrong = || NoPolicy(text.to_owned());
        let days = |text: &str| text.trim().parse().ok().filter(|days| (1..=DAYS_MAX).contains(days)).ok_or_else(wrong);
        let ended = Status::ALL.into_iter().filter(|status| status.is_final());
        if !text.contains('=') {
            let days = days(text)?;
            return Ok(Self(ended.map(|status| (status, days)).collect()));
        }
        let mut policy: Vec<(Status, u32)> = Vec::new();
        for part in text.split(',') {
            let (word, number) = part.split_once('=').ok_or_else(wrong)?;
            let status = ended.clone().find(|status| status.as_str() == word.trim()).ok_or_else(wrong)?;
            if policy.iter().any(|(known, _)| *known == status) {
                return Err(wrong());
            }
            policy.push((status, days(number)?));
        }
        Ok(Self(policy))
    }
}

/// Why not all of it was done; what was deleted is deleted.
#[derive(Debug, Error)]
pub enum Error {
    /// The record.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Which objects exist is not known.
    #[error("list SyncExecutions: {}", describe(.0))]
    List(#[source] kube::Error),
    /// No answer to that.
    #[error("list SyncExecutions: no answer within {} s", LIST_TIMEOUT.as_secs())]
    Silent,
    /// An object without a readable uid: it could be any row's.
    #[error("list SyncExecutions: {0} has no uid")]
    NoUid(String),
}

/// What became of the old executions of one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The status.
    pub status: Status,
    /// The policy.
    pub days: u32,
    /// Deleted, or to be deleted.
    pub deleted: u64,
    /// Kept since their SyncExecution exists.
    pub kept: u64,
}

/// Who deletes, and what.
#[derive(Clone)]
pub struct Retention {
    /// The record.
    pub store: Store,
    /// For asking which objects exist.
    pub client: Client,
    /// Whose executions, besides those that no object asked for; of all without.
    pub namespaces: Option<Vec<String>>,
    /// After how long.
    pub policy: Policy,
}

impl Retention {
    /// Goes through all old executions once; `may` is asked before each delete, and "no" ends it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn apply(&self, may: impl Fn() -> bool) -> Result<Vec<Outcome>, Error> {
        self.go_through(true, may).await
    }

    /// What [`Self::apply`] would do.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn rehearse(&self) -> Result<Vec<Outcome>, Error> {
        self.go_through(false, || true).await
    }

    async fn go_through(&self, delete: bool, may: impl Fn() -> bool) -> Result<Vec<Outcome>, Error> {
        // The database's clock, which stamped the rows: all of them are a day older than the list of objects, at least.
        let now = self.store.now().await?;
        let mut existing = None;
        let mut outcomes = Vec::new();
        for (status, days) in self.policy.0.iter().copied() {
            let mut outcome = Outcome { status, days, deleted: 0, kept: 0 };
            let before = now - TimeDelta::days(days.into());
            let mut after = None;
            loop {
                let batch = self.store.ended_before(status, before, after, BATCH).await?;
                let Some(last) = batch.last() else { break };
                after = Some(last.position);
                // Old rows first, objects then: whatever asked for one of these rows and still exists is in this list.
                if existing.is_none() {
                    existing = Some(self.existing().await?);
                }
                let exists = |uid: &Uuid| existing.as_ref().is_none_or(|existing| existing.contains(uid));
                let old: Vec<&Ended> = batch.iter().filter(|ended| ended.at < before && self.is_ours(ended)).collect();
                let gone: Vec<i64> =
                    old.iter().filter(|ended| !ended.request_uid.as_ref().is_some_and(exists)).map(|ended| ended.position.id).collect();
                outcome.kept += u64::try_from(old.len() - gone.len()).unwrap_or_default();
                if !delete {
                    outcome.deleted += u64::try_from(gone.len()).unwrap_or_default();
                } else if !gone.is_empty() {
                    if !may() {
                        outcomes.push(outcome);
                        return Ok(outcomes);
                    }
                    outcome.deleted += self.store.delete_ended(&gone).await?;
                    tokio::time::sleep(REST).await;
                }
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    fn is_ours(&self, ended: &Ended) -> bool {
        match (&self.namespaces, &ended.namespace) {
            (Some(ours), Some(namespace)) => ours.contains(namespace),
            _ => true,
        }
    }

    /// The uids of all SyncExecutions that exist. From the API server itself, not from a cache: a list without a resource
    /// version is as new as the database behind it.
    async fn existing(&self) -> Result<HashSet<Uuid>, Error> {
        let apis: Vec<Api<SyncExecution>> = match &self.namespaces {
            None => vec![Api::all(self.client.clone())],
            Some(namespaces) => namespaces.iter().map(|namespace| Api::namespaced(self.client.clone(), namespace)).collect(),
        };
        let mut existing = HashSet::new();
        for api in apis {
            let mut page = ListParams::default().limit(PAGE);
            loop {
                let objects = timeout(LIST_TIMEOUT, api.list_metadata(&page)).await.map_err(|_| Error::Silent)?.map_err(Error::List)?;
                for object in &objects.items {
                    let uid = object.uid().and_then(|uid| Uuid::parse_str(&uid).ok()).ok_or_else(|| Error::NoUid(object.name_any()))?;
                    existing.insert(uid);
                }
                match objects.metadata.continue_ {
                    Some(token) if !token.is_empty() => page = page.continue_token(&token),
                    _ => break,
                }
            }
        }
        Ok(existing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_for_every_end_and_never_for_what_runs() {
        let policy: Policy = "90".parse().unwrap();
        assert_eq!(policy.0, [(Status::Success, 90), (Status::Error, 90), (Status::Cancelled, 90)]);
    }

    #[test]
    fn each_status_can_have_its_own_number_and_the_others_stay() {
        let policy: Policy = "error=365, success=30".parse().unwrap();
        assert_eq!(policy.0, [(Status::Error, 365), (Status::Success, 30)]);
    }

    #[test]
    fn what_says_no_days_is_refused_with_an_example() {
        for text in
            ["", "0", "-1", "x", "36501", "running=3", "success", "success=0", "success=3,", "success=3,success=4", "success=3;error=4"]
        {
            let refused = text.parse::<Policy>().unwrap_err();
            assert!(refused.to_string().contains("success=90,error=365"), "{text}: {refused}");
        }
    }
}

//! What the API server itself counted: requests by verb. The word of a subject about its own writes is no evidence.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kube::Client;

/// Successful and failed writes so far, of the whole server.
#[derive(Clone, Debug, Default)]
pub struct Writes(BTreeMap<(String, String), f64>);

/// The difference of two countings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// Writes of SyncExecutions of any kind, creations included.
    pub objects: f64,
    /// Patches and updates of a SyncExecution or its status.
    pub changes: f64,
    /// Leases and Events.
    pub others: f64,
}

impl Writes {
    /// Reads the counters of the server.
    pub async fn now(admin: &Client) -> Result<Self> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let text = admin.request_text(request).await.context("the API server's metrics")?;
        let mut counts = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
            let Some((labels, value)) = line.rsplit_once("} ") else { continue };
            let label = |name: &str| {
                let rest = labels.split_once(&format!("{name}=\""))?.1;
                Some(rest.split_once('"')?.0.to_owned())
            };
            let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
            if ["POST", "PUT", "PATCH", "APPLY", "DELETE"].contains(&verb.as_str()) {
                *counts.entry((resource, verb)).or_default() += value.parse::<f64>().unwrap_or_default();
            }
        }
        Ok(Self(counts))
    }

    /// What was written since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Written {
        let mut written = Written::default();
        for ((resource, verb), now) in &self.0 {
            let count = now - before.0.get(&(resource.clone(), verb.clone())).copied().unwrap_or_default();
            match (resource.as_str(), verb.as_str()) {
                ("syncexecutions", "POST" | "DELETE") => written.objects += count,
                ("syncexecutions", _) => {
                    written.objects += count;
                    written.changes += count;
                }
                ("leases" | "events", _) => written.others += count,
                _ => {}
            }
        }
        written
    }
}

//! What the API server itself counted: requests by verb. The word of a subject about its own writes is no evidence.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kube::Client;

/// Writes so far, of the whole server, by resource, verb and whether they succeeded.
#[derive(Clone, Debug, Default)]
pub struct Writes(BTreeMap<(String, String, bool), f64>);

/// The difference of two countings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// Writes of SyncExecutions of any kind, creations and refused ones included.
    pub objects: f64,
    /// Those of them that were refused.
    pub refused: f64,
    /// Patches and updates of a SyncExecution or its status that were not refused.
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
            let (Some(verb), Some(resource), Some(code)) = (label("verb"), label("resource"), label("code")) else { continue };
            if ["POST", "PUT", "PATCH", "APPLY", "DELETE"].contains(&verb.as_str()) {
                *counts.entry((resource, verb, code.starts_with('2'))).or_default() += value.parse::<f64>().unwrap_or_default();
            }
        }
        Ok(Self(counts))
    }

    /// What was written since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Written {
        let mut written = Written::default();
        for (key, now) in &self.0 {
            let count = now - before.0.get(key).copied().unwrap_or_default();
            let (resource, verb, succeeded) = key;
            match resource.as_str() {
                "syncexecutions" => {
                    written.objects += count;
                    if !succeeded {
                        written.refused += count;
                    } else if verb != "POST" && verb != "DELETE" {
                        written.changes += count;
                    }
                }
                "leases" | "events" => written.others += count,
                _ => {}
            }
        }
        written
    }
}

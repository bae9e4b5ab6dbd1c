//! The load: SyncExecutions, created by the same code for whatever is measured.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    core::{ApiResource, GroupVersionKind, Object},
};
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// Creations under way at a time.
pub const IN_FLIGHT: usize = 32;

/// What is asked. Every object of every subject is this one, so all have the same size.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    mode: String,
    #[serde(default)]
    requested_by: String,
    #[serde(default)]
    reason: String,
}

/// The part of the status that is looked at.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// How far it got.
    #[serde(default)]
    pub phase: Option<String>,
}

/// A SyncExecution, as far as the load knows it.
pub type SyncExecution = Object<Spec, Status>;

/// The SyncExecutions of a namespace.
#[must_use]
pub fn objects(client: Client, namespace: &str) -> Api<SyncExecution> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("sync.pncp.io", "v1alpha1", "SyncExecution"), "syncexecutions");
    Api::namespaced_with(client, namespace, &resource)
}

/// An update that is asked for.
#[must_use]
pub fn object(name: &str) -> SyncExecution {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("sync.pncp.io", "v1alpha1", "SyncExecution"), "syncexecutions");
    let spec = Spec { mode: "update".into(), requested_by: "bench@example.com".into(), reason: "measuring how long this takes".into() };
    let mut object = Object::new(name, &resource, spec);
    object.metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    object
}

/// The names of a burst.
pub fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number:06}")).collect()
}

/// Creates them all, [`IN_FLIGHT`] at a time.
pub async fn create(objects: &Api<SyncExecution>, names: &[String]) -> Result<()> {
    stream::iter(names.iter().map(|name| create_one(objects, name))).buffer_unordered(IN_FLIGHT).try_collect::<Vec<_>>().await?;
    Ok(())
}

/// Creates one; its uid.
pub async fn create_one(objects: &Api<SyncExecution>, name: &str) -> Result<String> {
    let created = objects.create(&PostParams::default(), &object(name)).await.with_context(|| format!("create {name}"))?;
    created.metadata.uid.context("an object without uid")
}

/// Creates one after the other at a steady rate, however long each takes, until stopped. Answers when each was to be created.
pub fn stream(objects: Api<SyncExecution>, prefix: &'static str, a_second: u32) -> JoinHandle<()> {
    let objects = Arc::new(objects);
    tokio::spawn(async move {
        let begun = Instant::now();
        for number in 0_u32.. {
            sleep_until(begun + Duration::from_secs(number.into()) / a_second).await;
            let objects = Arc::clone(&objects);
            tokio::spawn(async move {
                if let Err(error) = create_one(&objects, &format!("{prefix}-{number:06}")).await {
                    eprintln!("bench: {error:#}");
                }
            });
        }
    })
}

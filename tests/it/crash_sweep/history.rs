//! What the sweep writes down while a run goes on, past the program: every version of every row by a trigger of its own, every
//! version of every object by a watch of its own, every message by its worker. Judges nothing.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use kube::{
    ResourceExt,
    runtime::watcher::{self, Event, watcher},
};
use sync_operator::crd::{SyncExecution, SyncExecutionStatus};
use tokio_util::task::AbortOnDropHandle;

use crate::common::world::World;

/// A table that gets a line for each version of a row.
const AUDIT: [&str; 3] = [
    "CREATE TABLE audit (number bigint GENERATED ALWAYS AS IDENTITY, id bigint, status text, revision bigint, records integer)",
    "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         INSERT INTO audit (id, status, revision, records) VALUES (NEW.id, NEW.status, NEW.revision, NEW.records_processed);
         RETURN NULL;
     END $$",
    "CREATE TRIGGER audit AFTER INSERT OR UPDATE ON sync_executions FOR EACH ROW EXECUTE FUNCTION audit()",
];

/// One version of an object.
pub struct Version {
    /// Whose.
    pub uid: String,
    /// How it is called.
    pub name: String,
    /// What it showed.
    pub status: SyncExecutionStatus,
}

/// Every version of every object, in their order.
#[derive(Clone, Default)]
pub struct Versions(Arc<Mutex<Vec<Version>>>);

impl Versions {
    /// Looks at what there is.
    pub fn read<T>(&self, look: impl FnOnce(&[Version]) -> T) -> T {
        look(&self.0.lock().unwrap())
    }
}

/// Begins to write down.
pub async fn begin(world: &World) -> (Versions, AbortOnDropHandle<()>) {
    for sql in AUDIT {
        world.sql(sql).await;
    }
    let versions = Versions::default();
    let (written, objects) = (versions.clone(), world.objects());
    let task = tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(objects, watcher::Config::default()));
        while let Some(event) = events.next().await {
            if let Ok(Event::Apply(object) | Event::InitApply(object)) = event {
                written.0.lock().unwrap().push(version(object));
            }
        }
    });
    (versions, AbortOnDropHandle::new(task))
}

fn version(object: SyncExecution) -> Version {
    Version { uid: object.uid().unwrap(), name: object.name_any(), status: object.status.unwrap_or_default() }
}

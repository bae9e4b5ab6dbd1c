//! SyncExecutions as tests make and watch them, and kubectl as people type it.

use std::process::{Output, Stdio};

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use sync_operator::crd::{SyncExecution, SyncExecutionStatus};

use super::{eventually, world::World};

/// Spec of an update.
pub fn update() -> Value {
    json!({"mode": "update"})
}

/// Spec of a backfill of 2025-07-10 from 12:00 to 18:00 in Cuiabá.
pub fn backfill() -> Value {
    json!({"mode": "backfill", "window": {"start": "2025-07-10T12:00:00-04:00", "end": "2025-07-10T18:00:00-04:00"}})
}

/// What a condition says: status and reason; `None` when it is not there.
pub fn condition<'a>(status: &'a SyncExecutionStatus, kind: &str) -> Option<(&'a str, &'a str)> {
    status.conditions.iter().find(|c| c.type_ == kind).map(|c| (c.status.as_str(), c.reason.as_str()))
}

impl World {
    /// The SyncExecutions of this world.
    pub fn objects(&self) -> Api<SyncExecution> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates one.
    pub async fn create(&self, name: &str, spec: Value) -> SyncExecution {
        let object = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        self.objects().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Deletes one and waits until it is gone.
    pub async fn delete(&self, name: &str) {
        self.objects().delete(name, &DeleteParams::default()).await.unwrap();
        eventually(&format!("{name} to be gone"), async || self.objects().get_opt(name).await.unwrap().is_none().then_some(())).await;
    }

    /// Waits until the status is as wanted.
    pub async fn status(&self, name: &str, what: &str, wanted: impl Fn(&SyncExecutionStatus) -> bool) -> SyncExecutionStatus {
        let mut last = None;
        let api = self.objects();
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        loop {
            // The server itself may be what the test takes away.
            if let Ok(Some(object)) = api.get_opt(name).await {
                let status = object.status.unwrap_or_default();
                if wanted(&status) {
                    return status;
                }
                last = Some(status);
            }
            assert!(tokio::time::Instant::now() < deadline, "{name} never got {what}; last: {last:#?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Waits for that phase.
    pub async fn phase(&self, name: &str, phase: &str) -> SyncExecutionStatus {
        self.status(name, phase, |status| status.phase.is_some_and(|is| is.as_str() == phase)).await
    }

    /// Waits until a condition has that status and reason.
    pub async fn condition(&self, name: &str, kind: &str, is: &str, reason: &str) -> SyncExecutionStatus {
        let what = format!("{kind}={is} {reason}");
        self.status(name, &what, |status| condition(status, kind) == Some((is, reason))).await
    }

    /// Runs kubectl in the world's namespace.
    pub fn kubectl(&self, arguments: &[&str], input: Option<&Value>) -> Output {
        let mut command = std::process::Command::new("kubectl");
        command.env("PATH", &self.path).env("KUBECONFIG", &self.kubeconfig).args(["-n", &self.name]).args(arguments);
        let Some(input) = input else { return command.stdin(Stdio::null()).output().unwrap() };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.to_string().as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs kubectl in the world's namespace; what it printed. Panics unless it succeeds.
    #[track_caller]
    pub fn kubectl_succeeds(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments, None);
        assert!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// One entry of a Secret becomes that.
    pub fn set_secret(&self, name: &str, key: &str, value: &str) {
        let patch = json!({"stringData": {key: value}});
        self.kubectl_succeeds(&["patch", "secret", name, "-p", &patch.to_string()]);
    }

    /// `kubectl apply` of a SyncExecution; what it said, and whether it was accepted.
    pub fn apply(&self, name: &str, spec: Value) -> (bool, String) {
        let object = json!({"apiVersion": "sync.pncp.io/v1alpha1", "kind": "SyncExecution", "metadata": {"name": name}, "spec": spec});
        let output = self.kubectl(&["apply", "-f", "-"], Some(&object));
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    /// `resourceVersion` of an object.
    pub async fn resource_version(&self, name: &str) -> String {
        self.objects().get(name).await.unwrap().resource_version().unwrap()
    }
}

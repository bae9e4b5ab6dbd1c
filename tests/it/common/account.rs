//! A service account with the rights that a test gives it, as an administrator gives them by RBAC.

use kube::config::{AuthInfo, Kubeconfig};
use serde_json::{Value, json};

use super::world::World;

/// Who may do what the controller needs, in the namespaces that are given to it and nowhere else.
pub struct Account<'a> {
    world: &'a World,
}

impl<'a> Account<'a> {
    /// With the right to a Lease in the world's namespace.
    pub fn new(world: &'a World) -> Self {
        let account = Self { world };
        account.apply(&world.name, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "controller"}}));
        let leases = json!([{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]}]);
        account.grant(&world.name, "leases", leases);
        account
    }

    /// All that the controller needs there.
    pub fn may_serve(&self, namespace: &str) {
        let status = json!({"apiGroups": ["sync.pncp.io"], "resources": ["syncexecutions/status"], "verbs": ["patch"]});
        self.grant(namespace, "executions", json!([objects(), status]));
    }

    /// The same without the right to write a status.
    pub fn may_not_write_statuses(&self, namespace: &str) {
        self.grant(namespace, "executions", json!([objects()]));
    }

    fn grant(&self, namespace: &str, name: &str, rules: Value) {
        let (group, metadata) = ("rbac.authorization.k8s.io", json!({"name": name}));
        let version = format!("{group}/v1");
        self.apply(namespace, json!({"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules}));
        let subjects = json!([{"kind": "ServiceAccount", "name": "controller", "namespace": self.world.name}]);
        let role = json!({"apiGroup": group, "kind": "Role", "name": name});
        self.apply(
            namespace,
            json!({"apiVersion": version, "kind": "RoleBinding", "metadata": metadata, "subjects": subjects, "roleRef": role}),
        );
    }

    fn apply(&self, namespace: &str, mut object: Value) {
        object["metadata"]["namespace"] = namespace.into();
        // The last of two flags counts.
        let done = self.world.kubectl(&["-n", namespace, "apply", "-f", "-"], Some(&object));
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Whether it may, as the API server sees it now.
    pub fn may(&self, verb: &str, resource: &str) -> bool {
        let user = format!("--as=system:serviceaccount:{}:controller", self.world.name);
        self.world.kubectl(&["auth", "can-i", verb, resource, &user], None).status.success()
    }

    /// A kubeconfig with its token.
    pub fn kubeconfig(&self) -> String {
        let token = self.world.kubectl_succeeds(&["create", "token", "controller"]);
        let mut config = Kubeconfig::read_from(&self.world.kubeconfig).unwrap();
        config.auth_infos[0].auth_info = Some(AuthInfo { token: Some(token.trim().to_owned().into()), ..AuthInfo::default() });
        let path = format!("{}/{}.account", env!("CARGO_TARGET_TMPDIR"), self.world.name);
        std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
        path
    }
}

fn objects() -> Value {
    json!({"apiGroups": ["sync.pncp.io"], "resources": ["syncexecutions"], "verbs": ["get", "list", "watch", "delete"]})
}

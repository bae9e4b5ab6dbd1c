//! The cluster as clients see it: an ordinary service account for all that is measured, an administrator for what surrounds it.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Namespace, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

/// Namespace and name of the service account.
const ACCOUNT: &str = "bench";

/// A client by this kubeconfig; like the product's, without retries hidden in a call.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).context("kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(Client::try_from(config)?)
}

/// Creates the namespace unless it is there.
pub async fn namespace(admin: &Client, name: &str) -> Result<()> {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    match Api::<Namespace>::all(admin.clone()).create(&PostParams::default(), &namespace).await {
        Err(kube::Error::Api(refusal)) if refusal.is_already_exists() => Ok(()),
        other => other.map(drop).context("create a namespace"),
    }
}

/// An ordinary service account with the rights that any of the subjects needs, and a kubeconfig of it in `file`. Nobody that is
/// measured is `system:masters`: the API server exempts that from its priorities and queues.
pub async fn ordinary_account(admin: &Client, admin_kubeconfig: &Path, file: &Path) -> Result<()> {
    namespace(admin, ACCOUNT).await?;
    let apply = PatchParams::apply("bench").force();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}});
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), ACCOUNT);
    accounts.patch(ACCOUNT, &apply, &Patch::Apply(account)).await?;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": ACCOUNT},
        "rules": [
            {"apiGroups": ["sync.pncp.io"], "resources": ["syncexecutions", "syncexecutions/status"],
             "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "list", "watch", "create", "update", "patch"]},
            {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
            // What kopf looks at.
            {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["get", "list", "watch"]},
        ],
    });
    Api::<ClusterRole>::all(admin.clone()).patch(ACCOUNT, &apply, &Patch::Apply(role)).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": ACCOUNT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": ACCOUNT}],
    });
    Api::<ClusterRoleBinding>::all(admin.clone()).patch(ACCOUNT, &apply, &Patch::Apply(binding)).await?;
    let wanted = TokenRequest {
        spec: Some(TokenRequestSpec { expiration_seconds: Some(86_400), ..TokenRequestSpec::default() }),
        ..TokenRequest::default()
    };
    let token = accounts.create_token_request(ACCOUNT, &PostParams::default(), &wanted).await?.status.context("no token")?.token;

    let cluster = Kubeconfig::read_from(admin_kubeconfig)?.clusters.remove(0).cluster.context("no cluster")?;
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {
            "server": cluster.server,
            "certificate-authority-data": cluster.certificate_authority_data
                .or_else(|| cluster.certificate_authority.and_then(|file| fs::read(file).ok()).map(|pem| STANDARD.encode(pem))),
        }}],
        "users": [{"name": "bench", "user": {"token": token}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench", "namespace": ACCOUNT}}],
    });
    fs::write(file, serde_json::to_vec_pretty(&kubeconfig)?).context("write the kubeconfig")
}

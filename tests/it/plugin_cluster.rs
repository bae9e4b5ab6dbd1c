//! Which cluster `kubectl sync` talks to, as whom, and what it says when that does not work.

use std::path::{Path, PathBuf};

use kube::config::Kubeconfig;

use crate::common::{
    command::Ended,
    objects::update,
    plugin::{ended, kubectl},
    proxy::Mode,
    world::World,
};

async fn sync(world: &World, kubeconfig: &Path, arguments: &[&str]) -> Ended {
    ended(kubectl(&world.path, kubeconfig, &[&["sync"], arguments].concat()).spawn().unwrap()).await
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_used_is_wrong_usage() {
    let world = World::new("plugin-config").await;
    let absent = Path::new("/nonexistent/config");
    sync(&world, absent, &["status"]).await.failed(2, &["no kubeconfig can be read", "set KUBECONFIG, or name a file with --kubeconfig"]);
    world.sync(&["status", "--kubeconfig", "/nonexistent/config"]).await.failed(2, &["no kubeconfig can be read", "/nonexistent/config"]);
    world.sync(&["status", "--context", "elsewhere"]).await.failed(2, &["elsewhere", "kubectl config get-contexts"]);
    world.sync(&["status", "--as-group", "g"]).await.failed(2, &["--as-group needs --as"]);
    world.sync(&["status", "--certificate-authority", "/nonexistent"]).await.failed(2, &["--certificate-authority: /nonexistent"]);
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_told_with_its_address() {
    let world = World::new("plugin-away").await;
    let nobody = ["history", "--server", "https://127.0.0.1:9"];
    world.sync(&nobody).await.failed(1, &["https://127.0.0.1:9 cannot be reached", "Connection refused", "check --server, --context"]);
    let (proxy, kubeconfig) = world.kubeconfig_by_proxy().await;
    proxy.set(Mode::SwallowAll);
    let silent = sync(&world, &kubeconfig, &["history", "--request-timeout", "1s"]).await;
    silent.failed(1, &["no answer from https://127.0.0.1:", "within 1s", "--request-timeout gives it more time"]);
}

#[tokio::test]
async fn a_token_is_used_instead_of_what_the_kubeconfig_has() {
    let world = World::new("plugin-token").await;
    world.create("now", update()).await;
    world.sync(&["history", "--token", "wrong"]).await.failed(1, &["does not accept your credentials, so log in again"]);
    // All that is needed, by flags.
    let kubeconfig = Kubeconfig::read_from(&world.kubeconfig).unwrap();
    let cluster = kubeconfig.clusters[0].cluster.clone().unwrap();
    let user = serde_json::to_value(&kubeconfig.auth_infos[0]).unwrap();
    let authority = cluster.certificate_authority.clone().unwrap_or_else(|| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.crt", world.name));
        let data = cluster.certificate_authority_data.clone().unwrap();
        let decoded = std::process::Command::new("bash").args(["-c", "base64 -d <<<\"$1\" >\"$2\"", "-", &data]).arg(&path).status();
        assert!(decoded.unwrap().success());
        path.display().to_string()
    });
    let (server, token) = (cluster.server.unwrap(), user["user"]["token"].as_str().unwrap().to_owned());
    let flags = ["history", "-o", "name", "-n", &world.name, "-s", &server, "--token", &token];
    let trusted = sync(&world, Path::new("/nonexistent"), &[&flags[..], &["--certificate-authority", &authority]].concat()).await;
    assert_eq!(trusted.succeeded(), "syncexecution.sync.pncp.io/now\n");
    sync(&world, Path::new("/nonexistent"), &flags).await.failed(1, &["cannot be reached", "certificate"]);
    let careless = sync(&world, Path::new("/nonexistent"), &[&flags[..], &["--insecure-skip-tls-verify"]].concat()).await;
    assert_eq!(careless.succeeded(), "syncexecution.sync.pncp.io/now\n");
}

#[tokio::test]
async fn who_asks_is_who_the_server_says_it_is() {
    let world = World::new("plugin-who").await;
    let user = world.user(&["create", "get", "list", "watch"]);
    world.sync(&["force", "update", "--name", "now", &user]).await.succeeded();
    assert_eq!(world.objects().get("now").await.unwrap().spec.requested_by, Some(user.replace("--as=", "")));
    let nowhere = sync(&world, &world.kubeconfig, &["force", "update", "-n", "nowhere-at-all"]).await;
    nowhere.failed(1, &["namespaces \"nowhere-at-all\" not found: create it, or choose another with --namespace"]);
}

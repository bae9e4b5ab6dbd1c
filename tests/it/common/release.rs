//! A release of the chart in a world of its own: a private control plane with the built-in controllers, a namespace that enforces
//! the strictest pod security, and a [`Node`] that runs what comes of it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::json;

use super::{
    helm,
    node::{Images, Node, program},
    private::Private,
    world::World,
};

/// The reference of this checkout's image; only the [`Node`] reads it.
pub const IMAGE: (&str, &str) = ("sync-operator", "this");

/// The place for a release.
pub struct Release {
    /// Namespace, database, vhost.
    pub world: World,
    /// Runs its Pods.
    pub node: Node,
    _cluster: Private,
}

impl Release {
    /// Nothing is installed yet, but the Secrets are there that the README names. `images` are those of other releases.
    pub async fn place(test: &str, images: Images) -> Self {
        let cluster = Private::start("controller-manager");
        let world = World::with_empty_database_on(&cluster, test).await;
        let restricted = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
        world.kubectl_succeeds(&["patch", "namespace", &world.name, "-p", &restricted.to_string()]);
        for (name, entries) in [
            ("sync-operator-database", vec![format!("--from-literal=url={}", world.database_url)]),
            ("sync-operator-rabbitmq", vec![format!("--from-literal=url={}", world.rabbitmq_url)]),
            ("sync-operator-admin", vec!["--from-literal=username=admin".to_owned(), "--from-literal=password=s3cret".to_owned()]),
        ] {
            let mut arguments = vec!["create", "secret", "generic", name];
            arguments.extend(entries.iter().map(String::as_str));
            world.kubectl_succeeds(&arguments);
        }
        let (repository, tag) = IMAGE;
        let images = images.into_iter().chain([(format!("{repository}:{tag}"), program())]).collect();
        let node = Node::start(&world.client, &world.server(), &world.name, images);
        Self { world, node, _cluster: cluster }
    }

    /// The values that the README names, and the image of this checkout.
    pub fn values() -> Vec<String> {
        let (repository, tag) = IMAGE;
        [
            "database.existingSecret.name=sync-operator-database".to_owned(),
            "rabbitmq.existingSecret.name=sync-operator-rabbitmq".to_owned(),
            "api.auth.existingSecret.name=sync-operator-admin".to_owned(),
            format!("image.repository={repository}"),
            format!("image.tag={tag}"),
        ]
        .into()
    }

    /// Runs `helm ARGUMENTS…` in the namespace, off the test's thread so that the node goes on; what it printed, both ways.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = tokio::process::Command::new(helm::program());
        command.args(["--namespace", &self.world.name, "--kubeconfig"]).arg(&self.world.kubeconfig).args(arguments);
        let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("helm").join(&self.world.name);
        command.env("HELM_CACHE_HOME", &home).env("HELM_CONFIG_HOME", &home).env("HELM_DATA_HOME", &home);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// `helm VERB sync-operator CHART` with values, until all that it made is ready.
    pub async fn deploy(&self, verb: &str, chart: &Path, values: &[String]) -> Result<String, String> {
        let mut arguments = vec![verb, "sync-operator", chart.to_str().unwrap(), "--wait", "--timeout", "90s"];
        for value in values {
            arguments.extend(["--set", value]);
        }
        self.helm(&arguments).await
    }
}

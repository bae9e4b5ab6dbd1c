//! `kubectl sync version`: of this client, of the API server, and of the API that it serves for SyncExecutions.

use clap::Args;
use kube::Resource;
use serde_json::{Value, json};
use sync_operator::crd::SyncExecution;

use crate::{
    cluster::{Cluster, ClusterFlags},
    failure::Failure,
    output::{Format, document, print},
};

/// Of this program.
pub const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// `kubectl sync version`.
#[derive(Args, Debug)]
pub struct VersionArgs {
    /// Only of this client; asks no server.
    #[arg(long)]
    client: bool,
    /// How to print.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<VersionFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum VersionFormat {
    Json,
    Yaml,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(args: &VersionArgs, flags: &ClusterFlags) -> Result<(), Failure> {
    let api = SyncExecution::api_version(&());
    let mut versions = json!({"client": {"version": CLIENT, "api": api}});
    if !args.client {
        let cluster = flags.connect().await?;
        versions["server"] = server(&cluster).await?;
    }
    match args.output {
        Some(VersionFormat::Json) => print(&document(&versions, Format::Json)?),
        Some(VersionFormat::Yaml) => print(&document(&versions, Format::Yaml)?),
        None => print(&text(&versions)),
    }
}

/// What the server says of itself.
///
/// # Errors
/// [`Failure`].
pub async fn server(cluster: &Cluster) -> Result<Value, Failure> {
    let version = cluster.call("read the server's version", cluster.client.apiserver_version()).await?;
    let groups = cluster.call("read which APIs the server has", cluster.client.list_api_groups()).await?;
    let group = groups.groups.into_iter().find(|group| group.name == SyncExecution::group(&()));
    let served: Vec<String> = group.map(|group| group.versions.into_iter().map(|v| v.group_version).collect()).unwrap_or_default();
    Ok(json!({"version": version.git_version, "apis": served}))
}

fn text(versions: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![format!("Client:  v{}, speaks {}", CLIENT, word(&versions["client"]["api"]))];
    if let Some(server) = versions.get("server") {
        let apis: Vec<String> = server["apis"].as_array().into_iter().flatten().map(word).collect();
        let serves = if apis.is_empty() {
            "does not know SyncExecutions: install the CRD".to_owned()
        } else if apis.contains(&word(&versions["client"]["api"])) {
            format!("serves {}", apis.join(", "))
        } else {
            format!("serves {}, not what this client speaks: use the client of the operator's release", apis.join(", "))
        };
        lines.push(format!("Server:  {}, {serves}", word(&server["version"])));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(apis: &Value) -> String {
        text(&json!({"client": {"api": "g/v1"}, "server": {"version": "v1.37.2", "apis": apis}}))
    }

    #[test]
    fn a_server_that_does_not_fit_is_told() {
        assert!(told(&json!(["g/v1"])).ends_with("Server:  v1.37.2, serves g/v1"));
        assert!(told(&json!([])).contains("install the CRD"));
        assert!(told(&json!(["g/v2"])).contains("not what this client speaks"));
    }
}

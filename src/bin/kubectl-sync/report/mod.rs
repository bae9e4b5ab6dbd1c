//! `kubectl sync report`: what support needs, in one file. Reads what the user may read and notes the rest with the reason.
//! Never reads Secrets or ConfigMaps.

mod bundle;
pub mod redact;

use std::path::PathBuf;

use clap::Args;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        coordination::v1::Lease,
        core::v1::{Event, Pod},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, CustomResourceExt, ResourceExt,
    api::{ListParams, LogParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sync_operator::{clock, crd::SyncExecution};

use crate::{
    cluster::Cluster,
    failure::Failure,
    history::Newest,
    output::{list, print},
    report::bundle::Bundle,
    status::OperatorArgs,
    version,
};

/// Most objects of a kind.
const OBJECTS: u32 = 500;
/// Most lines of a log, and most bytes.
const LOG_LINES: i64 = 2000;
const LOG_BYTES: i64 = 2_000_000;

/// `kubectl sync report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// File to write; sync-report-TIME.tar.gz if not given.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output_file: Option<PathBuf>,
    /// How many SyncExecutions at most, the newest first.
    #[arg(long, value_name = "NUMBER", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=5000))]
    limit: u16,
    /// SyncExecutions of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Runs it.
///
/// # Errors
/// That the file cannot be written. What cannot be read is no error.
pub async fn run(args: &ReportArgs, cluster: &Cluster) -> Result<(), Failure> {
    let now = clock::now();
    let folder = format!("sync-report-{}", now.format("%Y%m%dT%H%M%SZ"));
    let file = args.output_file.clone().unwrap_or_else(|| format!("{folder}.tar.gz").into());
    let mut bundle = Bundle::default();
    versions(&mut bundle, cluster).await;
    executions(&mut bundle, args, cluster).await;
    operator(&mut bundle, &args.operator, cluster).await;
    let (read, missing) = bundle.counts();
    let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
    bundle.write(&file, &folder, seconds).map_err(|error| Failure::NotWell(format!("{} cannot be written: {error}", file.display())))?;
    print(&format!("{}: {read} files, {missing} could not be read (see not-read.txt in it)", file.display()))?;
    eprintln!("Passwords, tokens and values of variables are taken out. Look through it before you give it away.");
    Ok(())
}

async fn versions(bundle: &mut Bundle, cluster: &Cluster) {
    let mut versions = json!({"client": version::CLIENT, "address": cluster.server});
    match version::server(cluster).await {
        Ok(server) => versions["server"] = server,
        Err(failure) => bundle.missing("versions.yaml (server)", &failure.to_string()),
    }
    bundle.object("versions.yaml", versions);
    let crds: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let name = SyncExecution::crd_name();
    keep(bundle, "crd.yaml", cluster.call("read the CRD", crds.get(name)).await);
}

async fn executions(bundle: &mut Bundle, args: &ReportArgs, cluster: &Cluster) {
    let mut newest = Newest::new(args.limit.into());
    match cluster.each_page(args.all_namespaces, "", |page| newest.take(page)).await {
        Ok(()) => bundle.object("syncexecutions.yaml", list(&newest.into_sorted())),
        Err(failure) => bundle.missing("syncexecutions.yaml", &failure.to_string()),
    }
    let events: Api<Event> =
        if args.all_namespaces { Api::all(cluster.client.clone()) } else { Api::namespaced(cluster.client.clone(), &cluster.namespace) };
    let of = ListParams::default().fields("involvedObject.kind=SyncExecution").limit(OBJECTS);
    keep_all(bundle, "syncexecution-events.yaml", cluster.call("read events of SyncExecutions", events.list(&of)).await);
}

async fn operator(bundle: &mut Bundle, args: &OperatorArgs, cluster: &Cluster) {
    let namespace = &args.operator_namespace;
    let some = ListParams::default().limit(OBJECTS);
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), namespace);
    keep(bundle, "operator/lease.yaml", cluster.call("read the operator's Lease", leases.get(&args.lease_name)).await);
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), namespace);
    keep_all(bundle, "operator/deployments.yaml", cluster.call("list Deployments", deployments.list(&some)).await);
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), namespace);
    keep_all(bundle, "operator/events.yaml", cluster.call("list Events", events.list(&some)).await);
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let listed = cluster.call("list Pods", pods.list(&some)).await;
    for pod in listed.iter().flat_map(|list| &list.items) {
        logs(bundle, pod, &pods, cluster).await;
    }
    keep_all(bundle, "operator/pods.yaml", listed);
}

/// The logs of all containers, and of those that were restarted also what they logged before.
async fn logs(bundle: &mut Bundle, pod: &Pod, pods: &Api<Pod>, cluster: &Cluster) {
    let name = pod.name_any();
    let status = pod.status.clone().unwrap_or_default();
    let statuses = || status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let spec = pod.spec.clone().unwrap_or_default();
    for container in spec.init_containers.unwrap_or_default().into_iter().chain(spec.containers).map(|container| container.name) {
        let restarted = statuses().any(|status| status.name == container && status.restart_count > 0);
        for previous in [false, true].into_iter().filter(|previous| !previous || restarted) {
            let path = format!("operator/logs/{name}/{container}{}.log", if previous { ".previous" } else { "" });
            let params = LogParams {
                container: Some(container.clone()),
                previous,
                tail_lines: Some(LOG_LINES),
                limit_bytes: Some(LOG_BYTES),
                timestamps: true,
                ..LogParams::default()
            };
            match cluster.call(&format!("read the log of {name}/{container}"), pods.logs(&name, &params)).await {
                Ok(text) => bundle.text(&path, &text),
                Err(failure) => bundle.missing(&path, &failure.to_string()),
            }
        }
    }
}

fn keep(bundle: &mut Bundle, path: &str, read: Result<impl Serialize, Failure>) {
    match read.map(serde_json::to_value) {
        Ok(Ok(value)) => bundle.object(path, value),
        Ok(Err(error)) => bundle.missing(path, &error.to_string()),
        Err(failure) => bundle.missing(path, &failure.to_string()),
    }
}

fn keep_all<T>(bundle: &mut Bundle, path: &str, read: Result<kube::core::ObjectList<T>, Failure>)
where
    T: Serialize + DeserializeOwned + Clone,
{
    let items = read.map(|list| list.items.into_iter().map(serde_json::to_value).collect::<Result<Vec<Value>, _>>());
    match items {
        Ok(Ok(items)) => bundle.object(path, json!({"apiVersion": "v1", "kind": "List", "items": items})),
        Ok(Err(error)) => bundle.missing(path, &error.to_string()),
        Err(failure) => bundle.missing(path, &failure.to_string()),
    }
}

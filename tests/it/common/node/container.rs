//! What a Pod says about its containers and volumes, read as a kubelet reads it. Pure: no cluster, no processes, no files.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, EnvVarSource, HTTPGetAction, Pod, PodSecurityContext, Probe, SecurityContext},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt;

/// Data of the ConfigMaps and Secrets that the Pod names, by kind and name.
pub type Data = BTreeMap<(Kind, String), BTreeMap<String, Vec<u8>>>;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// The image's entry point, as the Containerfile has it.
pub const ENTRYPOINT: &str = "/sync-operator";

/// The command line: the image's entry point unless the container has a command of its own.
pub fn command(container: &Container) -> Vec<String> {
    let command = container.command.clone().filter(|command| !command.is_empty()).unwrap_or_else(|| vec![ENTRYPOINT.to_owned()]);
    command.into_iter().chain(container.args.clone().unwrap_or_default()).collect()
}

/// The environment. `address` is the Pod's own: a Pod has a network of its own, a process here has not, so the program is told to
/// listen there, on the ports on which it would listen by itself, whatever the Pod says about ports.
pub fn environment(pod: &Pod, container: &Container, data: &Data, address: &str) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([
        ("HOSTNAME".to_owned(), pod.name_any()),
        ("API_LISTEN".to_owned(), format!("{address}:8080")),
        ("METRICS_LISTEN".to_owned(), format!("{address}:8081")),
    ]);
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), None) => value.clone(),
            (None, Some(source)) => from_source(pod, source, data, address),
            (None, None) => String::new(),
            (Some(_), Some(_)) => panic!("{}: value and valueFrom", variable.name),
        };
        variables.insert(variable.name.clone(), value.replace("0.0.0.0", address));
    }
    assert!(container.env_from.is_none(), "{}: envFrom is not read here", container.name);
    variables
}

fn from_source(pod: &Pod, source: &EnvVarSource, data: &Data, address: &str) -> String {
    let of = |kind, name: &str, key: &str| {
        let entries = data.get(&(kind, name.to_owned())).unwrap_or_else(|| panic!("{kind:?} {name} is not there"));
        String::from_utf8(entries.get(key).unwrap_or_else(|| panic!("{kind:?} {name} has no key {key}")).clone()).unwrap()
    };
    if let Some(field) = &source.field_ref {
        return self::field(pod, &field.field_path, address);
    }
    if let Some(key) = &source.secret_key_ref {
        return of(Kind::Secret, &key.name, &key.key);
    }
    let key = source.config_map_key_ref.as_ref().expect("a source that is read here");
    of(Kind::ConfigMap, &key.name, &key.key)
}

/// A field of the downward API.
pub fn field(pod: &Pod, path: &str, address: &str) -> String {
    match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap(),
        "metadata.uid" => pod.uid().unwrap(),
        "spec.nodeName" => pod.spec.as_ref().unwrap().node_name.clone().unwrap(),
        "status.podIP" => address.to_owned(),
        other => panic!("the field {other} is not read here"),
    }
}

/// Users and groups of a container.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub user: i64,
    /// Group id.
    pub group: i64,
    /// Supplementary group, which owns the files of volumes.
    pub volumes: Option<i64>,
}

/// As whom a container runs; the image's user where the Pod says nothing.
pub fn identity(pod: Option<&PodSecurityContext>, container: Option<&SecurityContext>) -> Identity {
    let image = 65532;
    Identity {
        user: container.and_then(|own| own.run_as_user).or(pod.and_then(|pod| pod.run_as_user)).unwrap_or(image),
        group: container.and_then(|own| own.run_as_group).or(pod.and_then(|pod| pod.run_as_group)).unwrap_or(image),
        volumes: pod.and_then(|pod| pod.fs_group),
    }
}

/// The URL that a probe asks.
pub fn probe_url(container: &Container, probe: &Probe, address: &str) -> String {
    let Some(HTTPGetAction { path, port, .. }) = &probe.http_get else { panic!("{}: only httpGet is read here", container.name) };
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            named.unwrap_or_else(|| panic!("{}: no port is named {name}", container.name)).container_port
        }
    };
    format!("http://{address}:{number}{}", path.as_deref().unwrap_or("/"))
}

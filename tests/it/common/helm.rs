//! The chart as `helm template` renders it, by the real helm, and looked at as parsed YAML. No cluster is asked.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde::Deserialize;
use serde_json::Value;

/// The chart of this checkout.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/sync-operator");

/// Where helm is: `hack/helm` builds it if need be.
pub fn program() -> &'static str {
    static HELM: OnceLock<String> = OnceLock::new();
    HELM.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/helm");
        let output = Command::new(script).arg("path").stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

/// The kinds of other projects that the chart can make.
pub const FOREIGN: [&str; 4] = [
    "monitoring.coreos.com/v1/ServiceMonitor",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
    "gateway.networking.k8s.io/v1/HTTPRoute",
];

/// What came of a chart.
pub struct Rendered(pub Vec<Value>);

/// Renders release `sync-operator` in namespace `sync-operator` with exactly these values, given as YAML, for a cluster that also
/// knows `kinds`; or what helm complains of.
pub fn render_only(values: &str, kinds: &[&str]) -> Result<Rendered, String> {
    let mut command = Command::new(program());
    command.args(["template", "sync-operator", CHART, "--namespace", "sync-operator", "--values", "-"]);
    for kind in kinds {
        command.args(["--api-versions", kind]);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(values.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    Ok(Rendered(documents(&String::from_utf8(output.stdout).unwrap())))
}

/// The same on top of what has to be set: Secrets for the database, the broker and the API.
pub fn render(values: &str) -> Rendered {
    let needed = documents(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/values.yaml"))).remove(0);
    let given = documents(values).into_iter().next().unwrap_or_else(|| Value::Object(serde_json::Map::default()));
    let mut all = needed;
    merge(&mut all, given);
    render_only(&all.to_string(), &FOREIGN).unwrap_or_else(|complaint| panic!("{values}: {complaint}"))
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, from) => *into = from,
    }
}

/// The documents of a YAML text.
pub fn documents(yaml: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(yaml).map(|document| Value::deserialize(document).unwrap());
    documents.filter(|document| !document.is_null()).collect()
}

impl Rendered {
    /// All objects of a kind.
    pub fn all<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        let kind = kind.to_owned();
        self.0.iter().filter(move |object| object["kind"] == kind.as_str())
    }

    /// The object of that kind and name.
    pub fn get(&self, kind: &str, name: &str) -> &Value {
        let found = self.all(kind).find(|object| object["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name} among {:?}", self.names()))
    }

    /// `KIND/NAME` of each, or `KIND/NAMESPACE/NAME` where it is not the release's, sorted.
    pub fn names(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut names: Vec<String> = self
            .0
            .iter()
            .map(|object| {
                let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
                match object["metadata"]["namespace"].as_str() {
                    Some(namespace) if namespace != "sync-operator" => format!("{kind}/{namespace}/{name}"),
                    _ => format!("{kind}/{name}"),
                }
            })
            .collect();
        names.sort();
        names
    }

    /// The spec of the Pods.
    pub fn pod(&self) -> &Value {
        &self.all("Deployment").next().unwrap()["spec"]["template"]["spec"]
    }

    /// All containers, those of the start too.
    pub fn containers(&self) -> Vec<&Value> {
        let list = |name: &str| self.pod()[name].as_array().map(Vec::as_slice).unwrap_or_default();
        list("initContainers").iter().chain(list("containers")).collect()
    }

    /// One of them.
    pub fn container(&self, name: &str) -> &Value {
        self.containers().into_iter().find(|container| container["name"] == name).unwrap_or_else(|| panic!("no container {name}"))
    }

    /// The value of a variable of a container; null if it has none of that name.
    pub fn variable(&self, container: &str, name: &str) -> Value {
        let variables = self.container(container)["env"].as_array().unwrap().iter();
        variables.into_iter().find(|variable| variable["name"] == name).map(|variable| variable["value"].clone()).unwrap_or_default()
    }

    /// The volume of that name; null if there is none.
    pub fn volume(&self, name: &str) -> &Value {
        let volumes = self.pod()["volumes"].as_array().unwrap();
        volumes.iter().find(|volume| volume["name"] == name).unwrap_or(&Value::Null)
    }

    /// Names of the volumes that a container mounts.
    pub fn mounts(&self, container: &str) -> Vec<&str> {
        self.container(container)["volumeMounts"].as_array().unwrap().iter().map(|mount| mount["name"].as_str().unwrap()).collect()
    }
}

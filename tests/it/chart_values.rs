//! How the chart answers to wrong values: all mistakes at once, each with what to set. And that what it hands to others (alerts,
//! dashboard, plain manifests) agrees with the program.

use std::collections::BTreeSet;

use serde_json::Value;
use sync_operator::metrics::{HttpLabels, Metrics, Outcome, ReportLabels, Role, StatusLabel};

use crate::common::{
    helm::{CHART, FOREIGN, documents, render, render_only},
    stack::stack,
};

#[track_caller]
fn refused(values: &str, says: &[&str]) {
    let Err(complaint) = render_only(values, &FOREIGN) else { panic!("taken: {values}") };
    for text in says {
        assert!(complaint.contains(text), "`{text}` is not in {complaint}");
    }
}

#[test]
fn nothing_set_is_told_with_all_that_has_to_be_set() {
    refused(
        "{}",
        &[
            "no database: set database.existingSecret.name",
            "no broker: set rabbitmq.existingSecret.name",
            "nobody may use the API: set api.auth.existingSecret.name",
        ],
    );
}

#[test]
fn ten_values_that_are_misspelt_or_out_of_range_are_all_named() {
    let values = "
        replicas: 0
        image: {pullPolicy: Sometimes, digest: sha256:abc}
        log: {format: xml}
        databse: {url: x}
        watchNamespaces: [Team_A]
        leaderElection: {durationSeconds: 1}
        service: {port: 70000}
        controller: {events: many}
        api: {force: {waitMilliseconds: 99999}}
    ";
    refused(
        values,
        &[
            "/replicas",
            "/image/pullPolicy",
            "/image/digest",
            "/log/format",
            "'databse' not allowed",
            "/watchNamespaces/0",
            "/leaderElection/durationSeconds",
            "/service/port",
            "/controller/events",
            "/api/force/waitMilliseconds",
        ],
    );
}

#[test]
fn ten_values_that_do_not_go_together_are_all_named() {
    let values = "
        database:
          url: mysql://ana:pw@db/sync
          cloudNativePG: {cluster: pg}
          ca: {existingSecret: {name: a}, existingConfigMap: {name: b}}
        rabbitmq:
          url: amqp://ana:pw@mq/
          ca: {existingSecret: {name: a}}
          queue: same
          statusQueue: same
        api: {auth: {username: 'a:b'}}
        watchNamespaces: [team-a]
        serviceAccount: {create: false}
        ingress: {enabled: true}
        httpRoute: {enabled: true}
    ";
    refused(
        values,
        &[
            "more than one database: set only one of",
            "database.url does not begin with postgres://",
            "more than one CA of the database",
            "rabbitmq.ca is set, but rabbitmq.url begins with amqp://: write amqps://",
            "rabbitmq.queue and rabbitmq.statusQueue are the same",
            "api.auth.password is missing",
            "api.auth.username has a colon in it",
            "set api.force.namespace to one of team-a",
            "serviceAccount.name is empty",
            "ingress.enabled needs a host name",
            "httpRoute.enabled needs a Gateway",
        ],
    );
}

#[test]
fn a_complaint_shows_no_password() {
    let values =
        "{database: {url: 'mysql://ana:hunter2@db/sync'}, rabbitmq: {url: 'http://ana:hunter2@mq'}, api: {auth: {password: hunter2}}}";
    let Err(complaint) = render_only(values, &[]) else { panic!("taken") };
    assert!(!complaint.contains("hunter2"), "{complaint}");
}

#[test]
fn kinds_that_the_cluster_does_not_know_are_told_with_whose_they_are() {
    let needed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/values.yaml")).unwrap();
    let values = format!(
        "{needed}\nmetrics: {{podMonitor: {{enabled: true}}, prometheusRule: {{enabled: true}}}}\nhttpRoute: {{enabled: true, parentRefs: [{{name: a}}]}}\n"
    );
    let Err(complaint) = render_only(&values, &[]) else { panic!("taken") };
    for text in [
        "does not know monitoring.coreos.com/v1/PodMonitor: install the CRDs of Prometheus Operator first",
        "does not know monitoring.coreos.com/v1/PrometheusRule",
        "does not know gateway.networking.k8s.io/v1/HTTPRoute: install the CRDs of Gateway API first",
    ] {
        assert!(complaint.contains(text), "`{text}` is not in {complaint}");
    }
}

/// Every object of the schema is closed, or takes any key on purpose.
#[test]
fn the_schema_is_strict_and_knows_just_the_values_that_have_a_default() {
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(format!("{CHART}/values.schema.json")).unwrap()).unwrap();
    let values = documents(&std::fs::read_to_string(format!("{CHART}/values.yaml")).unwrap()).remove(0);
    compare("", &schema, &schema, &values);
}

fn compare(path: &str, whole: &Value, schema: &Value, values: &Value) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => whole.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    let Some(properties) = schema["properties"].as_object() else { return };
    assert_eq!(schema["additionalProperties"], false, "{path} takes any key");
    if path.ends_with("/affinity") || path.contains("/resources/") {
        return;
    }
    for (key, property) in properties.iter().filter(|(key, _)| *key != "global") {
        assert!(values.get(key).is_some(), "{path}/{key} is in the schema and has no default in values.yaml");
        compare(&format!("{path}/{key}"), whole, property, &values[key]);
    }
}

/// Names of our metrics in a text, without what Prometheus makes of a counter or a histogram.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let ours = words.filter(|word| word.starts_with("sync_operator_"));
    let bare =
        |word: &str| ["_total", "_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned();
    ours.map(bare).collect()
}

/// All metrics of both processes. One with labels shows only once it has a value.
fn known_metrics() -> BTreeSet<String> {
    let encoded = [Role::Controller, Role::Api].map(|role| {
        let metrics = Metrics::new(role);
        for family in [&metrics.reconciles, &metrics.status_writes, &metrics.publishes] {
            family.get_or_create(&Outcome { outcome: "x" }).inc();
        }
        metrics.reports.get_or_create(&ReportLabels { via: "x", outcome: "x" }).inc();
        metrics.executions.get_or_create(&StatusLabel { status: "x" }).set(1);
        metrics.deleted_executions.get_or_create(&StatusLabel { status: "x" }).inc();
        metrics.http_requests.get_or_create(&HttpLabels { method: "x".into(), route: "x".into(), code: 200 }).inc();
        metrics.encode().unwrap()
    });
    metrics_in(&encoded.concat())
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_the_program_has_and_the_dashboard_for_all_of_them() {
    let known = known_metrics();
    let rendered = render("{metrics: {prometheusRule: {enabled: true}, dashboard: {enabled: true}}}");
    let dashboard = rendered.get("ConfigMap", "sync-operator-dashboard")["data"]["sync-operator.json"].as_str().unwrap();
    serde_json::from_str::<Value>(dashboard).unwrap();
    let alerts = metrics_in(&rendered.get("PrometheusRule", "sync-operator").to_string());
    assert!(!alerts.is_empty());
    assert_eq!(alerts.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(metrics_in(dashboard), known);
}

#[test]
fn every_alert_says_what_is_wrong_and_what_to_do() {
    let rendered = render("{metrics: {prometheusRule: {enabled: true}}}");
    let rules = rendered.get("PrometheusRule", "sync-operator")["spec"]["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() > 5);
    for rule in rules {
        for text in [&rule["expr"], &rule["annotations"]["summary"], &rule["annotations"]["runbook"], &rule["labels"]["severity"]] {
            assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{rule}");
        }
    }
}

#[test]
fn the_plain_manifests_are_the_chart_with_a_namespace_that_enforces_the_restricted_profile() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
    let install = std::fs::read_to_string(format!("{folder}/install.yaml")).unwrap();
    assert!(!install.contains("Helm") && !install.contains("helm.sh"), "these words mean nothing without helm");
    let kustomized = std::process::Command::new("kubectl")
        .args(["kustomize", &format!("{folder}/kustomize")])
        .env("PATH", &stack().path)
        .output()
        .unwrap();
    assert!(kustomized.status.success(), "{}", String::from_utf8_lossy(&kustomized.stderr));
    let sorted = |yaml: &str| {
        let mut objects = documents(yaml);
        objects.sort_by_key(|object| format!("{} {}", object["kind"], object["metadata"]["name"]));
        objects
    };
    let (plain, kustomized) = (sorted(&install), sorted(&String::from_utf8(kustomized.stdout).unwrap()));
    assert_eq!(plain.len(), kustomized.len());
    // kustomize writes 1.0 as 1: of the CRD, whose bytes another test compares, only the name is looked at.
    for (plain, kustomized) in plain.iter().zip(&kustomized) {
        let part = if plain["kind"] == "CustomResourceDefinition" { "/metadata/name" } else { "" };
        assert_eq!(plain.pointer(part), kustomized.pointer(part));
    }

    let objects = documents(&install);
    let namespace = objects.iter().find(|object| object["kind"] == "Namespace").unwrap();
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    assert_eq!(deployment["spec"]["template"]["spec"], *render("").pod());
}

#[test]
fn the_charts_version_is_the_programs() {
    let chart = documents(&std::fs::read_to_string(format!("{CHART}/Chart.yaml")).unwrap()).remove(0);
    for key in ["version", "appVersion"] {
        assert_eq!(chart[key], env!("CARGO_PKG_VERSION"), "type: make generate");
    }
}

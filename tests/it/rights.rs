//! What the chart allows whom: asked of the real API server for every verb on every kind of resource that could matter, so that a
//! right too many shows as well as one too few.

use std::{collections::BTreeSet, path::Path};

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use crate::common::{eventually, helm::CHART, node::Images, objects::update, release::Release};

const VERBS: [&str; 11] =
    ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate", "escalate", "bind"];

/// API group, resource, name (empty: any).
const RESOURCES: [(&str, &str, &str); 27] = [
    ("sync.pncp.io", "syncexecutions", ""),
    ("sync.pncp.io", "syncexecutions/status", ""),
    ("coordination.k8s.io", "leases", ""),
    ("coordination.k8s.io", "leases", "sync-operator"),
    ("events.k8s.io", "events", ""),
    ("", "events", ""),
    ("", "secrets", ""),
    ("", "secrets", "sync-operator-database"),
    ("", "configmaps", ""),
    ("", "pods", ""),
    ("", "pods/exec", ""),
    ("", "pods/log", ""),
    ("", "services", ""),
    ("", "services/proxy", ""),
    ("", "nodes", ""),
    ("", "namespaces", ""),
    ("", "serviceaccounts", ""),
    ("", "serviceaccounts/token", ""),
    ("apps", "deployments", ""),
    ("batch", "jobs", ""),
    ("apiextensions.k8s.io", "customresourcedefinitions", ""),
    ("rbac.authorization.k8s.io", "roles", ""),
    ("rbac.authorization.k8s.io", "clusterroles", ""),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", ""),
    ("flowcontrol.apiserver.k8s.io", "flowschemas", ""),
    ("authentication.k8s.io", "tokenreviews", ""),
    ("authorization.k8s.io", "subjectaccessreviews", ""),
];

/// Whether `user` may; `namespace` empty means all of them.
async fn may(client: &Client, user: &str, namespace: &str, (group, resource, name): (&str, &str, &str), verb: &str) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            groups: Some(vec!["system:serviceaccounts".to_owned(), "system:authenticated".to_owned()]),
            resource_attributes: Some(ResourceAttributes {
                namespace: text(namespace),
                group: text(group),
                resource: text(resource),
                subresource: text(subresource),
                name: text(name),
                verb: text(verb),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await.unwrap();
    answer.status.is_some_and(|status| status.allowed)
}

/// All that `user` may do, as `PLACE: VERB RESOURCE[/NAME]`.
async fn allowed(client: &Client, user: &str, places: &[(&str, &str)]) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for resource in RESOURCES {
        for verb in VERBS {
            for (place, namespace) in places {
                if may(client, user, namespace, resource, verb).await {
                    let name = if resource.2.is_empty() { String::new() } else { format!("/{}", resource.2) };
                    allowed.insert(format!("{place}: {verb} {}{name}", resource.1));
                }
            }
        }
    }
    allowed
}

/// What the program needs in the namespace of its Lease, and in those whose objects it serves.
fn needed(watched: &[&str]) -> BTreeSet<String> {
    let own = [
        "create syncexecutions",
        "create leases",
        "create leases/sync-operator",
        "get leases/sync-operator",
        "update leases/sync-operator",
    ];
    let each = [
        "get syncexecutions",
        "list syncexecutions",
        "watch syncexecutions",
        "delete syncexecutions",
        "patch syncexecutions/status",
        "create events",
        "patch events",
    ];
    let own = own.map(|right| format!("own: {right}"));
    own.into_iter().chain(watched.iter().flat_map(|place| each.map(|right| format!("{place}: {right}")))).collect()
}

#[tokio::test]
async fn the_account_may_do_what_the_program_needs_and_nothing_else() {
    let release = Release::place("rights", Images::new()).await;
    let world = &release.world;
    let values = [Release::values(), vec!["replicas=1".to_owned()]].concat();
    release.deploy("install", Path::new(CHART), &values).await.unwrap();
    let account = format!("system:serviceaccount:{}:sync-operator", world.name);
    let places = [("own", world.name.as_str()), ("other", "default"), ("all", "")];
    assert_eq!(allowed(&world.client, &account, &places).await, needed(&["own", "other", "all"]));
}

#[tokio::test]
async fn limited_to_some_namespaces_it_serves_those_and_may_do_nothing_elsewhere() {
    let release = Release::place("limited", Images::new()).await;
    let world = &release.world;
    let listed = format!("{}-listed", world.name);
    world.kubectl_succeeds(&["create", "namespace", &listed]);
    let values = [Release::values(), vec!["replicas=1".to_owned(), format!("watchNamespaces={{{},{listed}}}", world.name)]].concat();
    release.deploy("install", Path::new(CHART), &values).await.unwrap();
    let account = format!("system:serviceaccount:{}:sync-operator", world.name);
    let places = [("own", world.name.as_str()), ("listed", &listed), ("other", "default"), ("all", "")];
    assert_eq!(allowed(&world.client, &account, &places).await, needed(&["own", "listed"]));

    let object = json!({"apiVersion": "sync.pncp.io/v1alpha1", "kind": "SyncExecution", "metadata": {"name": "x"}, "spec": update()});
    for namespace in ["default", listed.as_str()] {
        let made = world.kubectl(&["apply", "-f", "-", "-n", namespace], Some(&object));
        assert!(made.status.success(), "{made:?}");
    }
    world.create("x", update()).await;
    world.phase("x", "Queued").await;
    let phase = async |namespace: &str| world.kubectl_succeeds(&["get", "sx", "x", "-n", namespace, "-o", "jsonpath={.status.phase}"]);
    eventually("the listed namespace to be served", async || (phase(&listed).await == "Queued").then_some(())).await;
    assert_eq!(phase("default").await, "", "another namespace is left alone");
    for pod in release.node.all() {
        let log = pod.log("controller");
        assert!(!log.contains("forbidden"), "it asks for what it has no right to: {log}");
    }
}

#[tokio::test]
async fn the_clusters_own_roles_take_in_the_resource() {
    let release = Release::place("roles", Images::new()).await;
    let world = &release.world;
    let values = [Release::values(), vec!["replicas=1".to_owned()]].concat();
    release.deploy("install", Path::new(CHART), &values).await.unwrap();
    for role in ["view", "edit", "admin"] {
        world.kubectl_succeeds(&["create", "rolebinding", role, &format!("--clusterrole={role}"), &format!("--user={role}er")]);
    }
    let object = ("sync.pncp.io", "syncexecutions", "");
    let status = ("sync.pncp.io", "syncexecutions/status", "");
    let may = async |user: &str, resource, verb: &str| may(&world.client, user, &world.name, resource, verb).await;
    // The control plane adds them up a moment later.
    eventually("the roles to be added up", async || may("viewer", object, "get").await.then_some(())).await;
    eventually("the roles to be added up", async || may("editer", object, "create").await.then_some(())).await;
    for verb in ["get", "list", "watch"] {
        for user in ["viewer", "editer", "adminer"] {
            assert!(may(user, object, verb).await, "{user} {verb}");
        }
    }
    for verb in ["create", "update", "patch", "delete"] {
        assert!(!may("viewer", object, verb).await, "viewer {verb}");
        assert!(may("editer", object, verb).await, "editer {verb}");
        for user in ["viewer", "editer", "adminer"] {
            assert!(!may(user, status, verb).await, "the status is the controller's alone: {user} {verb}");
        }
    }
}

/// The API server tells in each answer which FlowSchema took the request (Kubernetes documentation, API Priority and Fairness).
#[tokio::test]
async fn leases_and_status_writes_are_not_queued_behind_each_other() {
    let release = Release::place("flow", Images::new()).await;
    let world = &release.world;
    let values = [Release::values(), vec!["replicas=1".to_owned()]].concat();
    release.deploy("install", Path::new(CHART), &values).await.unwrap();
    let token = world.kubectl_succeeds(&["create", "token", "sync-operator"]);
    let name_of = |uid: String| {
        let all = world.kubectl_succeeds(&[
            "get",
            "flowschemas",
            "-o",
            "jsonpath={range .items[*]}{.metadata.uid} {.metadata.name} {.spec.priorityLevelConfiguration.name}{\"\\n\"}{end}",
        ]);
        all.lines().find_map(|line| line.strip_prefix(&uid)).map(|rest| rest.trim().to_owned()).unwrap_or_default()
    };
    let ask = async |method: &str, path: &str, body: &str| {
        let mut config = kube::Config::from_custom_kubeconfig(
            kube::config::Kubeconfig::read_from(&world.kubeconfig).unwrap(),
            &kube::config::KubeConfigOptions::default(),
        )
        .await
        .unwrap();
        config.auth_info = kube::config::AuthInfo { token: Some(token.trim().to_owned().into()), ..kube::config::AuthInfo::default() };
        let client = Client::try_from(config).unwrap();
        let request = axum::http::Request::builder().method(method).uri(path).header("content-type", "application/json-patch+json");
        let answer = client.send(request.body(kube::client::Body::from(body.as_bytes().to_vec())).unwrap()).await.unwrap();
        answer.headers()["x-kubernetes-pf-flowschema-uid"].to_str().unwrap().to_owned()
    };
    let lease = ask("GET", &format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/sync-operator", world.name), "").await;
    let status = ask("PATCH", &format!("/apis/sync.pncp.io/v1alpha1/namespaces/{}/syncexecutions/none/status", world.name), "[]").await;
    let (lease, status) = (name_of(lease), name_of(status));
    assert!(lease.starts_with("sync-operator") && lease.ends_with(" leader-election"), "{lease}");
    assert!(status.starts_with("sync-operator") && status != lease, "{status}");
}

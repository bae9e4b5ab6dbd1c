//! REST at its edges: who is let in, what is open to all, the documents, unknown paths, and servers that are away.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{http::Answer, program::Program, world::World};

/// Every route under `/sync`, as the document lists them.
const ROUTES: [(&str, &str); 7] = [
    ("GET", "/sync/status"),
    ("GET", "/sync/history"),
    ("GET", "/sync/dashboard"),
    ("POST", "/sync/force"),
    ("GET", "/sync/executions/{id}"),
    ("PATCH", "/sync/executions/{id}"),
    ("POST", "/sync/executions"),
];

/// An address on which nobody listens.
async fn closed() -> String {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn nothing_under_sync_is_answered_without_the_right_name_and_password() {
    let world = World::new("edges-auth").await;
    let api = world.api().await;
    for (method, path) in ROUTES {
        let request = async || api.anonymous(method.parse().unwrap(), &path.replace("{id}", "1")).await;
        for (what, request) in [
            ("nobody", request().await),
            ("wrong password", request().await.basic_auth("admin", Some("s3cre"))),
            ("no password", request().await.basic_auth("admin", None::<&str>)),
            ("wrong name", request().await.basic_auth("Admin", Some("s3cret"))),
            ("swapped", request().await.basic_auth("s3cret", Some("admin"))),
            ("a token", request().await.bearer_auth("s3cret")),
            ("no base64", request().await.header("Authorization", "Basic admin:s3cret")),
        ] {
            let answer = Answer::to(request.json(&json!({"mode": "update"}))).await;
            answer.is_problem(401, "send the administrator's name and password by HTTP Basic authentication");
            assert_eq!(answer.header("www-authenticate"), r#"Basic realm="sync-operator", charset="UTF-8""#, "{what}: {method} {path}");
        }
    }
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 0);
}

#[tokio::test]
async fn anybody_is_let_in_if_that_was_said_so() {
    let world = World::new("edges-anonymous").await;
    let settings = world.settings().without("ADMIN_USERNAME").without("ADMIN_PASSWORD").with("ALLOW_ANONYMOUS", true);
    let api = settings.start("api");
    api.ready().await;
    assert_eq!(Answer::to(api.anonymous(Method::GET, "/sync/status").await).await.code, 200);
    assert_eq!(Answer::to(api.anonymous(Method::GET, "/sync/status").await.basic_auth("ana", Some("x"))).await.code, 200);
}

#[tokio::test]
async fn probes_metrics_and_documents_are_open() {
    let world = World::new("edges-open").await;
    let api = world.api().await;
    for (path, kind) in [
        ("/healthz", "text/plain"),
        ("/readyz", "application/json"),
        ("/metrics", "application/openmetrics-text"),
        ("/openapi.json", "application/json"),
        ("/docs/", "text/html"),
    ] {
        let answer = Answer::to(api.anonymous(Method::GET, path).await).await;
        assert_eq!(answer.code, 200, "{path}");
        assert!(answer.header("content-type").starts_with(kind), "{path}: {answer:?}");
    }
    assert_eq!(Answer::to(api.anonymous(Method::GET, "/docs").await).await.code, 200, "the slash may be left out");
}

#[tokio::test]
async fn the_browsable_documents_need_no_other_server() {
    let world = World::new("edges-docs").await;
    let api = world.api().await;
    let page = Answer::to(api.anonymous(Method::GET, "/docs/").await).await.text;
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("\"//"), "{page}");
    let parts: Vec<&str> = page.split('"').filter(|part| [".js", ".css"].iter().any(|end| part.ends_with(end))).collect();
    assert!(parts.len() >= 3, "{page}");
    for part in parts {
        let answer = Answer::to(api.anonymous(Method::GET, &format!("/docs/{}", part.trim_start_matches("./"))).await).await;
        assert!(answer.code == 200 && !answer.text.is_empty(), "{part}: {}", answer.code);
    }
    let initializer = Answer::to(api.anonymous(Method::GET, "/docs/swagger-initializer.js").await).await.text;
    assert!(initializer.contains("/openapi.json") && !initializer.contains("petstore"), "{initializer}");
}

#[tokio::test]
async fn the_document_lists_every_route_and_is_the_one_that_the_program_prints() {
    let world = World::new("edges-openapi").await;
    let api = world.api().await;
    let document = Answer::to(api.anonymous(Method::GET, "/openapi.json").await).await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let mut listed: Vec<(String, &str)> = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        listed.extend(item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.as_str())));
    }
    listed.sort();
    let mut routes: Vec<(String, &str)> = ROUTES.iter().map(|(method, path)| ((*method).to_owned(), *path)).collect();
    routes.sort();
    assert_eq!(listed, routes);
    for (method, path) in ROUTES {
        let operation = &document["paths"][path][method.to_lowercase()];
        assert!(operation["responses"]["401"].is_object() && operation["responses"]["503"].is_object(), "{method} {path}");
        assert_eq!(operation["security"], json!([{"basic": []}]), "{method} {path}");
    }
    let printed: Value = serde_json::from_str(&world.settings().succeed(&["openapi"]).await).unwrap();
    assert_eq!(document, printed);
}

#[tokio::test]
async fn an_unknown_path_or_method_is_a_problem_like_any_other() {
    let world = World::new("edges-unknown").await;
    let api = world.api().await;
    for path in ["/", "/sync", "/sync/", "/sync/nothing", "/sync/executions/1/more", "/metrics/x", "/favicon.ico"] {
        api.read(path).await.is_problem(404, "there is nothing at this path; see /docs");
    }
    for (method, path) in [
        (Method::POST, "/sync/status"),
        (Method::DELETE, "/sync/history"),
        (Method::GET, "/sync/force"),
        (Method::GET, "/sync/executions"),
        (Method::DELETE, "/sync/executions/1"),
        (Method::PUT, "/sync/dashboard"),
        (Method::POST, "/healthz"),
        (Method::DELETE, "/metrics"),
    ] {
        let answer = Answer::to(api.request(method.clone(), path).await).await;
        answer.is_problem(405, "this path does not take that method; see /docs");
        assert!(!answer.header("allow").is_empty(), "{method} {path} says what it takes");
    }
}

async fn within_seconds(seconds: u64, what: &str, answer: impl Future<Output = Answer>) -> Answer {
    let started = Instant::now();
    let answer = answer.await;
    assert!(started.elapsed() < Duration::from_secs(seconds), "{what} took {:?}", started.elapsed());
    answer
}

async fn without_database(world: &World) -> (Program, String) {
    let closed = closed().await;
    let api = world.settings().with("DATABASE_URL", format!("postgres://ana:hunter2@{closed}/sync")).start("api");
    api.address().await;
    (api, closed)
}

#[tokio::test]
async fn without_the_database_everything_says_so_in_seconds_and_the_process_is_well() {
    let world = World::new("edges-nodb").await;
    let (api, closed) = without_database(&world).await;
    for (method, path, body) in [
        (Method::GET, "/sync/status", None),
        (Method::GET, "/sync/history", None),
        (Method::GET, "/sync/dashboard", None),
        (Method::GET, "/sync/executions/1", None),
        (Method::PATCH, "/sync/executions/1", Some(json!({"status": "running"}))),
        (Method::POST, "/sync/executions", Some(json!({"mode": "update"}))),
    ] {
        let request = api.request(method, path).await;
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let answer = within_seconds(8, path, Answer::to(request)).await;
        answer.is_problem(503, &format!("database {closed}/sync: "));
        assert!(answer.text.contains("try again later") && !answer.header("retry-after").is_empty(), "{answer:?}");
        assert!(!answer.text.contains("hunter2"));
    }
    assert_eq!(Answer::to(api.anonymous(Method::GET, "/healthz").await).await.code, 200);
    let ready = within_seconds(8, "/readyz", async { Answer::to(api.anonymous(Method::GET, "/readyz").await).await }).await;
    assert_eq!((ready.code, &ready.json()["ready"]), (503, &json!(false)));
    assert!(ready.json()["missing"][0].as_str().unwrap().starts_with(&format!("database {closed}/sync: ")), "{ready:?}");
}

#[tokio::test]
async fn a_database_that_was_never_migrated_is_told_with_the_remedy() {
    let world = World::with_empty_database("edges-unmigrated").await;
    let api = world.settings().start("api");
    let ready = Answer::to(api.anonymous(Method::GET, "/readyz").await).await;
    assert!(ready.code == 503 && ready.text.contains("run `sync-operator migrate up`"), "{ready:?}");
    api.read("/sync/status").await.is_problem(503, "run `sync-operator migrate up`");
    world.settings().succeed(&["migrate", "up"]).await;
    world.settings().succeed(&["migrate", "down"]).await;
    let behind = Answer::to(api.anonymous(Method::GET, "/readyz").await).await;
    assert!(behind.code == 503 && behind.text.contains("run `sync-operator migrate up`"), "{behind:?}");
    world.settings().succeed(&["migrate", "up"]).await;
    api.ready().await;
}

#[tokio::test]
async fn without_kubernetes_a_sync_cannot_be_forced_and_all_else_is_answered() {
    let world = World::new("edges-nocluster").await;
    let (proxy, kubeconfig) = world.kubeconfig_by_proxy().await;
    drop(proxy);
    let api = world.settings().with("KUBECONFIG", kubeconfig.display()).start("api");
    api.ready().await;
    let request = api.request(Method::POST, "/sync/force").await.json(&json!({"mode": "update"}));
    let answer = within_seconds(8, "/sync/force", Answer::to(request)).await;
    answer.is_problem(503, "Kubernetes cannot be reached, so the request was not taken: try again later");
    for path in ["/sync/status", "/sync/history", "/sync/dashboard"] {
        api.get(path).await;
    }
}

#[tokio::test]
async fn a_namespace_that_does_not_exist_is_told_by_its_name() {
    let world = World::new("edges-namespace").await;
    let api = world.settings().with("FORCE_NAMESPACE", "nowhere").start("api");
    api.ready().await;
    let answer = Answer::to(api.request(Method::POST, "/sync/force").await.json(&json!({"mode": "update"}))).await;
    answer.is_problem(503, "has no namespace nowhere: apply crds/, or set --force-namespace");
}

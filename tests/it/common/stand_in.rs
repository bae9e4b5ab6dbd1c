//! A stand-in before the real API server: it passes every call on, and may then give another answer than the server's. For
//! answers that a real server cannot be made to give on demand. What was asked is done all the same.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::world::World;

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What the server says.
    True,
    /// A Status with this code.
    Refused(u16),
    /// The first half of what the server says.
    Half,
    /// A page for people, as a load balancer shows it, with code 200.
    Page,
    /// Nothing, ever.
    Silence,
}

type Choice = Box<dyn FnMut(&Method, &Uri) -> Answer + Send>;

/// The stand-in. Ends when dropped.
pub struct StandIn {
    /// A kubeconfig that leads to it.
    pub kubeconfig: PathBuf,
    choice: Arc<Mutex<Choice>>,
    muted: watch::Sender<u32>,
    task: JoinHandle<()>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Server {
    client: Client,
    choice: Arc<Mutex<Choice>>,
    muted: watch::Sender<u32>,
}

impl StandIn {
    /// A stand-in that passes everything.
    pub async fn before(world: &World) -> Self {
        let mut kubeconfig = Kubeconfig::read_from(&world.kubeconfig).unwrap();
        let mut config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await.unwrap();
        config.default_retry = false;
        let choice: Arc<Mutex<Choice>> = Arc::new(Mutex::new(Box::new(|_, _| Answer::True)));
        let muted = watch::Sender::new(0);
        let server = Server { client: Client::try_from(config).unwrap(), choice: Arc::clone(&choice), muted: muted.clone() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cluster = kubeconfig.clusters[0].cluster.as_mut().unwrap();
        (cluster.server, cluster.certificate_authority_data) = (Some(format!("http://{}", listener.local_addr().unwrap())), None);
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.stand-in", world.name));
        std::fs::write(&path, serde_json::to_vec(&kubeconfig).unwrap()).unwrap();
        let router = Router::new().fallback(answer).with_state(server);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { kubeconfig: path, choice, muted, task }
    }

    /// From now on answers as `choice` says for each call.
    pub fn answers(&self, choice: impl FnMut(&Method, &Uri) -> Answer + Send + 'static) {
        *self.choice.lock().unwrap() = Box::new(choice);
    }

    /// Every answer that is under way, a watch above all, falls silent for ever; nothing is closed.
    pub fn mute(&self) {
        self.muted.send_modify(|count| *count += 1);
    }
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let chosen = (server.choice.lock().unwrap())(request.method(), request.uri());
    let (parts, body) = request.into_parts();
    let mut asked = axum::http::Request::builder().method(parts.method).uri(parts.uri);
    for name in [header::CONTENT_TYPE, header::ACCEPT] {
        if let Some(value) = parts.headers.get(&name) {
            asked = asked.header(name, value);
        }
    }
    let asked = asked.body(to_bytes(body, usize::MAX).await.unwrap().into()).unwrap();
    // The server itself may be away.
    let Ok(told) = server.client.send(asked).await else { return StatusCode::BAD_GATEWAY.into_response() };
    let (told, body) = told.into_parts();
    let body = Body::new(body);
    match chosen {
        Answer::True => {
            let frames = (body.into_data_stream(), server.muted.subscribe());
            let until_muted = stream::unfold(frames, |(mut frames, mut muted)| async move {
                tokio::select! {
                    biased;
                    _ = muted.changed() => std::future::pending().await,
                    frame = frames.next() => Some((frame?, (frames, muted))),
                }
            });
            (told.status, content_type(&told.headers), Body::from_stream(until_muted)).into_response()
        }
        Answer::Half => {
            let whole = to_bytes(body, usize::MAX).await.unwrap();
            (told.status, content_type(&told.headers), whole.slice(..whole.len() / 2)).into_response()
        }
        Answer::Refused(code) => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "InternalError",
                "message": "the stand-in says so", "code": code,
            });
            (StatusCode::from_u16(code).unwrap(), axum::Json(status)).into_response()
        }
        Answer::Page => ([(header::CONTENT_TYPE, "text/html")], "<html><body>Service is being updated</body></html>").into_response(),
        Answer::Silence => std::future::pending().await,
    }
}

fn content_type(headers: &header::HeaderMap) -> [(header::HeaderName, header::HeaderValue); 1] {
    [(header::CONTENT_TYPE, headers.get(header::CONTENT_TYPE).cloned().unwrap_or(header::HeaderValue::from_static("application/json")))]
}

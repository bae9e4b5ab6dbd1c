//! What sqlx and kube do where their documents are silent, and how the program keeps clear of it. A test here that fails after
//! an update of a library says that a belief of the program has to be looked at again.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::get};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Config};
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};

use crate::common::{PATIENCE, world::World};

/// A server before that of `url` whose one connection is reset at a word; and its URL.
async fn to_be_reset(url: &str) -> (String, oneshot::Sender<()>) {
    let mut url = url::Url::parse(url).unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    let (sender, reset) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(server).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => {}
            _ = reset => {}
        }
        client.set_zero_linger().unwrap();
    });
    (url.into(), sender)
}

#[tokio::test]
async fn a_listener_whose_connection_is_reset_answers_an_error() {
    let world = World::new("libraries-listener").await;
    let (url, reset) = to_be_reset(&world.database_url).await;
    let mut listener = PgListener::connect(&url).await.unwrap();
    listener.eager_reconnect(false);
    listener.listen("x").await.unwrap();
    reset.send(()).unwrap();
    // A closed connection is `Ok(None)`; a reset one is not. `store/listen.rs` takes both for a gap.
    let heard = timeout(PATIENCE, listener.try_recv()).await.unwrap();
    assert!(matches!(&heard, Err(sqlx::Error::Io(error)) if error.kind() == ErrorKind::ConnectionReset), "{heard:?}");
}

#[tokio::test]
async fn a_listener_whose_session_is_ended_answers_that_something_may_be_lost() {
    let world = World::new("libraries-ended").await;
    let mut listener = PgListener::connect(&world.database_url).await.unwrap();
    listener.eager_reconnect(false);
    listener.listen("x").await.unwrap();
    let listening =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query = 'LISTEN \"x\"' AND datname = current_database()";
    assert_eq!(world.number(listening).await, 1);
    let heard = timeout(PATIENCE, listener.try_recv()).await.unwrap();
    assert!(!matches!(heard, Ok(Some(_))), "{heard:?}");
}

/// A server before that of `url` whose answers come 20 ms late; its URL.
async fn late(url: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let answers = async {
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        to_client.write_all(&buffer[..read]).await.unwrap();
                    }
                };
                tokio::select! {
                    () = answers => {}
                    _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                }
            });
        }
    });
    url.into()
}

/// A pool that sends what it is given at once.
async fn one_connection(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(1).test_before_acquire(false).connect(url).await.unwrap()
}

#[tokio::test]
async fn a_begin_that_is_given_up_leaves_its_transaction_to_the_next_user_so_the_program_begins_none() {
    let world = World::new("libraries-begin").await;
    let pool = one_connection(&late(&world.database_url).await).await;
    // BEGIN is on its way, and the answer is not here yet.
    assert!(timeout(Duration::from_millis(5), pool.begin()).await.is_err());
    let mut next = timeout(PATIENCE, pool.acquire()).await.unwrap().unwrap();
    sqlx::query("SELECT 1").execute(&mut *next).await.unwrap();
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'";
    assert_eq!(world.number(open).await, 1, "mended in sqlx: the program may begin transactions where calls can be given up");

    let sources = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut folders = vec![sources.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(!text.contains(".begin(") && !text.contains("\"BEGIN"), "{} begins a transaction", path.display());
            }
        }
    }
}

#[tokio::test]
async fn hidden_retries_of_the_client_are_there_by_default_and_off_when_told_so() {
    let asked = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: axum::http::Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let router = Router::new().fallback(get({
        let asked = Arc::clone(&asked);
        async move || {
            asked.fetch_add(1, Ordering::Relaxed);
            StatusCode::SERVICE_UNAVAILABLE
        }
    }));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let call = async |retry: bool| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = Config::new(url.clone());
        config.default_retry = retry;
        let api = Api::<Namespace>::all(Client::try_from(config).unwrap());
        let before = asked.load(Ordering::Relaxed);
        let ended = timeout(Duration::from_secs(1), api.get_opt("x")).await.is_ok();
        (ended, asked.load(Ordering::Relaxed) - before)
    };
    assert_eq!(call(false).await, (true, 1), "as `kubernetes::config` has it: one call is one question");
    let (ended, questions) = call(true).await;
    assert!(!ended && questions > 3, "a refused call is hidden for longer than a second: {questions} questions");
}

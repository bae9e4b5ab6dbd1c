//! A TCP proxy that can be told to misbehave: swallow what one side sends, refuse, or cut. The names are toxiproxy's.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// How the proxy behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Passes everything.
    Pass = 0,
    /// Swallows what the server sends; the client's bytes still arrive.
    SwallowAnswers = 1,
    /// Swallows both ways: a half-open connection.
    SwallowAll = 2,
    /// Closes new connections at once.
    Refuse = 3,
}

/// A proxy before one server. Ends when dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    mode: Arc<AtomicU8>,
    cut: watch::Sender<u32>,
    refused: watch::Sender<u32>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

impl Proxy {
    /// A proxy before `host:port`.
    pub async fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(AtomicU8::new(Mode::Pass as u8));
        let (cut, refused) = (watch::Sender::new(0), watch::Sender::new(0));
        let task = tokio::spawn({
            let (mode, cut, refused, upstream) = (Arc::clone(&mode), cut.clone(), refused.clone(), upstream.to_owned());
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    if mode.load(Ordering::Relaxed) == Mode::Refuse as u8 {
                        refused.send_modify(|count| *count += 1);
                        continue;
                    }
                    tokio::spawn(serve(client, upstream.clone(), Arc::clone(&mode), cut.subscribe()));
                }
            }
        });
        Self { address, mode, cut, refused, task }
    }

    /// A proxy before the server of `url`, and that URL with the proxy's address in it.
    pub async fn for_url(url: &str) -> (Self, String) {
        let mut url = url::Url::parse(url).unwrap();
        let proxy = Self::before(&format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())).await;
        url.set_port(Some(proxy.address.port())).unwrap();
        (proxy, url.into())
    }

    /// Changes how open and new connections are treated.
    pub fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
    }

    /// Waits until it refuses one more connection.
    pub async fn refuses_another(&self) {
        self.refused.subscribe().changed().await.unwrap();
    }

    /// Closes all open connections.
    pub fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

async fn serve(client: TcpStream, upstream: String, mode: Arc<AtomicU8>, mut cut: watch::Receiver<u32>) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = pump(&mut from_client, &mut to_server, &mode, Mode::SwallowAll);
    let down = pump(&mut from_server, &mut to_client, &mode, Mode::SwallowAnswers);
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = cut.changed() => {}
    }
}

/// Copies bytes; swallows them while the mode is `swallowed_from` or worse.
async fn pump(from: &mut (impl AsyncReadExt + Unpin), to: &mut (impl AsyncWriteExt + Unpin), mode: &AtomicU8, swallowed_from: Mode) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let now = mode.load(Ordering::Relaxed);
        let swallow = now == Mode::SwallowAll as u8 || (now == Mode::SwallowAnswers as u8 && swallowed_from == Mode::SwallowAnswers);
        if !swallow && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

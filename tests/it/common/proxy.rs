//! A TCP proxy that can be told to misbehave: swallow what one side sends, refuse, delay, keep back, cut or reset. The names
//! are toxiproxy's.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use super::PATIENCE;

/// How the proxy behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything.
    Pass,
    /// Swallows what the server sends; the client's bytes still arrive.
    SwallowAnswers,
    /// Swallows both ways: a half-open connection.
    SwallowAll,
    /// Closes new connections at once.
    Refuse,
    /// Passes everything, each piece that much later.
    Delay(Duration),
    /// Passes that many more bytes of each client and keeps back what follows, until the mode is another.
    Limit(usize),
}

/// How open connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// They are closed.
    Cut,
    /// They are reset: what is under way is lost.
    Reset,
}

/// A proxy before one server. Ends when dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    end: watch::Sender<End>,
    refused: watch::Sender<u32>,
    answered: watch::Sender<usize>,
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
        let (mode, end) = (watch::Sender::new(Mode::Pass), watch::Sender::new(End::Cut));
        let (refused, answered) = (watch::Sender::new(0), watch::Sender::new(0));
        let task = tokio::spawn({
            let (mode, end, upstream) = (mode.clone(), end.clone(), upstream.to_owned());
            let (refused, answered) = (refused.clone(), answered.clone());
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    if *mode.borrow() == Mode::Refuse {
                        refused.send_modify(|count| *count += 1);
                        continue;
                    }
                    tokio::spawn(serve(client, upstream.clone(), mode.subscribe(), end.subscribe(), answered.clone()));
                }
            }
        });
        Self { address, mode, end, refused, answered, task }
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
        self.answered.send_replace(0);
        self.mode.send_replace(mode);
    }

    /// Waits until the server has sent that many bytes since the mode was set.
    pub async fn answered(&self, bytes: usize) {
        let mut answered = self.answered.subscribe();
        tokio::time::timeout(PATIENCE, answered.wait_for(|sent| *sent >= bytes)).await.expect("the server answers").unwrap();
    }

    /// Waits until it refuses one more connection.
    pub async fn refuses_another(&self) {
        self.refused.subscribe().changed().await.unwrap();
    }

    /// Closes all open connections.
    pub fn cut(&self) {
        self.end.send_replace(End::Cut);
    }

    /// Resets all open connections, on both sides.
    pub fn reset(&self) {
        self.end.send_replace(End::Reset);
    }
}

async fn serve(
    mut client: TcpStream,
    upstream: String,
    mode: watch::Receiver<Mode>,
    mut end: watch::Receiver<End>,
    answered: watch::Sender<usize>,
) {
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        tokio::select! {
            () = pump(&mut from_client, &mut to_server, mode.clone(), Side::Client, &answered) => {}
            () = pump(&mut from_server, &mut to_client, mode, Side::Server, &answered) => {}
            _ = end.changed() => {}
        }
    }
    if *end.borrow() == End::Reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// Copies what one side sends, as the mode of that moment says.
async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut mode: watch::Receiver<Mode>,
    side: Side,
    answered: &watch::Sender<usize>,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = 0;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let now = *mode.borrow_and_update();
            let pass = match (now, side) {
                (Mode::SwallowAll, _) | (Mode::SwallowAnswers, Side::Server) => break,
                (Mode::Limit(limit), Side::Client) => rest.len().min(limit.saturating_sub(passed)),
                (Mode::Delay(delay), _) => {
                    tokio::time::sleep(delay).await;
                    rest.len()
                }
                _ => rest.len(),
            };
            if to.write_all(&rest[..pass]).await.is_err() {
                return;
            }
            if side == Side::Server {
                answered.send_modify(|sent| *sent += pass);
            }
            passed = if matches!(now, Mode::Limit(_)) { passed + pass } else { 0 };
            rest = &rest[pass..];
            if !rest.is_empty() && mode.changed().await.is_err() {
                return;
            }
        }
    }
}

//! Where the broker is and how to get in: the URL and the CA, read again for each connection. A connection that is open keeps
//! the credentials that it was opened with. Knows no queue.

use std::path::PathBuf;

use lapin::{
    Connection, ConnectionProperties,
    runtime::default_runtime,
    tcp::{AMQPUriTcpExt, AsyncTcpStream, RustlsConnector, TLSConfig},
    uri::{AMQPScheme, AMQPUri},
};
use rustls::ClientConfig;

use super::link::{Link, Socket};
use crate::{
    source::{Setting, Source, Wrong},
    tls,
};

/// Milliseconds for opening a socket, unless the URL says otherwise. The client library's thread waits that long even when
/// nobody waits for the connection any more.
const SOCKET_TIMEOUT: u64 = 10_000;
/// Seconds between heartbeats, unless the URL says otherwise: a silent broker is noticed after twice that.
const HEARTBEAT_SECONDS: u16 = 10;

/// The broker's server, as the settings say.
pub struct Server {
    url: Setting<AMQPUri>,
    ca: Option<Setting<RustlsConnector>>,
}

impl Server {
    /// The server at `url`. With a CA it must prove by TLS that it is the host of the URL, and no other CA is trusted.
    ///
    /// # Errors
    /// [`Wrong`].
    pub fn new(url: Source, ca: Option<PathBuf>) -> Result<Self, Wrong> {
        let verified = ca.is_some();
        let ca = ca.map(|file| Setting::new(Source::File(file), connector)).transpose().map_err(Wrong::Ca)?;
        let url = Setting::new(url, move |text| parse(text, verified)).map_err(Wrong::Url)?;
        Ok(Self { url, ca })
    }

    /// `host:port/vhost` as it was read last; no secret in it.
    #[must_use]
    pub fn address(&self) -> String {
        let uri = self.url.last();
        format!("{}:{}/{}", uri.authority.host, uri.authority.port, uri.vhost.trim_start_matches('/'))
    }

    /// Opens a connection that the broker shows by that name, for frames of at most `frame_max` bytes unless the URL says
    /// otherwise. Without a deadline: whoever stops waiting drops this, and what was opened is hung up.
    pub(super) async fn connect(&self, name: &str, frame_max: u32) -> lapin::Result<Link> {
        let mut uri = (*self.url.current()).clone();
        uri.query.frame_max.get_or_insert(frame_max);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let ca = self.ca.as_ref().map(|ca| (*ca.current()).clone());
        let socket = Socket::default();
        let hang_up = socket.hang_up_on_drop();
        let connecting = Connection::connector(
            uri,
            default_runtime()?,
            async move |uri: AMQPUri, runtime| {
                let plain = AMQPUri { scheme: AMQPScheme::AMQP, ..uri.clone() };
                let stream = plain.connect_async(&runtime).await?;
                if let AsyncTcpStream::Plain(stream) = &stream {
                    socket.keep(stream.get_ref())?;
                }
                let host = &uri.authority.host;
                Ok(match (&ca, uri.scheme) {
                    // Not lapin's own TLS settings: those add the CA to the system's, and fail where a system has none.
                    (Some(connector), _) => stream.into_rustls(connector, host).await?,
                    (None, AMQPScheme::AMQPS) => stream.into_tls(host, TLSConfig::default()).await?,
                    (None, AMQPScheme::AMQP) => stream,
                })
            },
            properties,
        );
        Ok(Link::new(Box::pin(connecting).await?, hang_up))
    }
}

fn connector(pem: &str) -> Result<RustlsConnector, String> {
    let roots = tls::authorities(pem)?;
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth().into())
}

fn parse(text: &str, verified: bool) -> Result<AMQPUri, String> {
    // The parser's own words on a wrong scheme repeat the URL, password and all.
    if !text.starts_with("amqp://") && !text.starts_with("amqps://") {
        return Err("it does not begin with amqp:// or amqps://".to_owned());
    }
    let mut uri: AMQPUri = text.parse()?;
    if verified && uri.scheme == AMQPScheme::AMQP {
        return Err("it begins with amqp://, which is without TLS, but a CA file is given: write amqps:// and the broker's TLS port, or remove the CA file".to_owned());
    }
    // What ends with a slash means the default vhost to those who write such URLs, and no vhost is called "".
    if uri.vhost.is_empty() {
        "/".clone_into(&mut uri.vhost);
    }
    uri.query.connection_timeout.get_or_insert(SOCKET_TIMEOUT);
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_the_rabbitmq_cluster_operator_is_taken_as_it_is() {
        for (url, vhost) in [
            ("amqp://default_user_x:pw@mq.ns.svc:5672/", "/"),
            ("amqp://default_user_x:pw@mq.ns.svc:5672", "/"),
            ("amqp://default_user_x:pw@mq.ns.svc:5672/%2f", "/"),
            ("amqp://default_user_x:pw@mq.ns.svc:5672/sync", "sync"),
        ] {
            let uri = parse(url, false).unwrap();
            let authority = &uri.authority;
            assert_eq!((authority.host.as_str(), authority.port, uri.vhost.as_str()), ("mq.ns.svc", 5672, vhost), "{url}");
            assert_eq!((authority.userinfo.username.as_str(), authority.userinfo.password.as_str()), ("default_user_x", "pw"));
        }
        assert_eq!(parse("amqps://u:p@mq/", true).unwrap().authority.port, 5671);
    }

    #[test]
    fn a_ca_without_tls_is_a_contradiction() {
        assert!(parse("amqp://u:p@mq:5672/", true).unwrap_err().contains("amqps://"));
    }
}

//! How to reach the API server, and how to tell what went wrong with it.

use std::time::Duration;

use kube::Config;

/// Deadline for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence on a connection that is waited on. Callers have shorter deadlines, but for the list of all objects and for the
/// watch, which may say nothing for as long as it lasts.
const READ_TIMEOUT: Duration = Duration::from_secs(40);

/// The cluster of the kubeconfig, or of the pod's service account.
///
/// # Errors
/// What is wrong with either.
pub async fn config() -> Result<Config, kube::config::InferConfigError> {
    let mut config = Config::infer().await?;
    // Retries hidden in a call would outlast every deadline here; each caller has its own.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    Ok(config)
}

/// An error with its last cause: the client library's own words stop at "client error (Connect)".
#[must_use]
pub fn describe(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let (whole, root) = (error.to_string(), last.to_string());
    if whole.ends_with(&root) { whole } else { format!("{whole}: {root}") }
}

/// Whether there was no connection to send the request on, so that the API server cannot have done what was asked.
#[must_use]
pub fn never_sent(error: &kube::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(client) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return client.is_connect();
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cause_is_told() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused by 127.0.0.1:1");
        let told = describe(&kube::Error::Service(Box::new(refused)));
        assert!(told.contains("connection refused by 127.0.0.1:1"), "{told}");
    }
}

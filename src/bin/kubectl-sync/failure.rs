//! Why a command ends with an error, in a sentence that says what to do, and the exit code that goes with it.

use std::{io, time::Duration};

use sync_operator::kubernetes::describe;
use thiserror::Error;

use crate::output::plain;

/// Why a command ends with an error.
#[derive(Debug, Error)]
pub enum Failure {
    /// The command line or the kubeconfig is wrong.
    #[error("{0}")]
    Usage(String),
    /// An execution failed, was cancelled or is gone; or what was asked for is not there.
    #[error("{0}")]
    NotWell(String),
    /// `--timeout` passed.
    #[error("{0}")]
    TimedOut(String),
    /// Ctrl-C.
    #[error("{0}")]
    Interrupted(String),
    /// The API server refused, or cannot be reached.
    #[error("{}", sentence(.doing, .server, .source))]
    Refused {
        /// What was asked of it, as in "cannot …".
        doing: String,
        /// Its address.
        server: String,
        /// What it, or the connection to it, said.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("cannot {doing}: no answer from {server} within {}: is it overloaded? --request-timeout gives it more time{hint}", humantime::format_duration(*.after))]
    Silent {
        /// What was asked of it.
        doing: String,
        /// Its address.
        server: String,
        /// The deadline.
        after: Duration,
        /// What to look at before it is tried again.
        hint: String,
    },
    /// Standard output or a file cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::TimedOut(_) => 124,
            Self::Interrupted(_) => 130,
            // As a process that SIGPIPE ended: whoever read the output has had enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 141,
            _ => 1,
        }
    }

    /// Prints it on standard error.
    pub fn tell(&self) {
        if self.code() != 141 {
            eprintln!("error: {}", plain(&self.to_string()));
        }
    }
}

/// What the API server's refusal means.
fn sentence(doing: &str, server: &str, error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else {
        return match error {
            kube::Error::Auth(_) => format!("cannot {doing}: the kubeconfig's way to log in does not work: {}", describe(error)),
            _ => format!("cannot {doing}: {server} cannot be reached: {}: check --server, --context and the network", describe(error)),
        };
    };
    let said = &status.message;
    let kind = status.details.as_ref().map_or("", |details| details.kind.as_str());
    match status.code {
        401 => format!("cannot {doing}: {server} does not accept your credentials, so log in again or choose another --context or --user"),
        403 => format!("you may not {doing}: {said}"),
        404 if kind == "namespaces" => format!("cannot {doing}: {said}: create it, or choose another with --namespace"),
        // A resource that is not served has no details; an object that is not there has.
        404 if kind.is_empty() => {
            format!("cannot {doing}: {server} does not know SyncExecutions: install the CRD (sync-operator crd | kubectl apply -f -)")
        }
        409 if status.is_already_exists() => format!("cannot {doing}: {said}: choose another --name, or leave it out for a generated one"),
        400 | 404 | 422 => format!("cannot {doing}: {said}"),
        429 | 500..=599 => format!("cannot {doing}: {server} says {}: {said}: try again", status.code),
        code => format!("cannot {doing}: {said} ({code})"),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{Status, response::StatusDetails};

    use super::*;

    fn api(code: u16, reason: &str, kind: &str) -> String {
        let details: StatusDetails = serde_json::from_value(serde_json::json!({"kind": kind})).unwrap();
        let status = Status::failure("said", reason).with_code(code).with_details(details).boxed();
        Failure::Refused { doing: "read".into(), server: "https://s".into(), source: Box::new(kube::Error::Api(status)) }.to_string()
    }

    #[test]
    fn each_refusal_has_its_remedy() {
        assert!(api(401, "Unauthorized", "").contains("log in again"));
        assert_eq!(api(403, "Forbidden", ""), "you may not read: said");
        assert!(api(404, "NotFound", "").contains("install the CRD"));
        assert_eq!(api(404, "NotFound", "syncexecutions"), "cannot read: said");
        assert!(api(404, "NotFound", "namespaces").contains("--namespace"));
        assert!(api(409, "AlreadyExists", "").contains("--name"));
        assert_eq!(api(422, "Invalid", ""), "cannot read: said");
        assert!(api(503, "", "").contains("try again"));
    }

    #[test]
    fn the_exit_code_tells_how_it_ended() {
        assert_eq!(Failure::Usage(String::new()).code(), 2);
        assert_eq!(Failure::NotWell(String::new()).code(), 1);
        assert_eq!(Failure::TimedOut(String::new()).code(), 124);
        assert_eq!(Failure::Interrupted(String::new()).code(), 130);
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).code(), 141);
    }
}

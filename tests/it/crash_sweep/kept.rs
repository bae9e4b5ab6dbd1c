//! A program that is started again when it dies, as a cluster would: first with a plan to die, then without. Knows nothing of
//! what the program is for.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::common::{PATIENCE, crash_points, eventually, program::Settings};

/// How often it is looked after.
const LOOK: Duration = Duration::from_millis(20);
/// What `abort` leaves.
const SIGABRT: i32 = 6;

/// It; killed when dropped.
pub struct Kept {
    listens: watch::Receiver<Option<String>>,
    first: watch::Receiver<Option<ExitStatus>>,
    terminate: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

impl Kept {
    /// Starts it with the settings `planned`; once that has ended, with `clean`.
    pub fn start(subcommand: &'static str, planned: Settings, clean: Settings) -> Self {
        let (tell, listens) = watch::channel(None);
        let (tell_first, first) = watch::channel(None);
        let terminate = Arc::new(Notify::new());
        let asked = Arc::clone(&terminate);
        let task = tokio::spawn(async move {
            let mut program = planned.start_of(crash_points::program(), subcommand);
            let status = loop {
                if let Some(status) = program.exited() {
                    break status;
                }
                if tell.borrow().is_none() {
                    tell.send_replace(program.listens());
                }
                tokio::select! {
                    () = asked.notified() => program.signal("TERM"),
                    () = tokio::time::sleep(LOOK) => {}
                }
            };
            tell.send_replace(None);
            let again = clean.start_of(crash_points::program(), subcommand);
            tell.send_replace(Some(again.address().await));
            tell_first.send_replace(Some(status));
            std::future::pending::<()>().await;
        });
        Self { listens, first, terminate, _task: AbortOnDropHandle::new(task) }
    }

    /// Asks the planned one to end, if it still runs.
    pub fn terminate(&self) {
        self.terminate.notify_one();
    }

    /// Waits until the one without a plan runs; whether the other one died by its plan. Panics if it ended in any other way than
    /// that or in peace.
    pub async fn restarted(&self) -> bool {
        let mut first = self.first.clone();
        let ended = tokio::time::timeout(PATIENCE, first.wait_for(Option::is_some)).await.expect("the planned program ends");
        let status = ended.unwrap().unwrap();
        let died = status.signal() == Some(SIGABRT);
        assert!(died || status.success(), "the planned program ended with {status}");
        died
    }

    /// Calls it as a worker or a person would: again, if there was no answer or 503. Status code and JSON body.
    pub async fn call(&self, method: Method, path: &str, headers: &[(&'static str, &str)], body: &Value) -> (u16, Value) {
        eventually(&format!("an answer to {method} {path}"), async || {
            let address = self.listens.borrow().clone()?;
            let mut request = reqwest::Client::new()
                .request(method.clone(), format!("http://{address}{path}"))
                .basic_auth("admin", Some("s3cret"))
                .timeout(PATIENCE)
                .json(body);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let response = request.send().await.ok()?;
            let code = response.status().as_u16();
            (code != 503).then_some((code, response.json().await.unwrap_or(Value::Null)))
        })
        .await
    }
}

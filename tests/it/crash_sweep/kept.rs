//! A program that is started again when it dies, as a cluster would: with one plan to die after the other, then without. Knows
//! nothing of what the program is for.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use reqwest::Method;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::common::{PATIENCE, crash_points, eventually, program::Settings};

/// How often it is looked after.
const LOOK: Duration = Duration::from_millis(20);
/// What `abort` leaves.
const SIGABRT: i32 = 6;

/// It; killed when dropped.
pub struct Kept {
    listens: watch::Receiver<Option<String>>,
    ends: watch::Receiver<Option<Vec<ExitStatus>>>,
    terminate: watch::Sender<bool>,
    _task: AbortOnDropHandle<()>,
}

impl Kept {
    /// Starts it with the first settings of `planned`; once that has ended, with the next; in the end with `clean`.
    pub fn start(subcommand: &'static str, planned: Vec<Settings>, clean: Settings) -> Self {
        let (tell, listens) = watch::channel(None);
        let (tell_ends, ends) = watch::channel(None);
        let terminate = watch::Sender::new(false);
        let asked = terminate.subscribe();
        let task = tokio::spawn(async move {
            let mut statuses = Vec::new();
            for planned in planned {
                let mut program = planned.start_of(crash_points::program(), subcommand);
                let mut told = false;
                statuses.push(loop {
                    if let Some(status) = program.exited() {
                        break status;
                    }
                    if tell.borrow().is_none() {
                        tell.send_replace(program.listens());
                    } else if *asked.borrow() && !told {
                        program.signal("TERM");
                        told = true;
                    }
                    tokio::time::sleep(LOOK).await;
                });
                tell.send_replace(None);
            }
            let again = clean.start_of(crash_points::program(), subcommand);
            tell.send_replace(Some(again.address().await));
            tell_ends.send_replace(Some(statuses));
            std::future::pending::<()>().await;
        });
        Self { listens, ends, terminate, _task: AbortOnDropHandle::new(task) }
    }

    /// Asks those with a plan to end.
    pub fn terminate(&self) {
        self.terminate.send_replace(true);
    }

    /// Waits until the one without a plan runs; how many of the others died by their plan. Panics if one ended in any other way
    /// than that or in peace.
    pub async fn restarted(&self) -> u64 {
        let mut ends = self.ends.clone();
        let ended = tokio::time::timeout(PATIENCE, ends.wait_for(Option::is_some)).await.expect("the programs with plans end");
        let statuses = ended.unwrap().clone().unwrap();
        let by_plan = |status: &ExitStatus| status.signal() == Some(SIGABRT);
        assert!(statuses.iter().all(|status| by_plan(status) || status.success()), "they ended with {statuses:?}");
        statuses.iter().filter(|status| by_plan(status)).count().try_into().unwrap()
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

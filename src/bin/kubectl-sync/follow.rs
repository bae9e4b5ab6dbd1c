//! A watch on SyncExecutions that outlives lost connections. It tells what it sees; what that means is decided elsewhere.

use futures::{Stream, StreamExt, future};
use kube::runtime::{WatchStreamExt, watcher};
use sync_operator::{crd::SyncExecution, kubernetes::describe};

use crate::{
    cluster::{Cluster, WATCH_SECONDS},
    failure::Failure,
};

/// What a watch tells.
#[derive(Debug)]
pub enum Step {
    /// An object as it is now.
    Seen(Box<SyncExecution>),
    /// An object was deleted; as it was last.
    Deleted(Box<SyncExecution>),
    /// All that is there has been told.
    Listed {
        /// Whether it was anything.
        any: bool,
    },
    /// The connection is lost; it is tried again.
    Trouble(String),
}

/// Follows one object, or all. Fails only while nothing was seen yet: what goes wrong later is tried again.
pub fn follow(cluster: &Cluster, all: bool, name: Option<&str>) -> impl Stream<Item = Result<Step, Failure>> + use<> {
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let config = if let Some(name) = name { config.fields(&format!("metadata.name={name}")) } else { config };
    let (server, mut listed, mut any) = (cluster.server.clone(), false, false);
    let drop_managed_fields = |object: &mut SyncExecution| object.metadata.managed_fields = None;
    watcher(cluster.objects(all), config).default_backoff().modify(drop_managed_fields).filter_map(move |event| {
        future::ready(match event {
            Ok(watcher::Event::Apply(object)) => Some(Ok(Step::Seen(Box::new(object)))),
            Ok(watcher::Event::InitApply(object)) => {
                any = true;
                Some(Ok(Step::Seen(Box::new(object))))
            }
            Ok(watcher::Event::Delete(object)) => Some(Ok(Step::Deleted(Box::new(object)))),
            Ok(watcher::Event::Init) => {
                any = false;
                None
            }
            Ok(watcher::Event::InitDone) => {
                listed = true;
                Some(Ok(Step::Listed { any }))
            }
            Err(error) => trouble(error, listed, &server),
        })
    })
}

fn trouble(error: watcher::Error, listed: bool, server: &str) -> Option<Result<Step, Failure>> {
    match error {
        // The server forgot how far the watch was: everything is told again.
        watcher::Error::WatchError(status) if status.code == 410 => None,
        watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source) if !listed => {
            Some(Err(Failure::Refused { doing: "watch SyncExecutions".to_owned(), server: server.to_owned(), source: Box::new(source) }))
        }
        watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source) | watcher::Error::WatchFailed(source) => {
            Some(Ok(Step::Trouble(describe(&source))))
        }
        other => Some(Ok(Step::Trouble(other.to_string()))),
    }
}

/// Tells each trouble of a watch once, until it works again.
#[derive(Debug, Default)]
pub struct Troubles {
    told: bool,
}

impl Troubles {
    /// What to print about it.
    pub fn line(&mut self, trouble: &str, server: &str) -> Option<String> {
        let first = !self.told;
        self.told = true;
        first.then(|| format!("the connection to {server} is lost, trying again: {trouble}"))
    }

    /// Something was seen.
    pub fn over(&mut self) {
        self.told = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_once_until_it_is_over() {
        let mut troubles = Troubles::default();
        assert!(troubles.line("refused", "s").unwrap().contains("trying again: refused"));
        assert_eq!(troubles.line("refused again", "s"), None);
        troubles.over();
        assert!(troubles.line("refused", "s").is_some());
    }
}

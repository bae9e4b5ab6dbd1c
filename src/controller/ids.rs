//! An id that an object shows is never given to another execution. After a restore the database would give it again, and a worker
//! that still holds the message of the lost one would report on the wrong execution. Decides nothing about objects.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    backoff::Backoff,
    store::{Error, Store},
};

/// Whether ids may be given: not before it is known which ones the objects show.
#[derive(Clone)]
pub struct Ids(watch::Receiver<bool>);

impl Ids {
    /// Starts as "no"; `highest` is the highest execution id that any object shows, once all are listed.
    pub(super) fn new(store: Store, highest: watch::Receiver<Option<i64>>, stop: CancellationToken) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = watch::channel(false);
        (Self(receiver), settle(store, highest, sender, stop))
    }

    /// Whether ids may be given now.
    #[must_use]
    pub fn may_be_given(&self) -> bool {
        *self.0.borrow()
    }
}

/// Ids up to this one are not given any more.
///
/// # Errors
/// [`Error`].
pub(super) async fn never_again(store: &Store, id: i64) -> Result<(), Error> {
    let skipped = store.skip_ids_up_to(id).await?;
    if skipped > 0 {
        warn!(execution.id = id, skipped, "the database is older than what an object shows, as after a restore: new ids go on after that");
    }
    Ok(())
}

async fn settle(store: Store, mut highest: watch::Receiver<Option<i64>>, may: watch::Sender<bool>, stop: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    let known = tokio::select! {
        () = stop.cancelled() => return,
        known = highest.wait_for(Option::is_some) => known.ok().and_then(|known| *known),
    };
    let Some(highest) = known else { return };
    while let Err(error) = never_again(&store, highest).await {
        warn!(error = %error, "nothing new is recorded before it is known which ids may be given; trying again");
        tokio::select! {
            () = stop.cancelled() => return,
            () = backoff.wait() => {}
        }
    }
    may.send_replace(true);
}

//! Which object is looked at next: each at most once at a time, so many at a time, as soon as asked or after a wait. One that
//! takes long or fails holds up no other. Knows nothing of what looking at means.

use std::{collections::HashSet, pin::pin, time::Duration};

use futures::{StreamExt, channel::mpsc, stream::FuturesUnordered};
use kube::runtime::scheduler::{ScheduleRequest, scheduler};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::object::Key;

/// Objects looked at at a time: enough to fill a batch while the one before is on its way.
const CONCURRENCY: usize = 512;

/// Asks for looks. Cheap to clone.
#[derive(Clone)]
pub struct Queue(mpsc::UnboundedSender<ScheduleRequest<Key>>);

/// What was asked for. Not bounded, but emptied at once into a set with each object once.
pub struct Asked(mpsc::UnboundedReceiver<ScheduleRequest<Key>>);

/// A queue, and the end to run it by.
#[must_use]
pub fn queue() -> (Queue, Asked) {
    let (sender, receiver) = mpsc::unbounded();
    (Queue(sender), Asked(receiver))
}

impl Queue {
    /// As soon as there is room.
    pub fn soon(&self, key: Key) {
        self.after(key, Duration::ZERO);
    }

    /// After that wait; earlier if somebody else asks for it.
    pub fn after(&self, key: Key, wait: Duration) {
        let _ = self.0.unbounded_send(ScheduleRequest { message: key, run_at: Instant::now() + wait });
    }
}

/// Looks at what is asked for until `stop`; what is under way then ends. `look` says after how long to look again.
pub async fn run<Look: Future<Output = Option<Duration>>>(queue: Queue, asked: Asked, look: impl Fn(Key) -> Look, stop: CancellationToken) {
    let mut scheduler = pin!(scheduler(asked.0));
    let mut under_way = FuturesUnordered::new();
    let mut busy: HashSet<Key> = HashSet::new();
    loop {
        let room = busy.len() < CONCURRENCY;
        let next = async {
            if room {
                scheduler.as_mut().hold_unless(|key| !busy.contains(key)).next().await
            } else {
                // Takes in what is asked for, and gives nothing.
                scheduler.as_mut().hold().next().await
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            Some((key, again)) = under_way.next(), if !busy.is_empty() => {
                busy.remove(&key);
                if let Some(wait) = again {
                    queue.after(key, wait);
                }
            }
            Some(key) = next => {
                busy.insert(key.clone());
                let look = look(key.clone());
                under_way.push(async move { (key, look.await) });
            }
        }
    }
    while under_way.next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn one_that_hangs_holds_up_no_other_and_is_never_looked_at_twice_at_once() {
        let (queue, asked) = queue();
        let (stop, released, looked) = (CancellationToken::new(), Notify::new(), Mutex::new(Vec::new()));
        let look = async |key: Key| {
            looked.lock().unwrap().push(key.name.to_string());
            match &*key.name {
                "hangs" => released.notified().await,
                "b" => stop.cancel(),
                // While the first hangs, it is asked for again, and another one is.
                _ => {
                    queue.soon(Key::new("ns", "hangs"));
                    queue.soon(Key::new("ns", "b"));
                }
            }
            None
        };
        for name in ["hangs", "hangs", "a", "a"] {
            queue.soon(Key::new("ns", name));
        }
        let release = async {
            stop.cancelled().await;
            released.notify_one();
        };
        tokio::join!(run(queue.clone(), asked, look, stop.clone()), release);
        let mut looked = looked.into_inner().unwrap();
        looked.sort_unstable();
        assert_eq!(looked, ["a", "b", "hangs"]);
    }

    #[tokio::test]
    async fn it_is_looked_at_again_after_the_wait_that_was_asked_for() {
        let (queue, asked) = queue();
        let (stop, began, looked) = (CancellationToken::new(), Instant::now(), Mutex::new(0));
        let look = async |_: Key| {
            let mut looked = looked.lock().unwrap();
            *looked += 1;
            if *looked == 3 {
                stop.cancel();
            }
            Some(Duration::from_millis(20))
        };
        queue.soon(Key::new("ns", "x"));
        run(queue.clone(), asked, look, stop.clone()).await;
        assert!(began.elapsed() >= Duration::from_millis(40));
    }
}

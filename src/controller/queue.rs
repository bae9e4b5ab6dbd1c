//! Which object is looked at next: each at most once at a time, so many at a time, as soon as asked or after a wait. One that
//! takes long or fails holds up no other. Knows nothing of what looking at means.

use std::{
    collections::{HashSet, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, channel::mpsc, stream::FuturesUnordered};
use kube::runtime::scheduler::{ScheduleRequest, scheduler};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::object::Key;

/// Objects looked at at a time: enough to fill a batch while the one before is on its way.
const CONCURRENCY: usize = 512;

/// Asks for looks. Cheap to clone: all clones are one.
#[derive(Clone, Default)]
pub struct Queue(Arc<Inner>);

#[derive(Default)]
struct Inner {
    asked: Mutex<Asked>,
    /// Whenever something is asked.
    more: Notify,
}

/// What is asked for and not begun, each object once, in the order of asking. At a start that is every object.
#[derive(Default)]
struct Asked {
    order: VecDeque<Key>,
    all: HashSet<Key>,
}

impl Asked {
    fn take(&mut self) -> Option<Key> {
        let key = self.order.pop_front()?;
        self.all.remove(&key);
        if self.order.is_empty() {
            self.order.shrink_to(CONCURRENCY);
            self.all.shrink_to(CONCURRENCY);
        }
        Some(key)
    }
}

impl Queue {
    /// Has an object looked at as soon as there is room.
    pub fn soon(&self, key: Key) {
        let mut asked = self.asked();
        if asked.all.insert(key.clone()) {
            asked.order.push_back(key);
            self.0.more.notify_one();
        }
    }

    /// What was asked for first, when there is something. For one caller only.
    async fn first(&self) -> Key {
        loop {
            if let Some(key) = self.asked().take() {
                return key;
            }
            self.0.more.notified().await;
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at what is asked for until `stop`; what is under way then ends. `look` says after how long to look again; earlier if
/// somebody asks for it.
pub async fn run<Look: Future<Output = Option<Duration>>>(queue: Queue, look: impl Fn(Key) -> Look, stop: CancellationToken) {
    // Before any time of the scheduler: it gives the object at once, and drops a later time that it has for it.
    let over = Instant::now();
    let (times, requests) = mpsc::unbounded();
    let mut scheduler = pin!(scheduler(requests));
    let at = |message, run_at| {
        let _ = times.unbounded_send(ScheduleRequest { message, run_at });
    };
    let mut under_way = FuturesUnordered::new();
    let mut busy: HashSet<Key> = HashSet::new();
    loop {
        let room = busy.len() < CONCURRENCY;
        tokio::select! {
            // What ends makes room, and one that is asked for is begun before the next one is taken.
            biased;
            () = stop.cancelled() => break,
            Some((key, again)) = under_way.next(), if !busy.is_empty() => {
                busy.remove(&key);
                if let Some(wait) = again {
                    at(key, Instant::now() + wait);
                }
            }
            Some(key) = async { scheduler.as_mut().hold_unless(|key| !busy.contains(key)).next().await }, if room => {
                busy.insert(key.clone());
                let look = look(key.clone());
                under_way.push(async move { (key, look.await) });
            }
            key = queue.first(), if room => at(key, over),
        }
    }
    while under_way.next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_hangs_holds_up_no_other_and_is_never_looked_at_twice_at_once() {
        let (queue, stop, released, looked) = (Queue::default(), CancellationToken::new(), Notify::new(), Mutex::new(Vec::new()));
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
        tokio::join!(run(queue.clone(), look, stop.clone()), release);
        let mut looked = looked.into_inner().unwrap();
        looked.sort_unstable();
        assert_eq!(looked, ["a", "b", "hangs"]);
    }

    #[tokio::test]
    async fn it_is_looked_at_again_after_the_wait_that_was_asked_for() {
        let (queue, stop, began, looked) = (Queue::default(), CancellationToken::new(), Instant::now(), Mutex::new(0));
        let look = async |_: Key| {
            let mut looked = looked.lock().unwrap();
            *looked += 1;
            if *looked == 3 {
                stop.cancel();
            }
            Some(Duration::from_millis(20))
        };
        queue.soon(Key::new("ns", "x"));
        run(queue.clone(), look, stop.clone()).await;
        assert!(began.elapsed() >= Duration::from_millis(40));
    }

    #[tokio::test]
    async fn what_is_asked_for_is_begun_in_the_order_of_asking_each_once() {
        let (queue, stop, looked) = (Queue::default(), CancellationToken::new(), Mutex::new(Vec::new()));
        let look = async |key: Key| {
            looked.lock().unwrap().push(key.name.to_string());
            if &*key.name == "last" {
                stop.cancel();
            }
            None
        };
        let asked: Vec<String> = (0..2_000).map(|number| number.to_string()).chain(["last".to_owned()]).collect();
        for name in asked.iter().chain(&asked) {
            queue.soon(Key::new("ns", name));
        }
        run(queue.clone(), look, stop.clone()).await;
        assert_eq!(*looked.lock().unwrap(), asked);
        assert!(queue.asked().order.capacity() <= CONCURRENCY, "room for all objects is kept when none waits");
    }

    #[tokio::test]
    async fn one_that_is_looked_at_earlier_is_not_looked_at_once_more_at_the_later_time() {
        let (queue, stop, looked) = (Queue::default(), CancellationToken::new(), Mutex::new(Vec::new()));
        let look = async |key: Key| {
            looked.lock().unwrap().push(key.name.to_string());
            match (&*key.name, looked.lock().unwrap().len()) {
                // The one object waits for a time of its own, and is asked for at once by the look at the other.
                ("waits", 1) => return Some(Duration::from_millis(20)),
                ("ends", 2) => {
                    queue.soon(Key::new("ns", "waits"));
                    return Some(Duration::from_millis(40));
                }
                ("ends", _) => stop.cancel(),
                _ => {}
            }
            None
        };
        queue.soon(Key::new("ns", "waits"));
        queue.soon(Key::new("ns", "ends"));
        run(queue.clone(), look, stop.clone()).await;
        assert_eq!(looked.into_inner().unwrap(), ["waits", "ends", "waits", "ends"]);
    }
}

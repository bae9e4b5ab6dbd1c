//! Reads that are the same share one answer. While one is under way, those that come meanwhile wait for the next, which is made
//! once for all of them: so no answer is older than its request, and however many look at a dashboard, the record is asked
//! twice at a time at most. Knows no endpoint.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    body::{self, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::oneshot;

use super::error::ApiError;

/// Reads under way, by what is asked; with those that wait for the one after it. Cheap to clone: all clones are one.
#[derive(Clone, Default)]
pub struct Reads(Arc<Mutex<HashMap<String, Vec<Waiting>>>>);

type Waiting = oneshot::Sender<Turn>;

/// What becomes of a request.
enum Turn {
    /// It reads, for itself and for others.
    Read(Reader),
    /// Another one read for it.
    Answered(Answer),
}

/// An answer that can be given more than once.
#[derive(Clone)]
struct Answer(StatusCode, HeaderMap, Bytes);

/// The right to read. When it is dropped, the next one has it, broken off or not.
struct Reader {
    reads: Reads,
    key: String,
    /// Those that came before this read began.
    others: Vec<Waiting>,
}

/// Answers the request, by itself or by that of another one.
pub async fn share(State(reads): State<Reads>, request: Request, next: Next) -> Response {
    // The caller is no part of it: there is one administrator, and all see the same.
    let key = format!("{} {}", request.method(), request.uri());
    let reader = match reads.turn(key).await {
        Ok(Turn::Read(reader)) => reader,
        Ok(Turn::Answered(Answer(status, headers, body))) => return (status, headers, body).into_response(),
        Err(_) => return ApiError::Unavailable("no answer in time: try again later".to_owned()).into_response(),
    };
    let (parts, body) = next.run(request).await.into_parts();
    let Ok(body) = body::to_bytes(body, usize::MAX).await else {
        return ApiError::Internal("the answer broke off".to_owned()).into_response();
    };
    reader.answer(&Answer(parts.status, parts.headers.clone(), body.clone()));
    Response::from_parts(parts, body.into())
}

impl Reads {
    async fn turn(&self, key: String) -> Result<Turn, oneshot::error::RecvError> {
        let receiver = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(waiting) = all.get_mut(&key) else {
                all.insert(key.clone(), Vec::new());
                return Ok(Turn::Read(Reader { reads: self.clone(), key, others: Vec::new() }));
            };
            let (sender, receiver) = oneshot::channel();
            waiting.push(sender);
            receiver
        };
        receiver.await
    }
}

impl Reader {
    fn answer(mut self, answer: &Answer) {
        for other in mem::take(&mut self.others) {
            let _ = other.send(Turn::Answered(answer.clone()));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut all = self.reads.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = all.get_mut(&self.key).map(mem::take).unwrap_or_default();
        let mut next = mem::take(&mut self.others).into_iter().chain(waiting).filter(|waiting| !waiting.is_closed());
        let Some(first) = next.next() else {
            all.remove(&self.key);
            return;
        };
        let reader = Self { reads: self.reads.clone(), key: mem::take(&mut self.key), others: next.collect() };
        drop(all);
        // If that one is gone by now, the right comes back, and is dropped here: then the one after it has it.
        let _ = first.send(Turn::Read(reader));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use axum::{Router, middleware, routing::get};
    use tokio::{sync::Semaphore, task::JoinSet, time::sleep};
    use tower::ServiceExt;

    use super::*;

    /// A record that counts how often it was read, and answers only when it may.
    #[derive(Default)]
    struct Record {
        reads: AtomicU32,
        version: AtomicU32,
        may: Option<Semaphore>,
    }

    fn router(record: &Arc<Record>) -> Router {
        let record = Arc::clone(record);
        let read = async move || {
            record.reads.fetch_add(1, Ordering::SeqCst);
            let version = record.version.load(Ordering::SeqCst);
            if let Some(may) = &record.may {
                may.acquire().await.unwrap().forget();
            } else {
                sleep(Duration::from_millis(1)).await;
            }
            version.to_string()
        };
        Router::new().route("/", get(read)).route_layer(middleware::from_fn_with_state(Reads::default(), share))
    }

    async fn ask(router: Router, query: &str) -> u32 {
        let request = Request::get(format!("/?{query}")).body(body::Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        String::from_utf8(body::to_bytes(response.into_body(), 100).await.unwrap().to_vec()).unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn what_comes_while_one_reads_is_read_once_after_it_and_other_questions_are_not_held_up() {
        let record = Arc::new(Record { may: Some(Semaphore::new(0)), ..Record::default() });
        let router = router(&record);
        let first = tokio::spawn(ask(router.clone(), "a"));
        while record.reads.load(Ordering::SeqCst) < 1 {
            tokio::task::yield_now().await;
        }
        record.version.store(1, Ordering::SeqCst);
        let mut later = JoinSet::new();
        for _ in 0..20 {
            later.spawn(ask(router.clone(), "a"));
        }
        let other = tokio::spawn(ask(router.clone(), "b"));
        while record.reads.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        record.may.as_ref().unwrap().add_permits(3);
        assert_eq!((first.await.unwrap(), other.await.unwrap()), (0, 1));
        assert_eq!(later.join_all().await, [1; 20], "what was written before they came is in their answers");
        assert_eq!(record.reads.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_read_that_is_broken_off_leaves_its_turn_to_the_next() {
        let record = Arc::new(Record { may: Some(Semaphore::new(0)), ..Record::default() });
        let router = router(&record);
        let mut waiting: Vec<_> = (0..3).map(|_| tokio::spawn(ask(router.clone(), ""))).collect();
        while record.reads.load(Ordering::SeqCst) < 1 {
            tokio::task::yield_now().await;
        }
        waiting.remove(0).abort();
        while record.reads.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        waiting.remove(0).abort();
        while record.reads.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        record.may.as_ref().unwrap().add_permits(2);
        assert_eq!(waiting.remove(0).await.unwrap(), 0);
        assert_eq!(ask(router, "").await, 0, "nobody waits for one that is gone");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_answer_is_older_than_its_request() {
        let record = Arc::new(Record::default());
        let router = router(&record);
        let mut clients = JoinSet::new();
        for _ in 0..16 {
            let (record, router) = (Arc::clone(&record), router.clone());
            clients.spawn(async move {
                for _ in 0..50 {
                    let written = record.version.fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(ask(router.clone(), "").await >= written);
                }
            });
        }
        clients.join_all().await;
        let reads = record.reads.load(Ordering::SeqCst);
        assert!(reads < 16 * 50 / 2, "{reads} reads for 800 requests");
    }
}

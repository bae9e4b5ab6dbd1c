//! What every test needs: a [`World`] of its own on the shared servers, the program as [`Program`]s, a [`Worker`] that reads
//! the queue as the one in production does, and a [`Proxy`] to break connections with.

pub mod account;
pub mod certificates;
pub mod command;
pub mod crash_points;
pub mod faults;
pub mod helm;
pub mod http;
pub mod invariants;
pub mod mount;
pub mod node;
pub mod objects;
pub mod plugin;
pub mod previous;
pub mod private;
pub mod program;
pub mod proxy;
pub mod release;
pub mod stack;
pub mod stand_in;
pub mod worker;
pub mod world;

use std::{future::Future, time::Duration};

/// The longest any single thing is waited for.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until `probe` gives a value, looking again and again; panics with `what` when patience ends.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "gave up waiting: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

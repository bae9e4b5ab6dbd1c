//! Signals: the first asks for a drain, the second ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::crash;

/// Exit code of an aborted drain: 128 + SIGTERM, as shells count.
const ABORTED: i32 = 143;

/// A token that the first SIGTERM or SIGINT cancels.
///
/// # Errors
/// When the process may not install signal handlers.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = stop.clone();
    tokio::spawn(async move {
        let next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let mut next = next;
        next().await;
        info!("shutting down: finishing what is under way; a second signal aborts");
        crash::drain_begins();
        token.cancel();
        next().await;
        warn!("aborted by a second signal");
        std::process::exit(ABORTED);
    });
    Ok(stop)
}

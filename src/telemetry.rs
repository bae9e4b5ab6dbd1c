//! Logs: one line per event on standard error, as text or JSON.

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt, util::SubscriberInitExt};

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object per line.
    Json,
}

/// Turns logging on. `level` is a level or a filter like `info,sync_operator=debug`.
///
/// # Errors
/// What is wrong with the filter.
pub fn start(level: &str, format: LogFormat) -> Result<(), String> {
    // A bare word that is no level would be taken for the name of a part of the program, and silence all others.
    if let Some(word) = level.split(',').map(str::trim).find(|part| !part.contains('=') && part.parse::<LevelFilter>().is_err()) {
        return Err(format!("`{word}` is no level"));
    }
    // These log every failed connect that we log ourselves, with what we know about it.
    let filter = EnvFilter::try_new(format!(
        "{level},lapin=off,kube_client::client::builder=off,amq_protocol=off,async_rs=off,sqlx::postgres::notice=warn"
    ))
    .map_err(|error| error.to_string())?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .map_err(|error| error.to_string())
}

//! Installs the TLS provider, parses, runs one subcommand, turns its outcome into an exit code. Nothing else.

use std::process::ExitCode;

use clap::Parser;
use sync_operator::cli::{Cli, Failure};

#[tokio::main]
pub(crate) async fn main() -> ExitCode {
    // Before anything opens a connection: two crates could each bring a provider of their own.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("error: another TLS provider was installed first");
        return ExitCode::FAILURE;
    }
    match Box::pin(Cli::parse().run()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Setting(text)) => {
            eprintln!("error: {text}");
            ExitCode::from(2)
        }
        Err(Failure::Run(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

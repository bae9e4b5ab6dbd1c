//! Installs the TLS provider, parses, runs one subcommand on the threads that it wants, turns its outcome into an exit code.
//! Nothing else.

use std::process::ExitCode;

use clap::Parser;
use sync_operator::cli::{Cli, Failure};
use tokio::runtime::Builder;

pub(crate) fn main() -> ExitCode {
    // Before anything opens a connection: two crates could each bring a provider of their own.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("error: another TLS provider was installed first");
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    let mut runtime = if cli.wants_threads() { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(Box::pin(cli.run())) {
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

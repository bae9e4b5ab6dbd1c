//! `kubectl sync`: force, follow and look at SyncExecutions by the Kubernetes API alone, with the user's kubeconfig. Installs
//! the TLS provider, answers the shell's completion, runs one subcommand, turns its outcome into an exit code.

mod advice;
mod age;
mod cli;
mod cluster;
mod complete;
mod describe;
mod failure;
mod follow;
mod force;
mod history;
mod outcome;
mod output;
mod progress;
mod report;
mod status;
mod table;
mod version;
mod wait;
mod watch;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("error: another TLS provider was installed first");
        return ExitCode::FAILURE;
    }
    if complete::answer() {
        return ExitCode::SUCCESS;
    }
    let arguments = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(arguments.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell();
            ExitCode::from(failure.code())
        }
    }
}

//! Measures sync-operator beside its ceilings and its peers, in one run, and writes bench/RESULTS.md. `hack/bench` builds all
//! that is measured and starts the servers; this program starts nothing but what it measures.

mod api_server;
mod broker;
mod ceiling;
mod client;
mod figures;
mod http_load;
mod load;
mod machine;
mod observer;
mod options;
mod pgbench;
mod place;
mod process;
mod report;
mod rest_requests;
mod results;
mod rows;
mod stack;
mod subject;
mod targets;
mod worker;

use anyhow::{Context, Result};
use clap::Parser;

use options::{Command, Options};

#[tokio::main]
async fn main() -> Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok().context("another TLS provider was installed first")?;
    let options = Options::parse();
    match &options.command {
        Command::Run { figures } => figures::run(&options, figures).await,
        Command::Report { file } => report::write(&options, file),
    }
}

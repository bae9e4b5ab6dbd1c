//! Subcommands. Each is a module with its flags; this one only says which there are.

use clap::{Parser, Subcommand};

use crate::{
    cluster::ClusterFlags,
    complete::{self, CompletionArgs, ManArgs},
    describe::{self, DescribeArgs},
    failure::Failure,
    force::{self, ForceCommand},
    history::{self, HistoryArgs},
    report::{self, ReportArgs},
    status::{self, StatusArgs},
    version::{self, VersionArgs},
    wait::{self, WaitArgs},
    watch::{self, WatchArgs},
};

/// Exit codes, for --help and the manual.
const EXIT_CODES: &str = "Exit codes: 0 success; 1 the execution failed or was cancelled, or the cluster refused; 2 wrong usage; \
                          124 --timeout passed; 130 Ctrl-C.";

/// Forces, follows and shows data-sync executions.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-sync",
    bin_name = "kubectl sync",
    version,
    after_long_help = EXIT_CODES,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Verb,
    #[command(flatten)]
    cluster: ClusterFlags,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Ask for a sync now, and wait for its end if you like.
    Force {
        #[command(subcommand)]
        command: ForceCommand,
    },
    /// Wait until executions have ended.
    Wait(WaitArgs),
    /// Show what is going on, or how one execution stands.
    Status(StatusArgs),
    /// List executions, the newest first.
    History(HistoryArgs),
    /// Print a line for each change of an execution, or of all.
    Watch(WatchArgs),
    /// Show all about one execution, and what to do next.
    Describe(DescribeArgs),
    /// Collect what support needs into a file, without secrets.
    Report(ReportArgs),
    /// Print what makes TAB complete.
    Completion(CompletionArgs),
    /// Print versions of client and server.
    Version(VersionArgs),
    /// Write the manual pages.
    #[command(hide = true)]
    Man(ManArgs),
}

impl Cli {
    /// Runs the subcommand to its end.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn run(self) -> Result<(), Failure> {
        let flags = &self.cluster;
        match &self.command {
            Verb::Force { command } => force::run(command, flags).await,
            Verb::Wait(args) => wait::run(args, &flags.connect().await?).await,
            Verb::Status(args) => status::run(args, &flags.connect().await?).await,
            Verb::History(args) => history::run(args, &flags.connect().await?).await,
            Verb::Watch(args) => watch::run(args, &flags.connect().await?).await,
            Verb::Describe(args) => describe::run(args, &flags.connect().await?).await,
            Verb::Report(args) => report::run(args, &flags.connect().await?).await,
            Verb::Completion(args) => complete::script(args),
            Verb::Version(args) => version::run(args, flags).await,
            Verb::Man(args) => complete::man(args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_names_it_as_people_type_it() {
        let usage = Cli::command().render_long_help().to_string();
        assert!(usage.starts_with("Forces, follows and shows") && usage.contains("Usage: kubectl sync "), "{usage}");
        let error = Cli::try_parse_from(["kubectl-sync", "force", "backfill"]).unwrap_err().to_string();
        assert!(error.contains("Usage: kubectl sync force backfill "), "{error}");
    }
}

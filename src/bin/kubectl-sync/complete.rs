//! Completion: one engine for the shells and for kubectl, which asks `kubectl_complete-sync` and wants Cobra's format. Names of
//! objects come from the cluster that the flags on the line choose. Also the scripts and the manual pages.

use std::{
    ffi::{OsStr, OsString},
    io::Write,
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Command, CommandFactory, FromArgMatches, ValueEnum};
use clap_complete::{
    CompleteEnv,
    engine::{ArgValueCompleter, CompletionCandidate, complete},
    env::Shells,
};
use kube::{ResourceExt, api::ListParams};
use tokio::time::timeout;

use crate::{
    cli::Cli,
    cluster::ClusterFlags,
    failure::Failure,
    output::{plain, print},
};

/// The variable by which a shell's script asks.
const VARIABLE: &str = "KUBECTL_SYNC_COMPLETE";
/// The word by which kubectl's script asks.
const WORD: &str = "__complete";
/// Nobody who pressed TAB waits longer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most names that are offered.
const NAMES: u32 = 500;
/// Cobra's directives: offer no files, add no space.
const NO_FILES: u8 = 4;
const NO_SPACE: u8 = 2;

/// `kubectl sync completion`.
#[derive(Args, Debug)]
pub struct CompletionArgs {
    /// bash, zsh, fish: a script to source, for kubectl-sync. kubectl: the executable kubectl_complete-sync, for "kubectl sync".
    #[arg(value_enum)]
    what: Completer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Completer {
    Bash,
    Zsh,
    Fish,
    Kubectl,
}

/// `kubectl sync man`.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// Folder to write a page for each command to; the first page on standard output if not given.
    #[arg(value_hint = clap::ValueHint::DirPath)]
    directory: Option<PathBuf>,
}

/// Prints a script.
///
/// # Errors
/// That it cannot be written.
pub fn script(args: &CompletionArgs) -> Result<(), Failure> {
    let shell = match args.what {
        Completer::Bash => "bash",
        Completer::Zsh => "zsh",
        Completer::Fish => "fish",
        Completer::Kubectl => {
            return print(&format!(
                "#!/bin/sh\n# Asked by kubectl for the completion of \"kubectl sync\".\nexec kubectl-sync {WORD} \"$@\""
            ));
        }
    };
    let mut script = Vec::new();
    if let Some(completer) = Shells::builtins().completer(shell) {
        completer.write_registration(VARIABLE, "kubectl-sync", "kubectl-sync", "kubectl-sync", &mut script)?;
    }
    std::io::stdout().write_all(&script).map_err(Failure::from)
}

/// Writes the manual.
///
/// # Errors
/// That it cannot be written.
pub fn man(args: &ManArgs) -> Result<(), Failure> {
    match &args.directory {
        Some(directory) => {
            std::fs::create_dir_all(directory)?;
            clap_mangen::generate_to(Cli::command(), directory)?;
        }
        None => clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?,
    }
    Ok(())
}

/// Answers a shell or kubectl, if it is one of them who asks; whether it was.
pub fn answer() -> bool {
    CompleteEnv::with_factory(|| command(&words_of_shell())).var(VARIABLE).complete();
    let mut words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_none_or(|word| word != WORD) {
        return false;
    }
    words.remove(1);
    let at = words.len().saturating_sub(1).max(1);
    let candidates = complete(&mut command(&words), words, at, std::env::current_dir().ok().as_deref()).unwrap_or_default();
    // Nobody is there to be told that the other side has gone.
    let _ = print(&cobra(&candidates));
    true
}

/// Candidates as Cobra's commands tell them.
fn cobra(candidates: &[CompletionCandidate]) -> String {
    let mut lines: Vec<String> = candidates
        .iter()
        .filter(|candidate| !candidate.is_hide_set())
        .map(|candidate| {
            let help = candidate.get_help().map(|help| format!("\t{}", plain(&help.to_string()))).unwrap_or_default();
            format!("{}{help}", candidate.get_value().to_string_lossy())
        })
        .collect();
    let folder = lines.iter().any(|line| line.ends_with('/'));
    lines.push(format!(":{}", if folder { NO_FILES | NO_SPACE } else { NO_FILES }));
    lines.join("\n")
}

/// What is on the line, as the scripts of shells pass it.
fn words_of_shell() -> Vec<OsString> {
    std::env::args_os().skip_while(|word| word != "--").skip(1).collect()
}

/// The command with names of objects from the cluster that the words choose.
fn command(words: &[OsString]) -> Command {
    let mut command = Cli::command();
    for (subcommand, argument) in [("wait", "names"), ("status", "name"), ("watch", "name"), ("describe", "name")] {
        let words = words.to_vec();
        let names = ArgValueCompleter::new(move |start: &OsStr| names(&words, &start.to_string_lossy()));
        command = command.mut_subcommand(subcommand, |command| command.mut_arg(argument, |argument| argument.add(names)));
    }
    command
}

fn names(words: &[OsString], start: &str) -> Vec<CompletionCandidate> {
    let Ok(matches) = Cli::command().ignore_errors(true).try_get_matches_from(words) else { return Vec::new() };
    let mut deepest = &matches;
    while let Some((_, matches)) = deepest.subcommand() {
        deepest = matches;
    }
    let Ok(flags) = ClusterFlags::from_arg_matches(deepest) else { return Vec::new() };
    let list = async {
        let cluster = flags.connect().await.ok()?;
        let names = cluster.objects(false).list_metadata(&ListParams::default().limit(NAMES)).await.ok()?;
        Some(names.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>())
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let names = runtime.block_on(async { timeout(PATIENCE, list).await }).ok().flatten().unwrap_or_default();
    names.into_iter().filter(|name| name.starts_with(start)).map(CompletionCandidate::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_told_as_cobra_does() {
        let candidates = [CompletionCandidate::new("wait").help(Some("Wait for\nthe end".into())), CompletionCandidate::new("watch")];
        assert_eq!(cobra(&candidates), "wait\tWait for the end\nwatch\n:4");
        assert_eq!(cobra(&[CompletionCandidate::new("folder/")]), "folder/\n:6");
        assert_eq!(cobra(&[]), ":4");
    }
}

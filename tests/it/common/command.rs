//! The program as a command that ends by itself: what it said and how it ended.

use std::{path::Path, process::Stdio};

use tokio::{process::Command, time::timeout};

use super::{PATIENCE, program::Settings};

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Settings {
    /// The same without one variable.
    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// Runs `sync-operator ARGUMENTS…` to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_of(Path::new(env!("CARGO_BIN_EXE_sync-operator")), arguments).await
    }

    /// The same with the program of another release.
    pub async fn run_of(&self, program: &Path, arguments: &[&str]) -> Ended {
        let command =
            Command::new(program).args(arguments).env_clear().envs(&self.variables).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = timeout(PATIENCE, command).await.unwrap_or_else(|_| panic!("{arguments:?} did not end")).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs `sync-operator ARGUMENTS…`; what it printed. Panics unless it succeeds.
    pub async fn succeed(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.err);
        ended.out
    }
}

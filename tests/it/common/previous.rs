//! The release before this one, as `hack/previous` builds it.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The folder with its program and its chart. Builds them if they are not there yet.
fn directory() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/previous");
        let output = Command::new(script).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{script} failed; its words are above");
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}

/// Its program.
pub fn program() -> PathBuf {
    directory().join("sync-operator")
}

/// Its chart.
pub fn chart() -> PathBuf {
    directory().join("chart")
}

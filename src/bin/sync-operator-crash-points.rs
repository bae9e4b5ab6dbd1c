//! The program with crash points, for `hack/crash-sweep`. Only how it is built differs: it is main.rs.

use std::process::ExitCode;

#[path = "../main.rs"]
mod program;

fn main() -> ExitCode {
    program::main()
}

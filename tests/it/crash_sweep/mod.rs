//! The program dies before and after each of its side effects, does each of them twice, dies while it drains; and nothing is
//! lost. A part of it is run with the other tests, all of it by `hack/crash-sweep`, which prints the table.

mod history;
mod kept;
mod outside;
mod plans;
mod run;
mod table;
mod workload;

use crate::common::{crash_points, faults::Fault};

use self::{
    plans::{CONTROLLER, Lane},
    run::{Job, Process},
    table::Table,
};

/// Names that only the program with crash points knows.
const NAMES: [&str; 3] = ["SYNC_CRASH_PLAN", "SYNC_CRASH_TRACE", "SYNC_CRASH_CLAIM_SECONDS"];

#[test]
fn the_released_program_has_no_crash_points() {
    let knows = |program: &std::path::Path, name: &str| {
        let bytes = std::fs::read(program).unwrap();
        bytes.windows(name.len()).any(|window| window == name.as_bytes())
    };
    for name in NAMES {
        assert!(!knows(env!("CARGO_BIN_EXE_sync-operator").as_ref(), name), "{name}");
        assert!(knows(crash_points::program(), name), "{name}: this test looks for the wrong name");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_work_of_the_sweep_meets_every_kind_of_effect_and_without_a_crash_nothing_comes_twice() {
    let outcome = run::run(Job { process: Process::Controller, plans: Vec::new(), interrupted: None }).await;
    assert_eq!((outcome.effects, outcome.violations, outcome.duplicates), (CONTROLLER.map(str::to_owned).into(), Vec::new(), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_the_first_of_each_kind_of_effect_nothing_is_lost() {
    let table = Table::of(plans::representative()).await;
    println!("{table}");
    table.holds();
    C1.held(&table.seen(Lane::is_crash), table.duplicates(Lane::is_crash));
    C2.held(&table.seen(Lane::is_drain), table.duplicates(Lane::is_drain));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a quarter of an hour: hack/crash-sweep"]
async fn killed_at_every_point_nothing_is_lost() {
    let table = Table::of(plans::all()).await;
    println!("{table}");
    table.holds();
    C1.held(&table.seen(Lane::is_crash), table.duplicates(Lane::is_crash));
    C2.held(&table.seen(Lane::is_drain), table.duplicates(Lane::is_drain));
}

const C1: Fault = Fault {
    row: "C1",
    fault: "The program dies before or after a side effect, or does it twice",
    injected: "abort at a counted point: each SQL statement that writes, publish, confirm, status write, lease write, delete, event, ack",
    asserted: "I1–I5, I8 after the restart; a second copy only if the crash fell between publish and mark",
};

const C2: Fault = Fault {
    row: "C2",
    fault: "It dies while it drains",
    injected: "SIGTERM while requests are recorded, published or reported on, and abort at each point after that",
    asserted: "I1–I5, I8 after the restart",
};

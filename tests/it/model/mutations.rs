//! Each property can fail: with the rule left out that it rests on, the checker finds a way to break it.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use super::{Broken, Protocol, properties};

/// Fails unless that property does without that rule.
fn fails(property: &'static str, broken: Broken, with: Protocol) {
    let protocol = Protocol { broken: Some(broken), ..with };
    let found = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = protocol.checker().threads(2).finish_when(found).spawn_bfs().join();
    let counterexample = checker.discovery(property).unwrap_or_else(|| panic!("\"{property}\" holds with {broken:?}"));
    println!(
        "{broken:?} breaks \"{property}\" in {} steps: {:?}",
        counterexample.clone().into_actions().len(),
        counterexample.into_actions()
    );
}

fn one_object(faults: u8) -> Protocol {
    Protocol { objects: 1, namesakes: false, faults, broken: None }
}

#[test]
fn one_row_needs_the_look_before_the_insert() {
    fails(properties::ONE_ROW, Broken::InsertTwice, one_object(0));
}

#[test]
fn published_needs_the_confirm() {
    fails(properties::PUBLISHED_IS_OUT, Broken::MarkBeforeConfirm, one_object(0));
}

#[test]
fn nothing_is_stuck_only_if_claims_run_out_and_deletions_are_remembered() {
    fails(properties::NOTHING_STUCK, Broken::EndlessClaim, one_object(1));
    fails(properties::NOTHING_STUCK, Broken::ReleaseForgetsDeletion, one_object(2));
}

#[test]
fn one_message_id_needs_an_attempt_that_stays() {
    fails(properties::SAME_ID, Broken::AttemptPerClaim, one_object(1));
}

#[test]
fn no_needless_copy_needs_the_claim() {
    fails(properties::NO_COPY_WITHOUT_NEED, Broken::NoClaim, one_object(1));
}

#[test]
fn the_end_of_a_row_needs_the_guard() {
    fails(properties::END_STAYS, Broken::EndNotFinal, one_object(0));
}

#[test]
fn a_status_that_stays_needs_the_rules_of_the_crd() {
    fails(properties::STATUS_STAYS, Broken::AnyStatusTaken, one_object(1));
}

#[test]
fn what_is_shown_in_the_end_needs_the_answer_to_a_write() {
    fails(properties::SHOWN, Broken::StatusNotAwaited, one_object(1));
}

#[test]
fn an_objects_own_status_needs_the_test_of_the_uid() {
    fails(properties::OWN_STATUS, Broken::NoUidTest, Protocol { objects: 2, namesakes: true, ..one_object(1) });
}

#[test]
fn one_leader_needs_the_wait_for_the_lease() {
    fails(properties::ONE_LEADER, Broken::LeaseTakenAtOnce, one_object(0));
}

#[test]
fn deletions_that_nobody_saw_need_the_sweep_before_the_relay() {
    fails(properties::DELETED_UNSEEN, Broken::RelayBeforeSweep, one_object(2));
}

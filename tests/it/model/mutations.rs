//! Each property can fail: with a rule left out that it rests on, the checker finds a way to break it, within bounds in which it
//! holds with the rule.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use super::{
    Broken, Protocol,
    checks::{DELETED, NAMESAKES, RUN},
    properties,
};

/// What breaks without which rule, and where that shows.
const RULES: [(&str, Broken, Protocol); 13] = [
    (properties::ONE_ROW, Broken::InsertTwice, RUN),
    (properties::PUBLISHED_IS_OUT, Broken::MarkBeforeConfirm, RUN),
    (properties::NOTHING_STUCK, Broken::EndlessClaim, RUN),
    (properties::NOTHING_STUCK, Broken::ReleaseForgetsDeletion, DELETED),
    (properties::SAME_ID, Broken::AttemptPerClaim, RUN),
    (properties::NO_COPY_WITHOUT_NEED, Broken::NoClaim, RUN),
    (properties::END_STAYS, Broken::EndNotFinal, RUN),
    (properties::STATUS_STAYS, Broken::AnyStatusTaken, RUN),
    (properties::SHOWN, Broken::StatusNotAwaited, RUN),
    (properties::OWN_STATUS, Broken::NoUidTest, NAMESAKES),
    (properties::ONE_LEADER, Broken::LeaseTakenAtOnce, RUN),
    (properties::DELETED_UNSEEN, Broken::RelayBeforeSweep, DELETED),
    (properties::NO_FALSE_ALARM, Broken::ShownBeforeMarked, RUN),
];

#[test]
fn each_property_fails_without_a_rule_that_it_rests_on() {
    for (property, broken, within) in RULES {
        let protocol = Protocol { broken: Some(broken), ..within };
        let found = HasDiscoveries::AnyOf(BTreeSet::from([property]));
        let checker = protocol.checker().threads(2).finish_when(found).spawn_bfs().join();
        let steps = checker.discovery(property).map(stateright::Path::into_actions);
        let steps = steps.unwrap_or_else(|| panic!("\"{property}\" holds with {broken:?}"));
        println!("{broken:?} breaks \"{property}\" in {} steps: {steps:?}", steps.len());
    }
}

#[test]
fn no_property_is_left_out() {
    let can_fail: BTreeSet<&str> = RULES.iter().map(|(property, ..)| *property).collect();
    let all: BTreeSet<&str> = properties::always().iter().map(|property| property.name).collect();
    assert_eq!(can_fail, all);
}

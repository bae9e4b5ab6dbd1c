//! The protocol as it is: every state of every combination of so many faults. `SYNC_MODEL_FAULTS` allows more than a test run has
//! the time for.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

use stateright::{Checker, Model};

use super::{Action, Protocol, properties, state::State};

/// So many, unless told otherwise.
fn faults(usually: u8) -> u8 {
    std::env::var("SYNC_MODEL_FAULTS").map_or(usually, |told| told.parse().expect("SYNC_MODEL_FAULTS is a small number"))
}

/// Looks at every state, and says how many there were.
fn check(protocol: Protocol) -> impl Checker<Protocol> {
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    println!("{protocol:?}: {} states, at most {} steps away", checker.unique_state_count(), checker.max_depth());
    for property in properties::always() {
        checker.assert_no_discovery(property.name);
    }
    checker
}

#[test]
fn one_object_through_any_combination_of_faults() {
    let checker = check(Protocol { objects: 1, namesakes: false, faults: faults(1), broken: None });
    // It comes to all the places where it matters, too.
    checker.assert_properties();
}

#[test]
fn two_objects_that_share_batches() {
    check(Protocol { objects: 2, namesakes: false, faults: faults(0), broken: None });
}

/// Without this, "in the end" would leave out paths that have none.
#[test]
fn every_path_ends() {
    for protocol in [
        Protocol { objects: 1, namesakes: false, faults: 1, broken: None },
        Protocol { objects: 2, namesakes: true, faults: 0, broken: None },
    ] {
        assert!(!goes_in_circles(&protocol), "{protocol:?}");
    }
}

/// Whether some state can come about again after it was left: a search in depth that meets a state of its own path.
fn goes_in_circles(protocol: &Protocol) -> bool {
    let mut on_path = HashMap::new();
    let mut path: Vec<(State, Vec<Action>)> = Vec::new();
    let mut next = protocol.init_states().pop();
    loop {
        if let Some(state) = next.take() {
            match on_path.insert(hash(&state), true) {
                Some(true) => return true,
                Some(false) => drop(on_path.insert(hash(&state), false)),
                None => {
                    let mut actions = Vec::new();
                    protocol.actions(&state, &mut actions);
                    path.push((state, actions));
                }
            }
        }
        let Some((state, actions)) = path.last_mut() else { return false };
        if let Some(action) = actions.pop() {
            next = protocol.next_state(state, action);
        } else if let Some((done, _)) = path.pop() {
            on_path.insert(hash(&done), false);
        }
    }
}

fn hash(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

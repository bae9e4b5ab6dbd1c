//! The protocol as it is: every state within these bounds.

use std::{
    collections::{BTreeSet, HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    time::Instant,
};

use stateright::{Checker, Model};

use super::{Protocol, properties};

const NOTHING: Protocol = Protocol { objects: 1, namesakes: false, deletions: 0, workers: false, faults: 0, broken: None };
/// A SyncExecution from its creation to its end, with any one fault.
pub const RUN: Protocol = Protocol { workers: true, faults: 1, ..NOTHING };
/// One that may be deleted, up to its publication, with any one fault.
pub const DELETED: Protocol = Protocol { deletions: 1, faults: 1, ..NOTHING };
/// One that may be deleted at any time.
const DELETED_LATER: Protocol = Protocol { deletions: 1, workers: true, ..NOTHING };
/// Two that share batches.
const TWO: Protocol = Protocol { objects: 2, ..NOTHING };
/// Two of one name, the second made when the first is gone.
pub const NAMESAKES: Protocol = Protocol { objects: 2, namesakes: true, deletions: 1, ..NOTHING };
/// In a debug build on two cores a matter of seconds.
const USUAL: [Protocol; 5] = [RUN, DELETED, DELETED_LATER, TWO, NAMESAKES];
/// More of it at the same time: minutes.
const LARGER: [Protocol; 3] =
    [Protocol { workers: true, ..TWO }, Protocol { workers: true, ..DELETED }, Protocol { workers: true, deletions: 2, ..NAMESAKES }];

/// Looks at every state. Fails unless all that must hold does; answers what came about that should somewhere.
fn check(protocol: Protocol) -> BTreeSet<&'static str> {
    let started = Instant::now();
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    let (states, steps) = (checker.unique_state_count(), checker.max_depth());
    println!("{protocol:?}: {states} states, at most {steps} steps, {:.1?}", started.elapsed());
    for property in properties::always() {
        checker.assert_no_discovery(property.name);
    }
    checker.discoveries().into_keys().collect()
}

#[test]
fn what_must_hold_does() {
    let came_about: BTreeSet<&str> = USUAL.into_iter().flat_map(check).collect();
    let should: BTreeSet<&str> = properties::sometimes().iter().map(|property| property.name).collect();
    assert_eq!(came_about, should, "the model must come to the places where it matters");
}

/// Without this, "in the end" would leave out paths that have none.
#[test]
fn every_path_ends() {
    for protocol in USUAL {
        assert!(!can_go_on_for_ever(&protocol), "{protocol:?}");
    }
}

#[test]
#[ignore = "takes minutes"]
fn what_must_hold_does_within_larger_bounds() {
    for protocol in LARGER {
        check(protocol);
        assert!(!can_go_on_for_ever(&protocol), "{protocol:?}");
    }
}

/// Whether some state can come about again after it was left: a search in depth that meets a state of its own path.
fn goes_in_circles<S: Hash>(start: S, successors: impl Fn(&S) -> Vec<S>) -> bool {
    // Whether each known state is on the path.
    let mut known = HashMap::from([(hash(&start), true)]);
    let mut path = vec![(hash(&start), successors(&start))];
    while let Some((state, next)) = path.last_mut() {
        let Some(next) = next.pop() else {
            known.insert(*state, false);
            path.pop();
            continue;
        };
        match known.insert(hash(&next), true) {
            Some(true) => return true,
            Some(false) => drop(known.insert(hash(&next), false)),
            None => path.push((hash(&next), successors(&next))),
        }
    }
    false
}

fn can_go_on_for_ever(protocol: &Protocol) -> bool {
    protocol.init_states().into_iter().any(|start| goes_in_circles(start, |state| protocol.next_states(state)))
}

#[test]
fn a_circle_is_found() {
    let graph =
        |edges: &'static [(u8, u8)]| move |from: &u8| edges.iter().filter(|edge| edge.0 == *from).map(|edge| edge.1).collect::<Vec<_>>();
    assert!(goes_in_circles(0, graph(&[(0, 1), (1, 2), (2, 1)])));
    assert!(!goes_in_circles(0, graph(&[(0, 1), (0, 2), (1, 3), (2, 3)])), "two ways to one state are no circle");
}

fn hash(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

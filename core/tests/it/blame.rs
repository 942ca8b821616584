//! Whom a scheduler takes for the culprit: on how many accusers' word, and for which failures.

use df_core::piece::Order;
use df_core::scheduler::{HostKind, PeerKey, PieceFailure, SchedulerConfig};
use df_core::time::Duration;

use crate::desk::Desk;

/// A host that has everything, and so many children of it alone.
fn parent_and_children(count: usize) -> (Desk, PeerKey, Vec<PeerKey>) {
    let config = SchedulerConfig { fills_slots: true, relay_depth_limit: 0, ..SchedulerConfig::default() };
    let mut desk = Desk::new(config, 16);
    let parent = desk.holder(1, HostKind::Normal, 100);
    let children: Vec<PeerKey> = (0..count).map(|_| desk.child(1, &[])).collect();
    assert!(children.iter().all(|child| desk.to(*child).len() == 4));
    (desk, parent, children)
}

fn is_listed(desk: &Desk, parent: PeerKey) -> bool {
    desk.host_of(parent).listed_until.is_some()
}

fn accuse(desk: &mut Desk, children: &[PeerKey], failure: PieceFailure) {
    children.iter().for_each(|child| desk.fail(desk.to(*child)[0], failure));
}

#[test]
fn on_the_word_of_five_a_host_is_listed_and_all_it_sends_is_taken_back() {
    for failure in [PieceFailure::Corrupt, PieceFailure::Stalled, PieceFailure::NotFound, PieceFailure::Disconnected] {
        let (mut desk, parent, children) = parent_and_children(6);
        accuse(&mut desk, &children[..4], failure);
        assert!(!is_listed(&desk, parent), "{failure:?}");
        assert_eq!(desk.to(children[5]).len(), 4);
        accuse(&mut desk, &children[4..5], failure);
        assert!(is_listed(&desk, parent), "{failure:?}");
        assert_eq!(desk.under_way, []);
    }
}

#[test]
fn one_child_counts_once_however_often_it_accuses() {
    let (mut desk, parent, children) = parent_and_children(1);
    desk.fail_all(children[0]);
    assert!(!is_listed(&desk, parent));
}

#[test]
fn who_connects_anew_between_its_accusations_counts_once() {
    let (mut desk, parent, _) = parent_and_children(0);
    let mut host = desk.host(HostKind::Normal, 0);
    for _ in 0..8 {
        let child = desk.join(host, 1, &[], Order::RarestFirst);
        desk.fail(desk.to(child)[0], PieceFailure::Corrupt);
        host = desk.connect_anew(host);
    }
    assert!(!is_listed(&desk, parent));
}

#[test]
fn those_served_well_outweigh_as_many_accusers() {
    let (mut desk, parent, children) = parent_and_children(13);
    children[..6].iter().for_each(|child| desk.finish(desk.to(*child)[0]));
    accuse(&mut desk, &children[6..12], PieceFailure::Corrupt);
    assert!(!is_listed(&desk, parent));
    accuse(&mut desk, &children[12..], PieceFailure::Corrupt);
    assert!(is_listed(&desk, parent));
}

#[test]
fn what_is_nobody_s_fault_lists_nobody() {
    for failure in [PieceFailure::Refused, PieceFailure::Aborted, PieceFailure::Local] {
        let (mut desk, parent, children) = parent_and_children(12);
        accuse(&mut desk, &children, failure);
        assert!(!is_listed(&desk, parent), "{failure:?}");
        let doubts = children.iter().any(|child| desk.host_of(*child).is_isolated);
        assert!(!doubts, "{failure:?}");
    }
}

/// A hard failure: the same pair is not brought together again, others are.
#[test]
fn who_got_wrong_bytes_is_not_served_by_that_parent_again() {
    let (mut desk, _, children) = parent_and_children(2);
    desk.fail_all(children[0]);
    desk.wait(Duration::from_secs(1));
    assert_eq!((desk.to(children[0]).len(), desk.to(children[1]).len()), (0, 4));
    let other = desk.holder(1, HostKind::Normal, 4);
    let parents: Vec<PeerKey> = desk.to(children[0]).iter().map(|granted| granted.parent).collect();
    assert_eq!(parents, [other; 4]);
}

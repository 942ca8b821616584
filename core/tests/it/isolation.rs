//! Hosts that fail with everybody: what a scheduler makes of them, and how they find their way back.

use df_core::isolation::ISOLATION_TERM;
use df_core::piece::Order;
use df_core::scheduler::{HostKind, PeerKey, SchedulerConfig};

use crate::desk::{Desk, SWEEP};

const PIECES: u32 = 16;

/// A desk with this many holders of task 1. All slots are used: one transfer at a time is a rule, not a lane
/// that is full.
fn desk(holders: usize) -> Desk {
    let config = SchedulerConfig { fills_slots: true, relay_depth_limit: 0, ..SchedulerConfig::default() };
    let mut desk = Desk::new(config, PIECES);
    (0..holders).for_each(|_| _ = desk.holder(1, HostKind::Normal, 4));
    desk
}

/// A host that has all of task 2 and wants task 1, and has failed with everybody.
fn ill(desk: &mut Desk) -> PeerKey {
    let host = desk.host(HostKind::Normal, 4);
    desk.join(host, 2, &(0..PIECES).collect::<Vec<_>>(), Order::RarestFirst);
    let ill = desk.join(host, 1, &[], Order::RarestFirst);
    assert_eq!(desk.to(ill).len(), 4);
    desk.fail_all(ill);
    assert!(desk.host_of(ill).is_isolated);
    ill
}

#[test]
fn who_failed_with_everybody_gets_one_piece_after_the_term_and_the_rest_if_that_succeeds() {
    let mut desk = desk(12);
    let ill = ill(&mut desk);
    desk.wait(ISOLATION_TERM - SWEEP);
    assert_eq!(desk.to(ill), []);
    desk.wait(SWEEP * 4);
    let [probe] = desk.to(ill)[..] else { panic!("{:?}", desk.to(ill)) };
    assert!(desk.host_of(ill).is_isolated, "it has not succeeded yet");
    desk.finish(probe);
    assert!(!desk.host_of(ill).is_isolated);
    assert_eq!(desk.to(ill).len(), 4);
}

#[test]
fn connecting_anew_is_no_success() {
    let mut desk = desk(12);
    let ill = ill(&mut desk);
    let host = desk.host_of(ill).key;
    let host = desk.connect_anew(host);
    let ill = desk.join(host, 1, &[], Order::RarestFirst);
    assert!(desk.host_of(ill).is_isolated);
    assert_eq!(desk.to(ill), []);
}

#[test]
fn a_probe_that_fails_doubles_the_term() {
    let mut desk = desk(12);
    let ill = ill(&mut desk);
    desk.wait(ISOLATION_TERM + SWEEP);
    assert_eq!(desk.to(ill).len(), 1);
    desk.fail_all(ill);
    desk.wait(ISOLATION_TERM * 2 - SWEEP);
    assert_eq!(desk.to(ill), []);
    desk.wait(SWEEP * 2);
    assert_eq!(desk.to(ill).len(), 1);
}

#[test]
fn an_isolated_host_serves_nobody_before_a_probe_succeeds() {
    let mut desk = desk(12);
    let ill = ill(&mut desk);
    let customer = desk.child(2, &[]);
    desk.wait(ISOLATION_TERM + SWEEP);
    assert_eq!(desk.to(customer), [], "nobody else has it");
    let probe = desk.to(ill)[0];
    desk.finish(probe);
    let parents: Vec<_> = desk.to(customer).iter().map(|granted| desk.host_of(granted.parent).key).collect();
    assert_eq!(parents, [desk.host_of(ill).key; 4]);
}

#[test]
fn an_isolated_host_is_served_by_a_seed_and_that_says_nothing_of_it() {
    let mut desk = desk(12);
    let ill = ill(&mut desk);
    let seed = desk.holder(1, HostKind::Seed, 4);
    assert!(desk.to(ill).iter().all(|granted| granted.parent == seed) && desk.to(ill).len() == 4);
    desk.wait(ISOLATION_TERM + SWEEP);
    desk.finish(desk.to(ill)[0]);
    assert!(desk.host_of(ill).is_isolated);
}

#[test]
fn the_word_of_hosts_that_fail_with_everybody_lists_nobody() {
    let mut desk = desk(30);
    let ill: Vec<PeerKey> = (0..8).map(|_| ill(&mut desk)).collect();
    let seed = desk.holder(1, HostKind::Seed, 40);
    ill.iter().for_each(|peer| assert!(!desk.to(*peer).is_empty()));
    ill.iter().for_each(|peer| desk.fail_all(*peer));
    assert_eq!(desk.host_of(seed).listed_until, None);
    let listed = desk.scheduler.host_rows(desk.now).filter(|row| row.listed_until.is_some()).count();
    assert_eq!(listed, 0);
}

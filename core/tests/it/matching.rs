//! Who is served by whom, with which piece, and for how long: the rules one by one.

use std::collections::BTreeMap;

use df_core::piece::Order;
use df_core::scheduler::{HostKind, Input, PeerKey, SchedulerConfig};
use df_core::time::Duration;

use crate::desk::{Desk, Granted, SWEEP};

/// Nothing is passed on as it arrives, and nobody is helped for being behind.
fn plain() -> SchedulerConfig {
    SchedulerConfig { relay_depth_limit: 0, last_pieces: 0, ..SchedulerConfig::default() }
}

#[test]
fn what_is_granted_to_a_child_that_never_says_anything_comes_from_elsewhere_after_the_term() {
    let config = plain();
    let mut desk = Desk::new(config, 1);
    let holders = [1, 1].map(|limit| desk.holder(1, HostKind::Normal, limit));
    let child = desk.child(1, &[]);
    let [first] = desk.under_way[..] else { panic!("{:?}", desk.under_way) };
    desk.wait(config.first_grant_term - SWEEP);
    assert_eq!(desk.under_way, [first], "its term is not over");
    desk.wait(SWEEP * 2);
    assert_eq!(desk.revoked, [first]);
    let [second] = desk.under_way[..] else { panic!("{:?}", desk.under_way) };
    assert_eq!((second.child, second.piece), (child, first.piece));
    assert!(second.parent != first.parent && holders.contains(&second.parent), "{second:?} after {first:?}");
    assert_eq!(desk.host_of(first.parent).uploads, 0);
    desk.tell(Input::PieceFinished { grant: first.grant });
    assert_eq!(desk.held(child), 0, "what is taken back counts for nothing");
    desk.finish(second);
    assert_eq!(desk.held(child), 1);
}

#[test]
fn a_child_that_never_says_anything_keeps_its_parent_from_others_for_a_term_alone() {
    let config = plain();
    let mut desk = Desk::new(config, 1);
    let parent = desk.holder(1, HostKind::Normal, 1);
    let (silent, other) = (desk.child(1, &[]), desk.child(1, &[]));
    assert_eq!((desk.to(silent).len(), desk.to(other).len()), (1, 0));
    desk.wait(config.first_grant_term + SWEEP);
    assert_eq!(desk.revoked.iter().map(|granted| granted.child).collect::<Vec<_>>(), [silent]);
    let [granted] = desk.to(other)[..] else { panic!("{:?}", desk.under_way) };
    assert_eq!(granted.parent, parent);
    desk.finish(granted);
    assert_eq!((desk.held(other), desk.host_of(parent).uploads), (1, 0));
}

#[test]
fn of_equal_holders_the_one_that_sends_least_is_chosen() {
    let config = SchedulerConfig { fills_slots: true, ..plain() };
    for free in 0..4 {
        let mut desk = Desk::new(config, 1);
        let hosts = [(); 4].map(|()| desk.host(HostKind::Normal, 4));
        for busy in (0..4).filter(|at| *at != free) {
            // Each of the others sends something of another task.
            desk.join(hosts[busy], 10 + busy as u8, &[0], Order::RarestFirst);
            desk.child(10 + busy as u8, &[]);
        }
        assert_eq!(desk.under_way.len(), 3);
        let holders = hosts.map(|host| desk.join(host, 1, &[0], Order::RarestFirst));
        let child = desk.child(1, &[]);
        let parents: Vec<PeerKey> = desk.to(child).iter().map(|granted| granted.parent).collect();
        assert_eq!(parents, [holders[free]]);
    }
}

#[test]
fn a_seed_is_spared_where_another_has_the_piece() {
    for is_seed_first in [true, false] {
        let mut desk = Desk::new(plain(), 1);
        let kinds = [HostKind::Seed, HostKind::Normal];
        let at = usize::from(is_seed_first);
        let holders = [kinds[1 - at], kinds[at]].map(|kind| desk.holder(1, kind, 4));
        let child = desk.child(1, &[]);
        let parents: Vec<PeerKey> = desk.to(child).iter().map(|granted| granted.parent).collect();
        assert_eq!(parents, [holders[at]]);
    }
}

/// Whom the parent served last comes last; of all others the one with least.
#[test]
fn a_parent_with_one_slot_serves_who_has_least() {
    let mut desk = Desk::new(plain(), 32);
    desk.holder(1, HostKind::Normal, 1);
    let held: [u32; 8] = [5, 3, 9, 1, 0, 7, 2, 8];
    let children = held.map(|held| desk.child(1, &(0..held).collect::<Vec<_>>()));
    for _ in 0..64 {
        let [last] = desk.under_way[..] else { panic!("{:?}", desk.under_way) };
        desk.now += Duration::from_secs(1);
        desk.finish(last);
        let [next] = desk.under_way[..] else { panic!("{:?}", desk.under_way) };
        let others = children.iter().filter(|child| **child != last.child);
        let least = others.map(|child| desk.held(*child)).min();
        assert_eq!(Some(desk.held(next.child)), least, "{next:?} after {last:?}");
    }
}

#[test]
fn when_as_many_parents_are_idle_as_members_wait_one_is_served_by_two() {
    let mut desk = Desk::new(plain(), 8);
    let holders = [(); 2].map(|()| desk.holder(1, HostKind::Normal, 1));
    let child = desk.child(1, &[]);
    assert_eq!(desk.to(child).len(), 1, "nobody knows how wide its link is");
    desk.wait(SWEEP * 2);
    let mut parents: Vec<PeerKey> = desk.to(child).iter().map(|granted| granted.parent).collect();
    parents.sort_unstable();
    assert_eq!(parents, holders, "one from each");
}

/// A second transfer would take from somebody else what a parent can send.
#[test]
fn while_fewer_parents_are_idle_than_members_wait_each_is_served_by_one() {
    let mut desk = Desk::new(plain(), 8);
    (0..5).for_each(|_| _ = desk.holder(1, HostKind::Normal, 1));
    let children = [(); 4].map(|()| desk.child(1, &[]));
    desk.wait(SWEEP * 4);
    assert_eq!(children.map(|child| desk.to(child).len()), [1; 4]);
}

#[test]
fn a_reader_in_order_gets_the_rarest_from_a_seed_and_the_next_from_others() {
    const PIECES: u32 = 40;
    const RARE: u32 = 29;
    let order = Order::InOrder { from: 0, window: 8 };
    for (kind, expected) in [(HostKind::Seed, RARE), (HostKind::Normal, 0)] {
        let mut desk = Desk::new(plain(), PIECES);
        // These have nothing to send with; what they have is less rare.
        let common: Vec<u32> = (0..PIECES).filter(|piece| *piece != RARE).collect();
        (0..3).for_each(|_| _ = desk.child(1, &common));
        desk.now += Duration::from_secs(1);
        let host = desk.host(HostKind::Normal, 0);
        let reader = desk.join(host, 1, &[], order);
        assert_eq!(desk.under_way, []);
        let parent = desk.holder(1, kind, 4);
        let [Granted { piece, .. }] = desk.to(reader)[..] else { panic!("{:?}", desk.under_way) };
        assert_eq!((piece, desk.to(reader)[0].parent), (expected, parent));
    }
}

/// From six parents a piece takes eight seconds, from two others half of one. One child comes after the
/// other, and begins with slow ones, for these are as idle as the others.
#[test]
fn of_all_pieces_one_in_a_hundred_is_begun_a_second_time_at_most() {
    const PIECES: u32 = 4;
    const CHILDREN: u32 = 100;
    let mut desk = Desk::new(plain(), PIECES);
    let holders = [(); 8].map(|()| desk.holder(1, HostKind::Normal, 2));
    let takes = |parent| Duration::from_millis(if holders[..6].contains(&parent) { 8_000 } else { 500 });
    let mut ends = BTreeMap::new();
    for before in 0..CHILDREN {
        let child = desk.child(1, &[]);
        while desk.held(child) < PIECES {
            for granted in &desk.under_way {
                ends.entry(granted.grant).or_insert(desk.now + takes(granted.parent));
            }
            let due = desk.under_way.iter().find(|granted| ends[&granted.grant] <= desk.now).copied();
            match due {
                Some(due) => desk.finish(due),
                None => desk.wait(SWEEP),
            }
            // Those to one child are begun together.
            let (second, delivered) = (desk.scheduler.rescues().taken_over, before * PIECES + desk.held(child));
            assert!(second <= u64::from(delivered / 100 + PIECES), "{second} of {delivered}");
        }
    }
    assert!(desk.scheduler.rescues().taken_over > 0);
}

#[test]
fn whose_parent_left_before_the_last_word_of_it_came_still_has_everything() {
    let mut desk = Desk::new(SchedulerConfig::default(), 4);
    let parent = desk.holder(1, HostKind::Normal, 4);
    let host = desk.host(HostKind::Normal, 4);
    let child = desk.join(host, 1, &[], Order::RarestFirst);
    while desk.held(child) < 3 {
        desk.finish(desk.to(child)[0]);
    }
    let last = desk.to(child)[0];
    let left = desk.scheduler.peer(parent).unwrap().host;
    desk.tell(Input::HostLeft { host: left });
    desk.tell(Input::PieceFinished { grant: last.grant });
    desk.tell(Input::PeerDone { peer: child });
    assert_eq!(desk.held(child), 4);
    let newcomer = desk.child(1, &[]);
    assert_eq!(desk.to(newcomer).first().map(|granted| granted.parent), Some(child));
}

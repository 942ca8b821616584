//! Scenarios of whole swarms: what the machines do together.

use df_core::downloader::DownloadFailure;
use df_core::id::HostId;
use df_core::scheduler::{SchedulerConfig, SourceFailure, Zone};
use df_core::time::Duration;

use crate::town::{Manner, SourceManner, Town};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn everybody_gets_everything_and_the_source_is_read_once() {
    for (seeds, peers, pieces) in [(1, 1, 1), (1, 8, 20), (2, 16, 40), (0, 8, 20), (1, 1, 100)] {
        let mut town = Town::new(seeds, peers, pieces);
        town.open_all();
        town.finish(LIMIT);
        assert!(town.ordinary().all(|who| town.succeeded(who)), "{seeds} {peers} {pieces}: {}", town.progress());
        assert!(town.source_sent.values().all(|sent| *sent == 1), "{:?}", town.source_sent);
        assert_eq!(town.source_total(), pieces);
    }
}

#[test]
fn an_empty_content_is_complete_at_once() {
    let mut town = Town::new(1, 3, 0);
    town.open_all();
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.succeeded(who)));
    assert_eq!(town.source_total(), 0);
}

#[test]
fn a_content_of_unknown_length_spreads_while_it_streams() {
    let mut town = Town::new(1, 6, 20);
    town.source = SourceManner::Streams;
    town.open_all();
    town.run_until(LIMIT, |town| town.source_total() == 15);
    assert!(town.ordinary().any(|who| town.citizens[who].held.len() > 5), "{}", town.progress());
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.succeeded(who)));
    assert_eq!(town.source_total(), 20);
}

#[test]
fn the_seed_sends_every_piece_once_before_it_repeats_any() {
    let mut town = Town::new(1, 16, 32);
    town.open(0);
    town.finish(LIMIT);
    town.open_all();
    town.finish(LIMIT);
    let mut sent: Vec<u32> = town.transfers.iter().filter(|(_, parent, _)| *parent == 0).map(|t| t.2).collect();
    sent.truncate(32);
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), 32, "{sent:?}");
}

#[test]
fn late_joiners_are_served_by_those_who_are_done() {
    let mut town = Town::new(1, 8, 20);
    (1..5).for_each(|who| town.open(who));
    town.finish(LIMIT);
    (5..9).for_each(|who| town.open(who));
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.succeeded(who)));
    assert_eq!(town.source_total(), 20);
}

/// A new scheduler hears first of those who have everything, then of one who wants it: nothing that
/// happens to the holders makes them look for somebody to serve.
#[test]
fn holders_who_announce_themselves_first_serve_whoever_comes_then() {
    let mut town = Town::new(1, 2, 10);
    town.open(1);
    town.finish(LIMIT);
    town.kill_scheduler();
    town.start_scheduler();
    town.citizens[2].may_fetch_source = false;
    town.open(2);
    town.finish(LIMIT);
    assert!(town.succeeded(2));
    assert_eq!(town.source_total(), 10);
}

/// Priorities 3 and 2.
#[test]
fn who_spares_the_seeds_asks_the_source_itself_or_takes_what_others_have() {
    let mut town = Town::new(1, 3, 10);
    (1..3).for_each(|who| town.citizens[who].wakes_seeds = false);
    town.citizens[2].may_fetch_source = false;
    town.open(2);
    town.finish(LIMIT);
    assert_eq!(town.citizens[2].outcome, Some(Err(DownloadFailure::NoSource)), "nobody has it");
    town.open(1);
    town.open(2);
    town.finish(LIMIT);
    assert!((1..3).all(|who| town.succeeded(who)));
    assert_eq!((town.source_total(), town.citizens[0].held.len()), (10, 0), "the seed slept");
    // As soon as somebody else waits, it is woken for all of them.
    let mut town = Town::new(1, 2, 10);
    (town.citizens[1].wakes_seeds, town.citizens[1].may_fetch_source) = (false, false);
    town.open_all();
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.succeeded(who)));
    assert_eq!((town.source_total(), town.citizens[0].held.len()), (10, 10));
}

#[test]
fn a_lying_parent_is_struck_and_everybody_gets_true_bytes() {
    let mut town = Town::new(1, 12, 40);
    town.citizens[3].manner = Manner::Corrupt;
    town.open_all();
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.succeeded(who)), "{}", town.progress());
    let liar = town.citizens[3].id;
    assert_eq!(town.listed, [liar], "and nobody else is listed");
    let lies = town.transfers.iter().filter(|(_, parent, _)| *parent == 3).count();
    assert!(lies <= 16, "{lies} transfers from the liar");
}

#[test]
fn a_slanderer_gets_nobody_listed_and_isolates_itself() {
    let mut town = Town::new(1, 12, 20);
    town.citizens[5].manner = Manner::Slanderer;
    town.open_all();
    let done = |town: &Town| town.ordinary().filter(|who| *who != 5).all(|who| town.succeeded(who));
    town.run_until(LIMIT, done);
    assert_eq!((&town.listed[..], isolated(&town)), (&[][..], vec![town.citizens[5].id]));
}

fn isolated(town: &Town) -> Vec<HostId> {
    let rows = town.scheduler.as_ref().unwrap().host_rows(town.now);
    rows.filter(|row| row.is_isolated).map(|row| row.info.id).collect()
}

/// Neither seed nor source can hide that it is left out: in the end it alone has the content.
#[test]
fn a_host_that_failed_with_everybody_is_probed_once_it_is_well_and_takes_part_again() {
    let (ill, newcomer) = (5, 12);
    let mut town = Town::new(1, 12, 20);
    [ill, newcomer].into_iter().for_each(|who| town.citizens[who].may_fetch_source = false);
    town.citizens[ill].manner = Manner::Slanderer;
    (1..12).for_each(|who| town.open(who));
    town.run_until(LIMIT, |town| (1..12).filter(|who| *who != ill).all(|who| town.succeeded(who)));
    assert_eq!(isolated(&town), [town.citizens[ill].id]);
    town.kill(0);
    town.citizens[ill].manner = Manner::Honest;
    town.finish(LIMIT);
    assert!(town.succeeded(ill), "{}", town.progress());
    town.run_for(Duration::from_secs(1));
    assert_eq!(isolated(&town), []);
    (1..12).filter(|who| *who != ill).for_each(|who| town.kill(who));
    town.open(newcomer);
    town.finish(LIMIT);
    assert!(town.succeeded(newcomer), "{}", town.progress());
    assert_eq!(town.source_total(), 20);
}

#[test]
fn a_hung_parent_stalls_nobody() {
    let mut town = Town::new(1, 6, 20);
    town.citizens[2].manner = Manner::Hung;
    town.open_all();
    let done = |town: &Town| town.ordinary().filter(|who| *who != 2).all(|who| town.succeeded(who));
    town.run_until(LIMIT, done);
}

/// Pieces take longer than a source or a parent that says nothing is waited for.
#[test]
fn what_is_slow_is_not_taken_for_dead() {
    let mut town = Town::new(1, 4, 4);
    town.piece_time = Duration::from_secs(60);
    town.open_all();
    town.finish(LIMIT * 20);
    assert!(town.ordinary().all(|who| town.succeeded(who)), "{}", town.progress());
    // (One at a time may go to the source by itself when it has waited long for its turn.)
    assert!(town.source_total() <= 5 && town.listed.is_empty(), "{}", town.source_total());
}

/// Seed 734556 of the fault simulation: whoever heard nothing for half a minute went to the source by itself.
#[test]
fn those_who_wait_for_a_slow_source_do_not_storm_it() {
    let config = SchedulerConfig { relay_depth_limit: 0, ..SchedulerConfig::default() };
    let mut town = Town::with(config, 1, 12, 2);
    town.piece_time = Duration::from_secs(40);
    town.open_all();
    town.finish(LIMIT * 20);
    assert!(town.ordinary().all(|who| town.succeeded(who)), "{}", town.progress());
    assert!(town.source_total() <= 6, "{} pieces from the source", town.source_total());
}

/// Links were fast, and are limited to a little in mid-download: transfers take many times as long as is
/// allowed for what was seen of them.
#[test]
fn links_that_become_slow_are_nobody_s_fault() {
    let mut town = Town::new(1, 12, 20);
    town.open_all();
    town.run_until(LIMIT, |town| town.source_total() == 15);
    town.piece_time = Duration::from_secs(20);
    town.finish(LIMIT * 20);
    assert!(town.ordinary().all(|who| town.succeeded(who)), "{}", town.progress());
    assert!(town.source_total() <= 24 && town.listed.is_empty(), "{} {:?}", town.source_total(), town.listed);
    let begun = town.transfers.len();
    assert!(begun <= 300, "{begun} transfers for 240 pieces");
}

#[test]
fn a_parent_killed_in_mid_piece_costs_only_that_piece() {
    let mut town = Town::new(1, 8, 30);
    town.open_all();
    town.run_until(LIMIT, |town| town.citizens[4].held.len() > 10);
    town.kill(4);
    town.finish(LIMIT);
    assert!(town.ordinary().filter(|who| *who != 4).all(|who| town.succeeded(who)));
    assert!(town.source_total() <= 31, "{}", town.source_total());
    assert_eq!(town.listed, []);
}

#[test]
fn when_the_seed_dies_the_swarm_elects_one_of_its_own_for_the_rest() {
    let mut town = Town::new(1, 8, 40);
    town.open_all();
    town.run_until(LIMIT, |town| town.source_total() == 10);
    town.kill(0);
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.succeeded(who)));
    assert!(town.source_total() <= 44, "{} pieces from the source", town.source_total());
}

#[test]
fn with_the_scheduler_killed_in_mid_download_everybody_finishes() {
    let mut town = Town::new(1, 6, 40);
    town.open_all();
    town.run_until(LIMIT, |town| town.citizens[3].held.len() >= 15);
    town.kill_scheduler();
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.succeeded(who)), "{}", town.progress());
}

#[test]
fn a_new_scheduler_is_whole_again_from_what_the_hosts_announce() {
    let mut town = Town::new(1, 8, 60);
    town.open_all();
    town.run_until(LIMIT, |town| town.citizens[3].held.len() >= 15);
    town.kill_scheduler();
    town.run_for(Duration::from_secs(1));
    town.start_scheduler();
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.succeeded(who)), "{}", town.progress());
    assert!(town.source_total() <= 66, "{} pieces from the source", town.source_total());
}

#[test]
fn without_any_scheduler_a_peer_asks_the_source() {
    let mut town = Town::new(0, 2, 10);
    town.kill_scheduler();
    town.open(0);
    town.finish(LIMIT);
    assert!(town.succeeded(0));
    town.citizens[1].may_fetch_source = false;
    town.open(1);
    town.finish(LIMIT);
    assert_eq!(town.citizens[1].outcome, Some(Err(DownloadFailure::NoScheduler)));
}

#[test]
fn a_source_that_says_no_is_asked_once_and_everybody_is_told() {
    let mut town = Town::new(1, 5, 10);
    town.source = SourceManner::Fails(SourceFailure { is_final: true, is_changed: false });
    town.open_all();
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.citizens[who].outcome == Some(Err(DownloadFailure::Source))));
}

#[test]
fn a_source_that_fails_is_tried_by_others_but_never_stormed() {
    let mut town = Town::new(1, 20, 10);
    town.source = SourceManner::Fails(SourceFailure { is_final: false, is_changed: false });
    town.open_all();
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.citizens[who].outcome == Some(Err(DownloadFailure::Source))));
    assert_eq!((town.source_runs, town.source_total()), (3, 0));
}

#[test]
fn a_source_that_fails_once_is_tried_by_another_and_nobody_is_told() {
    let mut town = Town::new(1, 20, 10);
    town.source = SourceManner::Fails(SourceFailure { is_final: false, is_changed: false });
    town.open_all();
    town.run_until(LIMIT, |town| town.source_runs == 2);
    town.source = SourceManner::Serves;
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.succeeded(who)), "{}", town.progress());
    assert_eq!((town.source_runs, town.source_total()), (2, 10));
}

/// Seed 761632 of the fault simulation: the timer that sends a peer to the source when parents are stuck
/// sent the seed peer again and again that had just been given up there.
#[test]
fn who_waited_for_a_source_that_hangs_is_not_sent_there_again() {
    let escape = Duration::from_secs(1);
    let config = SchedulerConfig { source_escape: escape, fills_slots: true, ..SchedulerConfig::default() };
    let mut town = Town::with(config, 1, 2, 10);
    town.citizens[1..].iter_mut().for_each(|citizen| citizen.may_fetch_source = false);
    town.open_all();
    town.run_until(LIMIT, |town| town.source_total() == 4);
    town.source = SourceManner::Hangs;
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.citizens[who].outcome == Some(Err(DownloadFailure::Source))));
    assert_eq!(town.source_runs, 1);
}

/// Seed 901122 of the fault simulation: neither the source nor the only holder was of use, and the wish
/// waited for one of them for ever.
#[test]
fn with_a_corrupt_holder_and_a_source_that_hangs_a_wish_fails() {
    let mut town = Town::new(1, 1, 10);
    town.open(0);
    town.finish(LIMIT);
    town.citizens[0].manner = Manner::Corrupt;
    town.source = SourceManner::Hangs;
    town.open(1);
    town.finish(LIMIT);
    assert_eq!(town.citizens[1].outcome, Some(Err(DownloadFailure::Source)));
    assert_eq!(town.source_runs, 2);
}

/// Seed 921109 of the fault simulation: those who waited for their turn went to the source.
#[test]
fn whoever_waits_for_its_turn_in_a_slow_swarm_does_not_go_to_the_source() {
    let config = SchedulerConfig { source_escape: Duration::from_secs(5), relay_depth_limit: 0, ..Default::default() };
    let mut town = Town::with(config, 1, 40, 1);
    town.piece_time = Duration::from_secs(4);
    town.open_all();
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.succeeded(who)));
    assert_eq!(town.source_runs, 1);
}

#[test]
fn a_source_that_changes_ends_in_a_typed_failure_for_everybody() {
    let mut town = Town::new(1, 5, 30);
    town.open_all();
    town.run_until(LIMIT, |town| town.source_total() == 10);
    town.source = SourceManner::Fails(SourceFailure { is_final: true, is_changed: true });
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.citizens[who].outcome == Some(Err(DownloadFailure::SourceChanged))));
    town.source = SourceManner::Serves;
    town.open_all();
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.succeeded(who)), "the next attempt starts anew");
}

#[test]
fn without_a_source_and_without_holders_a_wish_fails_after_a_while() {
    let mut town = Town::new(0, 2, 10);
    town.citizens.iter_mut().for_each(|citizen| citizen.may_fetch_source = false);
    town.open(0);
    town.finish(LIMIT);
    assert_eq!(town.citizens[0].outcome, Some(Err(DownloadFailure::NoSource)));
}

#[test]
fn a_piece_crosses_into_a_zone_about_once() {
    let mut town = Town::new(1, 24, 30);
    (1..25).for_each(|who| town.citizens[who].zone = Zone(who as u32 % 4));
    town.kill_scheduler();
    town.start_scheduler();
    town.open_all();
    town.finish(LIMIT);
    assert!(town.ordinary().all(|who| town.succeeded(who)));
    let zone = |who: usize| town.citizens[who].zone;
    let across = town.transfers.iter().filter(|(child, parent, _)| zone(*child) != zone(*parent)).count();
    assert!(across <= 4 * 30 + 12, "{across} of {} transfers crossed", town.transfers.len());
}

/// Nobody in the zone may ask the source, and what the seed has is in the zone already.
#[test]
fn a_hung_sole_holder_in_a_zone_is_escaped() {
    let mut town = Town::new(1, 6, 10);
    (1..7).for_each(|who| town.citizens[who].zone = Zone(1));
    town.citizens[1].manner = Manner::Hung;
    town.kill_scheduler();
    town.start_scheduler();
    town.open(1);
    town.finish(LIMIT);
    let runs = town.source_runs;
    (2..7).for_each(|who| town.citizens[who].may_fetch_source = false);
    (2..7).for_each(|who| town.open(who));
    town.finish(Duration::from_secs(30));
    assert!((2..7).all(|who| town.succeeded(who)));
    assert!(town.scheduler.as_ref().unwrap().rescues().let_across > 0);
    assert_eq!((town.source_runs, town.source_total()), (runs, 10));
}

#[test]
fn relaying_shortens_the_start_and_never_waits_in_a_circle() {
    let time = |relay_depth_limit| {
        let config = SchedulerConfig { relay_depth_limit, fills_slots: true, ..SchedulerConfig::default() };
        let mut town = Town::with(config, 1, 16, 16);
        town.open_all();
        town.finish(LIMIT);
        assert!(town.ordinary().all(|who| town.succeeded(who)));
        town.now
    };
    let (with, without) = (time(8), time(0));
    assert!(with < without, "{with:?} with, {without:?} without");
}

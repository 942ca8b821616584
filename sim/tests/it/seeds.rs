//! What the daemons' engine has found: each bug as the smallest scenario that showed it, with its story.

use df_sim::turmoil::ledger::Mark;
use df_sim::turmoil::scenario::Scenario;
use df_sim::turmoil::world::{self, Report};

fn run(text: &str) -> Report {
    let scenario: Scenario = serde_json::from_str(text).unwrap();
    world::run(&scenario, false)
}

/// Runs a scenario; it has to end well.
fn holds(text: &str) {
    let report = run(text);
    assert_eq!(report.violations, []);
    assert!(report.outcomes.contains_key("done"), "{:?}", report.outcomes);
}

/// A scheduler came back while a piece from the source had just arrived: the run was given up, and its claim
/// in the store stayed. The piece could never be fetched again, and the source was asked for it for ever.
#[test]
fn a_piece_that_arrives_as_its_run_is_given_up_can_be_fetched_again() {
    holds(include_str!("seeds/claim.json"));
}

/// A seed peer that had all of a content was woken for it and registered again. That took back the grant
/// others had of it, left the swarm without a seed for a moment, and had it woken anew: for ever.
#[test]
fn a_seed_that_is_woken_for_what_it_has_goes_on_serving() {
    holds(include_str!("seeds/woken.json"));
}

/// A peer had pieces from others, lost its scheduler, and went to the source by itself: the content had
/// changed there to one of the same length. It could not tell, and ended with pieces of both.
#[test]
fn pieces_of_two_versions_never_meet() {
    holds(include_str!("seeds/version.json"));
}

/// A scheduler had forgotten which version of a content its hosts have. The content changed and kept its length;
/// a seed without a piece of it was sent to the source, and a peer that had gone there by itself before was
/// given the rest: its file was of two versions. Hosts tell now of which version their pieces are.
#[test]
fn a_scheduler_that_has_forgotten_everything_mixes_no_versions() {
    holds(include_str!("seeds/mixed.json"));
}

/// A source could not be reached. Whoever was sent there told first of the pieces he had, which passed for a
/// sign of life of the source: nobody was ever told that it is gone.
#[test]
fn a_source_that_is_gone_is_given_up_even_by_those_who_have_a_part() {
    holds(include_str!("seeds/endless.json"));
}

/// One download needed the room of another that had just ended and was being made durable: it waited for that
/// on the spot, on the thread that the other's work was to be done on. Everything stood still.
#[test]
fn the_room_of_a_content_that_is_being_made_durable_can_be_had() {
    holds(include_str!("seeds/settling.json"));
}

/// A content of one piece, over links that take fifty seconds for it: schedulers took the source for dead after
/// 45 and the seed after 30, gave both up time and again, and fetched everything twice.
#[test]
fn slow_links_are_waited_for() {
    let report = run(include_str!("seeds/slow.json"));
    assert_eq!((report.violations, report.source_copies), (Vec::new(), 1.0));
    assert_eq!(report.marks.get(&Mark::GrantRevoked), None);
}

/// A content changed, and a scheduler told who had it to forget it. A download begun since lost what it wrote to,
/// could store no piece, and asked the source for all of it again and again.
#[test]
fn a_download_whose_content_is_forgotten_under_it_ends() {
    holds(include_str!("seeds/gone.json"));
}

/// At the end of a download a faster parent took over a transfer of a piece that the source was bringing, too:
/// with the transfer taken back the piece was still on its way, and granting it anew was one grant too many.
#[test]
fn what_the_source_brings_as_well_is_not_taken_over() {
    holds(include_str!("seeds/beside.json"));
}

/// A seed peer was woken for two contents and had room for one. What it had just fetched went for the other
/// before anybody had got it, was fetched again, and so on: hundreds of copies, and nobody served.
#[test]
fn a_seed_with_little_room_serves_what_it_was_woken_for() {
    let report = run(include_str!("seeds/thrash.json"));
    assert_eq!(report.violations, []);
    assert!(report.source_copies < 4.0, "{}", report.source_copies);
}

/// The manager's disk failed as a limit was set. The operator heard so, but a daemon that joined just then was
/// told of it, under a version that after a restart was given to something else: it held to the wrong one for
/// good.
#[test]
fn members_are_told_nothing_that_is_not_stored() {
    holds(include_str!("seeds/unstored.json"));
}

/// A scheduler knew how a content is cut before it knew of which version it is, and told its members only the
/// one. A member that lost it could not tell that the content had changed at the source: pieces of two versions.
#[test]
fn members_know_of_which_version_their_pieces_are() {
    holds(include_str!("seeds/untold.json"));
}

/// A manager, and an operator who limits uploads and preheats: everybody has it before anybody asks, once from
/// the source.
#[test]
fn a_managed_world_does_as_its_operator_says() {
    let report = run(include_str!("seeds/operator.json"));
    assert_eq!((report.violations, report.source_copies), (Vec::new(), 1.0));
    assert!(report.marks.contains_key(&Mark::Reconfigured) && report.marks.contains_key(&Mark::Preheated));
}

/// Three peers, a seed, a scheduler, and nothing goes wrong: exact bytes, once from the source.
#[test]
fn a_calm_world_gets_everything_and_asks_the_source_once() {
    let report = world::run(&Scenario::calm(1), false);
    assert_eq!((report.violations, report.source_copies), (Vec::new(), 1.0));
    assert_eq!(report.outcomes.get("done"), Some(&6));
}

/// A scenario survives being written down.
#[test]
fn a_scenario_is_what_its_file_says() {
    for seed in 0..50 {
        let scenario = Scenario::drawn(seed);
        let text = serde_json::to_string(&scenario).unwrap();
        assert_eq!(serde_json::from_str::<Scenario>(&text).unwrap(), scenario);
    }
}

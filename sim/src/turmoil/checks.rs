//! What has to be true when the core has been healed, when all is at rest, and of the run as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use df_core::id::HostId;
use df_daemons::sync::lock;

use super::book::{Book, ROOT};
use super::fault::Fault;
use super::ledger::Mark;
use super::node::{Node, Role};
use super::scenario::{Act, Work};
use super::user::Outcome;
use super::world::{Wish, World};

/// What an answer has beside the piece, in bytes: its head, which no limit counts.
const HEAD_BYTES: u64 = 256;

/// A host asks the origin no more often than this in so long, whatever happens. (In 300 runs it was at most 20.)
const ASK_LIMIT: usize = 100;
const ASK_STRETCH: Duration = Duration::from_secs(5);

/// After the core was healed something did not come to its end.
pub(super) fn unfinished(world: &World<'_>, wishes: &[Wish]) {
    let name = |host: u32| world.nodes[host as usize].name.clone();
    for wish in wishes {
        let what = format!("{} waits for {:?}, last {:?}", name(wish.host), wish.act, wish.last);
        world.ledger().violate("the-core-finishes", what);
    }
    for entry in lock(&world.common.diary).iter() {
        if entry.ended.is_none() && world.core.contains(&entry.node) {
            let begun_secs = entry.begun_us as f64 / 1e6;
            let what = format!("{} waits for {:?} since {begun_secs:.3} s", name(entry.node), entry.act);
            world.ledger().violate("nobody-waits-for-ever", what);
        }
    }
}

/// In a healed world something failed time and again.
pub(super) fn gave_up(world: &World<'_>, wish: &Wish) {
    let name = &world.nodes[wish.host as usize].name;
    let is_liar =
        world.fired().iter().any(|(_, fault)| matches!(fault, Fault::Flip { host, .. } if *host == wish.host));
    if world.must_come(&wish.act) && !is_liar {
        world.ledger().violate("the-core-finishes", format!("{name}: {:?} fails with {:?}", wish.act, wish.last));
    }
}

/// What the hosts of the core are still busy with.
pub(super) fn busy(world: &World<'_>) -> Vec<String> {
    let mut busy = Vec::new();
    for node in world.nodes.iter().filter(|node| world.core.contains(&node.number)) {
        let gauges = lock(&node.gauges).clone();
        let mut note = |count: usize, what: &str| {
            if count > 0 {
                busy.push(format!("{}: {count} {what}", node.name));
            }
        };
        match node.role {
            Role::Scheduler => note(gauges.sizes[3], "grants"),
            Role::Seed | Role::Peer => {
                note(gauges.uploads as usize, "uploads");
                note(gauges.downloads, "downloads");
                note(gauges.fetches, "transfers");
            }
            Role::Manager => {
                note(gauges.jobs[0], "preheats");
                busy.extend(behind(world));
            }
            Role::Origin => {}
        }
    }
    busy
}

/// The hosts of the core that a manager tells what holds.
fn core_members<'a>(world: &'a World<'_>) -> impl Iterator<Item = &'a Arc<Node>> {
    world.nodes.iter().filter(|node| node.role.is_member() && world.core.contains(&node.number))
}

/// Members of the core that have not what a manager of the core has told.
pub(super) fn behind(world: &World<'_>) -> Vec<String> {
    let manager = world.nodes.iter().find(|node| node.role == Role::Manager);
    let members = manager.map(|node| lock(&node.gauges).members.clone()).unwrap_or_default();
    let behind = core_members(world).filter(|node| members.get(&*node.name) != Some(&true));
    behind.map(|node| format!("{}: a configuration that is not the latest", node.name)).collect()
}

/// An upload ends when its child takes nothing for half a minute, long before its lease runs out. (As long as
/// somebody downloads, one may have just begun.)
pub(super) fn uploads_end(world: &World<'_>) {
    let core = || world.nodes.iter().filter(|node| world.core.contains(&node.number));
    if core().any(|node| lock(&node.gauges).downloads > 0) {
        return;
    }
    for node in core() {
        let uploads = lock(&node.gauges).uploads;
        if uploads > 0 {
            world
                .ledger()
                .violate("slots-are-released", format!("{}: {uploads} uploads, and nobody is served", node.name));
        }
    }
}

/// All that can be said when everything is over.
pub(super) fn at_end(world: &World<'_>) {
    seen(world);
    typed_errors(world);
    no_trespass(world);
    rates(world);
    sources(world);
    honest_hosts_are_not_listed(world);
    if !world.ledger().is_broken() {
        no_leftovers(world);
        changes_stay(world);
    }
}

/// What an operator was told is in force stays so.
fn changes_stay(world: &World<'_>) {
    let (Some((_, estate)), Some(manager)) = (&world.common.manager, world.nodes.last()) else { return };
    let gauges = lock(&manager.gauges).clone();
    if gauges.jobs[1] > 0 {
        world.ledger().mark(Mark::Preheated);
    }
    let promised = *lock(&estate.promised);
    if world.core.contains(&manager.number) && gauges.version < promised {
        let what = format!("version {promised} was in force, {} is", gauges.version);
        world.ledger().violate("changes-stay", what);
    }
}

/// Two members of the core that have kept different words of a manager of the core, if there are such. (What
/// could not be written is not looked at.)
pub(super) fn differing_configurations(world: &World<'_>) -> Option<String> {
    world.nodes.last().filter(|node| node.role == Role::Manager && world.core.contains(&node.number))?;
    let fails = |node: &Node, fault: &Fault| matches!(fault, Fault::Full { host, .. } | Fault::DiskError { host, .. } if *host == node.number);
    let sound = core_members(world).filter(|node| !world.fired().iter().any(|(_, fault)| fails(node, fault)));
    let mut kept = sound.map(|node| {
        let inode = node.disk.inode(&std::path::Path::new(ROOT).join("dynconfig"));
        (&node.name, inode.map(|inode| lock(&inode).bytes().to_vec()))
    });
    let (first, known) = kept.next()?;
    let (other, _) = kept.find(|(_, other)| *other != known)?;
    Some(format!("{first} and {other} have kept different ones"))
}

/// What users saw.
fn seen(world: &World<'_>) {
    let ledger = world.ledger();
    for entry in lock(&world.common.diary).iter() {
        match entry.ended.as_ref().map(|(_, outcome)| outcome) {
            Some(Outcome::Cancelled) => ledger.mark(Mark::Cancelled),
            Some(Outcome::Failed { code, .. }) => match code.as_str() {
                "NO_SPACE" => ledger.mark(Mark::DiskFull),
                "DIGEST" => ledger.mark(Mark::DigestRefused),
                "ORIGIN_STATUS" => ledger.mark(Mark::SourceRefused),
                "PROTOCOL" => ledger.mark(Mark::ChangeSeen),
                _ => {}
            },
            _ => {}
        }
    }
    let has_quota = world.scenario().knobs.quota.is_some();
    if has_quota && world.nodes.iter().any(|node| node.disk.removed() > 0) {
        ledger.mark(Mark::Evicted);
    }
}

fn typed_errors(world: &World<'_>) {
    for entry in lock(&world.common.diary).iter() {
        match entry.ended.as_ref().map(|(_, outcome)| outcome) {
            Some(Outcome::Wrong(what)) => {
                world
                    .ledger()
                    .violate("bytes-of-one-version", format!("{}: {what}", world.nodes[entry.node as usize].name));
            }
            Some(Outcome::Failed { code, text }) if code == "INTERNAL" => {
                let name = &world.nodes[entry.node as usize].name;
                world.ledger().violate("errors-are-typed", format!("{name}: {:?}: {text}", entry.act));
            }
            _ => {}
        }
    }
}

fn no_trespass(world: &World<'_>) {
    for node in &world.nodes {
        if let Some(path) = node.disk.trespasses().first() {
            let what = format!("{} touched {}", node.name, path.display());
            world.ledger().violate("nothing-outside-the-data-directory", what);
        }
    }
}

/// The most bytes over the rate in any window: the largest rise of what was sent less what was allowed.
fn excess(served: &[(u64, u64)], bytes_per_sec: u64) -> u64 {
    let (mut lowest, mut most, mut sent) = (0_i128, 0_i128, 0_i128);
    for (at_us, bytes) in served {
        let allowed = i128::from(*at_us) * i128::from(bytes_per_sec) / 1_000_000;
        lowest = lowest.min(sent - allowed);
        sent += i128::from(*bytes);
        most = most.max(sent - allowed - lowest);
    }
    u64::try_from(most).unwrap_or(u64::MAX)
}

fn rates(world: &World<'_>) {
    if world.scenario().knobs.upload_rate.is_none() {
        return;
    }
    let Some(rate) = world.scenario().upload_rates().max() else { return };
    let wires = lock(&world.common.wires);
    for node in &world.nodes {
        let served = wires.served(node.ip);
        let heads = served.iter().filter(|(_, bytes)| *bytes < HEAD_BYTES).map(|(_, bytes)| bytes).sum::<u64>();
        let excess = excess(served, rate).saturating_sub(heads);
        // An eighth of a second may pass at once, and a portion more; after a restart the limit begins anew.
        let lives = lock(&node.life).count.max(1);
        if excess > (rate / 4 + 2 * 1024) * lives {
            let what = format!("{} sent {excess} bytes more than {rate} a second in some window", node.name);
            world.ledger().violate("rates", what);
        }
    }
}

/// Bytes the origin sent, in copies of the contents that were asked for at all.
pub(super) fn source_copies(world: &World<'_>) -> f64 {
    let shelf = lock(&world.common.shelf);
    let asked: BTreeSet<u32> = shelf.requests().iter().map(|request| request.content).collect();
    let whole: u64 =
        asked.iter().filter_map(|content| shelf.versions(*content).first()).map(|first| first.len() as u64).sum();
    let sent: u64 = shelf.requests().iter().map(|request| request.bytes).sum();
    sent as f64 / whole.max(1) as f64
}

fn sources(world: &World<'_>) {
    let knobs = &world.scenario().knobs;
    let shelf = lock(&world.common.shelf);
    let tasks = 2 * world.scenario().contents.len() as u32;
    for node in world.nodes.iter().filter(|node| node.role != Role::Origin) {
        let asked = shelf.most_asked(node.ip, ASK_STRETCH);
        if asked > ASK_LIMIT {
            let what = format!("{} asked the origin {asked} times in {ASK_STRETCH:?}", node.name);
            world.ledger().violate("source-asks", what);
        }
        let most = shelf.most_open(node.ip);
        let lives = lock(&node.life).count.max(1) as u32;
        // (An answer that breaks on the way is open here until that is noticed.)
        if most > knobs.source_connection_limit * tasks * lives && !world.fired().iter().any(|(_, fault)| blurs(fault))
        {
            let what = format!("{} asked the origin {most} times at once", node.name);
            world.ledger().violate("source-connections", what);
        }
    }
    drop(shelf);
    let copies = source_copies(world);
    let has_scheduler = world.scenario().topology.schedulers > 0;
    // (Where there is little room, what was dropped has to be fetched again.)
    let is_calm = world.scenario().is_calm() && has_scheduler && knobs.quota.is_none();
    // With and without a digest are two tasks; and what somebody who lost patience had begun is lost.
    let is_cancelled = |work: &&Work| matches!(work.act, Act::Download { cancel_after_ms: Some(_), .. });
    let cancelled = world.scenario().work.iter().filter(is_cancelled).count() as f64;
    let most = if is_calm {
        2.0 + cancelled
    } else {
        f64::from(world.scenario().daemons()) * 4.0 * (1 + world.fired().len()) as f64
    };
    if copies > most * 1.5 {
        world.ledger().violate("source-fetches", format!("{copies:.2} copies from the source, at most {most}"));
    }
}

/// The names of the hosts, as their disks have them.
fn host_id(world: &World<'_>, node: usize) -> Option<HostId> {
    let inode = world.nodes[node].disk.inode(&std::path::Path::new(ROOT).join("host"))?;
    let inode = lock(&inode);
    std::str::from_utf8(inode.bytes()).ok()?.parse().ok()
}

/// Whether a fault makes an honest host look bad.
const fn blurs(fault: &Fault) -> bool {
    let is_clear =
        matches!(fault, Fault::Lie { .. } | Fault::Change { .. } | Fault::Wall { .. } | Fault::OriginDown { .. });
    !is_clear
}

/// (A host outside the core is cut off in the end, which looks no better than a lie.)
fn honest_hosts_are_not_listed(world: &World<'_>) {
    let listed = world.ledger().listed();
    if listed.is_empty() || world.fired().iter().any(|(_, fault)| blurs(fault)) {
        return;
    }
    for (number, node) in world.nodes.iter().enumerate() {
        let lied =
            world.fired().iter().any(|(_, fault)| matches!(fault, Fault::Lie { host, .. } if *host == node.number));
        let is_sound = !lied && world.core.contains(&node.number);
        if is_sound && host_id(world, number).is_some_and(|id| listed.contains(&id)) {
            world.ledger().violate("honest-hosts-are-not-listed", format!("{} is listed", node.name));
        }
    }
}

/// On the disks of the core there is nothing but what belongs there.
fn no_leftovers(world: &World<'_>) {
    let known: BTreeSet<_> = world.common.book.tasks().map(|(task, _)| Book::path(&task)).collect();
    let fixed = ["lock", "host", "deletions", "dynconfig"].map(|name| std::path::Path::new(ROOT).join(name));
    for node in world.nodes.iter().filter(|node| world.core.contains(&node.number)) {
        for path in node.disk.names() {
            let is_known = known.contains(&path.with_extension("data")) || fixed.contains(&path);
            // (What a failing disk keeps goes when the daemon starts again.)
            if !is_known && !node.disk.is_stuck(&path) {
                world.ledger().violate("no-leftovers", format!("{} keeps {}", node.name, path.display()));
            }
        }
    }
}

/// What schedulers of the core believe the core has, and what is not on its disks.
pub(super) fn untrue_books(world: &World<'_>) -> Vec<String> {
    let mut untrue = Vec::new();
    let ids: Vec<Option<HostId>> = (0..world.nodes.len()).map(|node| host_id(world, node)).collect();
    for scheduler in world.nodes.iter().filter(|node| node.role == Role::Scheduler && world.core.contains(&node.number))
    {
        let gauges = lock(&scheduler.gauges).clone();
        for (host, task, held) in &gauges.held {
            let Some(at) = ids.iter().position(|id| *id == Some(*host)) else { continue };
            let node = &world.nodes[at];
            let is_sound = world.core.contains(&node.number) && !node.disk.is_tainted();
            let is_there = node.disk.inode(&Book::path(task)).is_some();
            let wrong = held.iter().find(|piece| !is_there || !world.common.book.is_true(&node.disk, task, **piece));
            if let Some(piece) = wrong.filter(|_| is_sound) {
                untrue.push(format!("{} believes that {} has piece {piece} of {task}", scheduler.name, node.name));
            }
        }
    }
    untrue
}

#[cfg(test)]
mod tests {
    use super::excess;

    #[test]
    fn the_worst_window_is_found() {
        assert_eq!(excess(&[], 10), 0);
        assert_eq!(excess(&[(0, 100)], 10), 100);
        // Ten a second, as allowed, then a burst.
        let even: Vec<(u64, u64)> = (0..10).map(|second| (second * 1_000_000, 10)).collect();
        assert_eq!(excess(&even, 10), 10);
        let burst: Vec<(u64, u64)> = even.iter().copied().chain([(9_000_000, 500)]).collect();
        assert_eq!(excess(&burst, 10), 510);
    }
}

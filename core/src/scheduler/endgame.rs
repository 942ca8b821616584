//! The end of a download, when parents stand idle: they serve whoever still waits, even beside others,
//! and take over what a slow parent would take long to send.

use super::Scheduler;
use super::event::GrantKey;
use super::host::{Grant, Inbound, Seat, SwarmKey};
use super::rank::Offer;
use super::swarm::Row;
use crate::time::{Duration, Instant};

/// A transfer is taken over by a parent that needs less than two thirds of what it has left: in the
/// model of `docs/swarm.md` less gain does not pay for what has been sent in vain.
const GAIN: (u32, u32) = (3, 2);

/// Of all pieces delivered, at most one in this many is begun a second time.
const SECOND_STARTS: u64 = 100;

impl Scheduler {
    /// Notes whether the end has come: as many parents stand idle as members still want something.
    /// Then there is nobody else whom a second transfer to the same member could keep waiting.
    pub(super) fn review_endgame(&mut self, now: Instant, key: SwarmKey) {
        let swarm = &mut self.swarms[key];
        let is_endgame = swarm.wanting > 0 && swarm.idle.len() >= swarm.wanting as usize;
        if core::mem::replace(&mut swarm.is_endgame, is_endgame) != is_endgame {
            for row in 0..self.swarms[key].members.len() {
                self.review_seat(Seat { swarm: key, row: row as Row });
            }
        }
        if is_endgame && self.config.takes_over {
            self.take_over(now, key);
        }
    }

    /// Gives what comes slowly to idle parents that are faster.
    fn take_over(&mut self, now: Instant, key: SwarmKey) {
        for row in 0..self.swarms[key].members.len() as Row {
            let swarm = &self.swarms[key];
            let Some(member) = swarm.member(row).filter(|member| member.coming > 0).copied() else { continue };
            if swarm.second_starts * SECOND_STARTS > swarm.delivered {
                return;
            }
            let inbound = self.peers[member.peer].inbound.clone();
            for Inbound { grant, .. } in inbound {
                if let Some(parent) = self.faster(now, key, grant) {
                    self.replace(now, grant, parent);
                }
            }
        }
    }

    /// An idle parent that would bring a piece much sooner than the transfer under way, which either
    /// is late or comes from a slower parent.
    fn faster(&mut self, now: Instant, key: SwarmKey, grant: GrantKey) -> Option<Row> {
        let grant = self.grants.get(grant).copied()?;
        if self.swarms[key].source.brings(grant.child, grant.piece) {
            return None; // It comes another way, too.
        }
        let is_late = grant.late <= now;
        let child_host = grant.to;
        // What is late has given its place in the lane to others already.
        if !grant.fills_down && !self.hosts.get(child_host)?.download.has_room(true) {
            return None;
        }
        let bytes = self.bytes_of(key, grant.piece);
        let mut sample = core::mem::take(&mut self.sample);
        let swarm = &self.swarms[key];
        swarm.idle.sample(&mut self.rng, super::candidates::IDLE, &mut sample);
        let parents = sample.iter().map(|entry| entry.row).filter_map(|parent| {
            let member = swarm.member(parent).filter(|_| swarm.has(parent, grant.piece))?;
            let host = self.hosts.get(member.host)?;
            let rate = self.known_rate(member.host, child_host)?;
            let needs = Duration::from_micros(bytes.saturating_mul(1000) / u64::from(rate.get()));
            let is_faster = grant.rate.is_some_and(|slow| slow.get() < rate.get() / GAIN.0 * GAIN.1);
            let is_gain = is_late || (is_faster && needs * GAIN.0 < (grant.due - now) * GAIN.1);
            let is_free = self.may_upload(now, host) && self.may_serve(now, member.host, child_host);
            (is_free && is_gain).then_some((needs, parent))
        });
        let fastest = parents.min().map(|(_, parent)| parent);
        self.sample = sample;
        fastest
    }

    fn replace(&mut self, now: Instant, grant: GrantKey, parent: Row) {
        let Some(Grant { swarm, to_row, piece, .. }) = self.grants.get(grant).copied() else { return };
        self.revoke(now, grant);
        self.rescues.taken_over += 1;
        self.swarms[swarm].second_starts += 1;
        let copies = self.swarms[swarm].availability.copies(piece);
        self.grant(now, swarm, parent, to_row, Offer { hops: 0, copies, piece });
    }
}

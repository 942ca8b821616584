//! Members: who is there, in which cluster, since when nothing was heard of them.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::event::{Beat, ClusterId, Introduction, MemberId, MemberKind, Notice, Output, Record, Refusal, SessionId};
use super::settings::Seeker;
use super::{HostLimits, Registry};
use crate::time::Instant;

/// Longest name of a member, in bytes (RFC 1035, 2.3.4).
const HOSTNAME_LIMIT: usize = 253;

/// Longest other text of a member, in bytes.
const TEXT_LIMIT: usize = 1024;

/// A scheduler, seed peer or peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// What it says of itself.
    pub introduction: Introduction,
    /// Where it is.
    pub cluster: ClusterId,
    /// Its stream, if it has one now.
    pub session: Option<SessionId>,
    /// Whether it gave its signs of life; if not, it is lost.
    pub is_active: bool,
    /// When it came.
    pub joined: Instant,
    /// When it was heard of last.
    pub seen: Instant,
    /// What it said last.
    pub beat: Beat,
}

impl Introduction {
    /// What tells members of one kind apart: daemons have a name of their own, and several
    /// schedulers of one host have different ports.
    pub fn name(&self) -> String {
        match self.host_id {
            Some(host) => host.to_string(),
            None => alloc::format!("{}:{}", self.hostname, self.rpc_port),
        }
    }
}

impl Registry {
    /// The cluster that fits somebody best; of equals the oldest.
    pub fn best_cluster(&self, seeker: &Seeker<'_>) -> Option<ClusterId> {
        let fit = |(id, cluster): (ClusterId, &super::Cluster)| {
            (cluster.spec.scopes.fit(seeker, cluster.is_default), core::cmp::Reverse(id))
        };
        self.clusters().map(fit).max().map(|(_, id)| id.0)
    }

    /// The active schedulers or seed peers of a cluster, in a lasting order.
    pub fn active(&self, cluster: ClusterId, kind: MemberKind) -> impl Iterator<Item = (MemberId, &Member)> {
        let from = (cluster, kind, String::new());
        let named = self.names.range(from..).take_while(move |(key, _)| key.0 == cluster && key.1 == kind);
        named.filter_map(|(_, id)| Some((*id, self.members.get(id)?))).filter(|(_, member)| member.is_active)
    }

    /// The limits a member is under by its cluster's configuration.
    pub fn limits_of(&self, member: &Member) -> HostLimits {
        let Some(cluster) = self.clusters.get(&member.cluster) else { return HostLimits::default() };
        let own = member.introduction.host_id.and_then(|host| cluster.overrides.get(&host));
        let base = match member.introduction.kind {
            MemberKind::SeedPeer => cluster.limits.seed_peer,
            _ => cluster.limits.peer,
        };
        own.map_or(base, |(_, limits)| limits.over(base))
    }

    /// Puts a member back that was stored: it has as long to come back as if it had just been heard of.
    pub(super) fn remember(&mut self, now: Instant, id: MemberId, cluster: ClusterId, introduction: Introduction) {
        let name = (cluster, introduction.kind, introduction.name());
        if !self.clusters.contains_key(&cluster) || self.names.contains_key(&name) {
            self.outbox.push(Output::Erase(Record::Member(id)));
            return;
        }
        self.names.insert(name, id);
        let beat = Beat::default();
        let member = Member { introduction, cluster, session: None, is_active: true, joined: now, seen: now, beat };
        self.members.insert(id, member);
    }

    pub(super) fn join(
        &mut self,
        now: Instant,
        session: SessionId,
        introduction: Introduction,
    ) -> Result<MemberId, Refusal> {
        check(&introduction)?;
        let cluster = self.cluster_for(&introduction)?;
        let name = (cluster, introduction.kind, introduction.name());
        let known = self.names.get(&name).copied();
        let id = match known {
            Some(id) => {
                self.rejoin(now, id, session, &introduction)?;
                id
            }
            None => {
                self.make_room()?;
                self.counters.member += 1;
                MemberId(self.counters.member)
            }
        };
        let is_listed = introduction.kind != MemberKind::Peer;
        let before = self.members.get(&id);
        let is_told = before.is_some_and(|member| {
            let was = &member.introduction;
            let is_same_place = (was.ip, was.rpc_port, was.piece_port, was.host_id)
                == (introduction.ip, introduction.rpc_port, introduction.piece_port, introduction.host_id);
            member.is_active && is_same_place
        });
        let is_stored = before.is_some_and(|member| member.introduction == introduction);
        let is_back = before.is_none_or(|member| !member.is_active || member.session.is_none());
        let session = Some(session).filter(|session| session.0 != 0);
        let beat = before.map(|member| member.beat.clone()).unwrap_or_default();
        let member = Member { introduction, cluster, session, is_active: true, joined: now, seen: now, beat };
        self.names.insert(name, id);
        self.members.insert(id, member);
        if is_listed && !is_stored {
            self.outbox.push(Output::Save(Record::Counters));
            self.outbox.push(Output::Save(Record::Member(id)));
        }
        if is_listed && !is_told {
            self.changed.insert(cluster);
        }
        if is_back {
            self.note(Notice::MemberJoined(id));
        }
        // Parts may have waited for a scheduler.
        self.ready.extend(self.jobs.iter().filter(|(_, job)| !job.state.is_over()).map(|(id, _)| *id));
        Ok(id)
    }

    fn cluster_for(&self, introduction: &Introduction) -> Result<ClusterId, Refusal> {
        if introduction.cluster.is_empty() {
            let seeker = Seeker {
                ip: introduction.ip,
                hostname: &introduction.hostname,
                idc: &introduction.idc,
                location: &introduction.location,
            };
            return self.best_cluster(&seeker).ok_or(Refusal::UnknownCluster);
        }
        let named = self.clusters.iter().find(|(_, cluster)| cluster.spec.name == introduction.cluster);
        named.map(|(id, _)| *id).ok_or(Refusal::UnknownCluster)
    }

    /// A member of this name is known. It may come back from its own address at any time, from
    /// another one only once it is lost: nobody takes over a name that is in use.
    fn rejoin(
        &mut self,
        now: Instant,
        id: MemberId,
        session: SessionId,
        introduction: &Introduction,
    ) -> Result<(), Refusal> {
        let Some(member) = self.members.get(&id) else { return Ok(()) };
        if member.is_active && member.introduction.ip != introduction.ip {
            return Err(Refusal::NameHeld);
        }
        if let Some(old) = member.session.filter(|old| *old != session) {
            self.outbox.push(Output::Close(old));
        }
        self.requeue_parts(now, id);
        Ok(())
    }

    /// Room for one more: the one lost longest goes first.
    fn make_room(&mut self) -> Result<(), Refusal> {
        if self.members.len() < self.config.member_limit {
            return Ok(());
        }
        let lost = self.members.iter().filter(|(_, member)| !member.is_active);
        let oldest = lost.min_by_key(|(_, member)| member.seen).map(|(id, _)| *id);
        let limit = self.config.member_limit as u64;
        self.forget(oldest.ok_or(Refusal::Full { what: "members", limit })?);
        Ok(())
    }

    pub(super) fn beat(&mut self, now: Instant, id: MemberId, beat: Beat) {
        let Some(member) = self.members.get_mut(&id) else { return };
        (member.seen, member.beat) = (now, beat);
        if !member.is_active {
            // One that speaks v1 has no stream whose opening would say so.
            member.is_active = true;
            let (cluster, kind) = (member.cluster, member.introduction.kind);
            self.note(Notice::MemberJoined(id));
            if kind != MemberKind::Peer {
                self.changed.insert(cluster);
                self.settle(now);
            }
        }
    }

    pub(super) fn end_session(&mut self, id: MemberId, session: SessionId) {
        if let Some(member) = self.members.get_mut(&id).filter(|member| member.session == Some(session)) {
            member.session = None;
        }
    }

    pub(super) fn dismiss(&mut self, id: MemberId) -> Result<(), Refusal> {
        let member = self.members.get(&id).ok_or(Refusal::UnknownMember)?;
        if member.is_active {
            return Err(Refusal::MemberActive);
        }
        self.forget(id);
        Ok(())
    }

    fn forget(&mut self, id: MemberId) {
        let Some(member) = self.members.remove(&id) else { return };
        let kind = member.introduction.kind;
        self.names.remove(&(member.cluster, kind, member.introduction.name()));
        if kind != MemberKind::Peer {
            self.outbox.push(Output::Erase(Record::Member(id)));
        }
    }

    /// Looks for members that missed their signs of life, and forgets those lost for long. Linear in
    /// members.
    pub(super) fn sweep_members(&mut self, now: Instant) {
        let term = self.config.beat_interval * self.config.missed_limit;
        let ttl = self.config.member_ttl;
        let silent = self.members.iter().filter(|(_, member)| now - member.seen > term).map(|(id, _)| *id);
        for id in silent.collect::<Vec<_>>() {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if !member.is_active {
                if now - member.seen > term + ttl {
                    self.forget(id);
                }
                continue;
            }
            member.is_active = false;
            let (cluster, kind) = (member.cluster, member.introduction.kind);
            if let Some(session) = member.session.take() {
                self.outbox.push(Output::Close(session));
            }
            self.note(Notice::MemberLost(id));
            self.requeue_parts(now, id);
            if kind != MemberKind::Peer {
                self.changed.insert(cluster);
            }
        }
    }
}

fn check(introduction: &Introduction) -> Result<(), Refusal> {
    let is_plain = |c: char| c.is_ascii_graphic();
    let name = &introduction.hostname;
    if name.is_empty() || name.len() > HOSTNAME_LIMIT || !name.chars().all(is_plain) {
        return Err(Refusal::BadName);
    }
    let texts = [&introduction.idc, &introduction.location, &introduction.cluster, &introduction.release];
    if texts.iter().any(|text| text.len() > TEXT_LIMIT) {
        return Err(Refusal::TooLong);
    }
    Ok(())
}

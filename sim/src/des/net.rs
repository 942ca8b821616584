//! Links: every host has an uplink and a downlink, each shared equally among its flows.

/// Names a flow; numbers are used again, the version tells them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FlowKey {
    at: u32,
    version: u32,
}

impl FlowKey {
    /// Its place in a table of flows.
    pub(crate) const fn place(self) -> usize {
        self.at as usize
    }
}

/// What a flow has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// As few bytes are left as its owner wanted to be told at.
    Nearly,
    /// All bytes have left the sender.
    Sent,
}

/// What a flow carries, so that it is known which flow feeds which.
pub(crate) type Cargo = u64;

/// A flow to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) bytes: f64,
    /// The owner is told when this many bytes are left.
    pub(crate) nearly_at: f64,
    pub(crate) cargo: Cargo,
    /// Whether the sender has all of it; otherwise it passes on what arrives.
    pub(crate) is_stored: bool,
}

/// One direction of a host's link.
#[derive(Clone, Debug, Default)]
struct Lane {
    bytes_per_us: f64,
    flows: Vec<u32>,
}

/// What a flow has to draw on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Supply {
    /// All there.
    Stored,
    /// Nothing comes to the sender at present.
    Dry,
    /// What this flow brings to the sender.
    Upstream(u32),
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    version: u32,
    /// Counts changes of the rate: an alarm set before the last one is void.
    turn: u32,
    from: u32,
    to: u32,
    cargo: Cargo,
    supply: Supply,
    bytes: f64,
    left: f64,
    nearly_at: f64,
    is_nearly_told: bool,
    rate: f64,
    since: u64,
}

/// All links. A flow gets the smaller of its shares at both ends; what of a share the other end, or a
/// slow upstream, leaves unused goes to the others of the lane. A flow that passes on what arrives is
/// never ahead of what has arrived.
#[derive(Debug, Default)]
pub(crate) struct Net {
    up: Vec<Lane>,
    down: Vec<Lane>,
    flows: Vec<Flow>,
    free: Vec<u32>,
    /// Flows whose rate may have changed.
    stale: Vec<u32>,
    /// When to look at which flow again, and its turn.
    alarms: Vec<(u64, FlowKey, u32)>,
}

/// Shares of a piece nearer than this count as the same place.
const TOUCH: f64 = 1e-6;

/// Rates nearer than this part of the rate are the same.
const SAME_RATE: f64 = 1e-6;

/// Rates looked at again after one change, at most, for each flow whose rate it may concern: lanes
/// and upstreams can depend on each other in a circle.
const ROUND_LIMIT: usize = 4096;

impl Net {
    /// Adds a host with its rates in bytes a microsecond; they are numbered from 0.
    pub(crate) fn add_host(&mut self, up: f64, down: f64) {
        self.up.push(Lane { bytes_per_us: up, flows: Vec::new() });
        self.down.push(Lane { bytes_per_us: down, flows: Vec::new() });
    }

    /// Begins a flow.
    pub(crate) fn start(&mut self, now: u64, begin: Begin) -> FlowKey {
        let at = self.free.pop().unwrap_or(self.flows.len() as u32);
        let Begin { from, to, bytes, nearly_at, cargo, is_stored } = begin;
        let flow = Flow {
            version: self.flows.get(at as usize).map_or(0, |old| old.version + 1),
            turn: 0,
            from,
            to,
            cargo,
            supply: if is_stored { Supply::Stored } else { self.upstream(from, cargo) },
            bytes,
            left: bytes,
            nearly_at: nearly_at.min(bytes),
            is_nearly_told: nearly_at <= 0.0,
            rate: 0.0,
            since: now,
        };
        match self.flows.get_mut(at as usize) {
            Some(slot) => *slot = flow,
            None => self.flows.push(flow),
        }
        self.up[from as usize].flows.push(at);
        self.down[to as usize].flows.push(at);
        for fed in self.fed(to, cargo) {
            if self.flows[fed as usize].supply == Supply::Dry {
                self.flows[fed as usize].supply = Supply::Upstream(at);
                self.stale.push(fed);
            }
        }
        self.stale.push(at);
        self.share(now, from, to);
        FlowKey { at, version: flow.version }
    }

    /// Ends a flow that is not to go on; nothing if it is over. What it feeds runs dry.
    pub(crate) fn stop(&mut self, now: u64, key: FlowKey) {
        self.end(now, key, Supply::Dry);
    }

    /// Flows by which a host passes on what it has not got whole.
    pub(crate) fn passing_on(&self, host: u32, cargo: Cargo) -> Vec<FlowKey> {
        let key = |at: u32| FlowKey { at, version: self.flows[at as usize].version };
        let is_fed = |at: &u32| self.flows[*at as usize].supply != Supply::Stored;
        self.fed(host, cargo).into_iter().filter(is_fed).map(key).collect()
    }

    fn end(&mut self, now: u64, key: FlowKey, left_behind: Supply) {
        let Some(flow) = self.flows.get_mut(key.at as usize).filter(|flow| flow.version == key.version) else { return };
        let (from, to, cargo) = (flow.from, flow.to, flow.cargo);
        flow.version += 1;
        self.free.push(key.at);
        self.up[from as usize].flows.retain(|at| *at != key.at);
        self.down[to as usize].flows.retain(|at| *at != key.at);
        for fed in self.fed(to, cargo) {
            if self.flows[fed as usize].supply == Supply::Upstream(key.at) {
                self.flows[fed as usize].advance(now);
                self.flows[fed as usize].supply = left_behind;
                self.stale.push(fed);
            }
        }
        self.share(now, from, to);
    }

    /// An alarm of `turn` went off: what has become of the flow, if the alarm still counts.
    pub(crate) fn look(&mut self, now: u64, key: FlowKey, turn: u32) -> Option<Progress> {
        let flow = self.flows.get_mut(key.at as usize).filter(|f| f.version == key.version && f.turn == turn)?;
        flow.advance(now);
        if flow.left < 0.5 {
            self.end(now, key, Supply::Stored);
            return Some(Progress::Sent);
        }
        let is_nearly = !flow.is_nearly_told && flow.left <= flow.nearly_at + 0.5;
        flow.is_nearly_told |= is_nearly;
        // It may have caught up with its upstream.
        self.stale.push(key.at);
        self.settle(now);
        self.set_alarm(now, key.at);
        is_nearly.then_some(Progress::Nearly)
    }

    /// Alarms to be set: when, for which flow, of which turn.
    pub(crate) fn alarms(&mut self) -> impl Iterator<Item = (u64, FlowKey, u32)> + '_ {
        self.alarms.drain(..)
    }

    /// Where what a host is receiving comes from.
    fn upstream(&self, host: u32, cargo: Cargo) -> Supply {
        let flows = &self.down[host as usize].flows;
        flows.iter().find(|at| self.flows[**at as usize].cargo == cargo).map_or(Supply::Dry, |at| Supply::Upstream(*at))
    }

    /// Flows from a host with this cargo.
    fn fed(&self, host: u32, cargo: Cargo) -> Vec<u32> {
        let flows = &self.up[host as usize].flows;
        flows.iter().copied().filter(|at| self.flows[*at as usize].cargo == cargo).collect()
    }

    /// New rates after a change of the number of flows from `from` and to `to`: for all flows there,
    /// and for those they share their other ends with.
    fn share(&mut self, now: u64, from: u32, to: u32) {
        for at in &self.up[from as usize].flows {
            self.stale.extend(&self.down[self.flows[*at as usize].to as usize].flows);
        }
        for at in &self.down[to as usize].flows {
            self.stale.extend(&self.up[self.flows[*at as usize].from as usize].flows);
        }
        self.stale.extend(&self.up[from as usize].flows);
        self.stale.extend(&self.down[to as usize].flows);
        self.settle(now);
    }

    /// Gives every stale flow its rate. Whatever depends on one that changes is stale then.
    fn settle(&mut self, now: u64) {
        for _ in 0..ROUND_LIMIT {
            let Some(at) = self.stale.pop() else { return };
            let flow = self.flows[at as usize];
            if self.is_over(at) {
                continue;
            }
            self.flows[at as usize].advance(now);
            let rate = self.rate(now, at);
            if (rate - flow.rate).abs() <= SAME_RATE * rate.max(flow.rate) {
                continue;
            }
            self.flows[at as usize].rate = rate;
            self.set_alarm(now, at);
            self.stale.extend(self.fed(flow.to, flow.cargo));
            if flow.supply != Supply::Stored {
                self.stale.extend(&self.up[flow.from as usize].flows);
                self.stale.extend(&self.down[flow.to as usize].flows);
            }
        }
        self.stale.clear();
    }

    /// Whether a place in the table of flows is not in use: then its host does not list it.
    fn is_over(&self, at: u32) -> bool {
        !self.up[self.flows[at as usize].from as usize].flows.contains(&at)
    }

    fn rate(&self, now: u64, at: u32) -> f64 {
        let flow = &self.flows[at as usize];
        let up = self.level(now, &self.up[flow.from as usize], at, |flow| &self.down[flow.to as usize]);
        let down = self.level(now, &self.down[flow.to as usize], at, |flow| &self.up[flow.from as usize]);
        up.min(down).min(self.supply_rate(now, flow))
    }

    /// The most `at` may have of a lane: an equal share, and what the others of the lane cannot use.
    fn level<'a>(&'a self, now: u64, lane: &Lane, at: u32, other_end: impl Fn(&Flow) -> &'a Lane) -> f64 {
        let (mut rest, mut sharers) = (lane.bytes_per_us, lane.flows.len().max(1) as f64);
        if lane.flows.len() == 1 {
            return rest;
        }
        let limit = |at: &u32| {
            let flow = &self.flows[*at as usize];
            let end = other_end(flow);
            (end.bytes_per_us / end.flows.len().max(1) as f64).min(self.supply_rate(now, flow))
        };
        let mut limits: Vec<f64> = lane.flows.iter().filter(|other| **other != at).map(limit).collect();
        limits.sort_by(f64::total_cmp);
        for limit in limits {
            if limit >= rest / sharers {
                break;
            }
            (rest, sharers) = (rest - limit, sharers - 1.0);
        }
        rest / sharers
    }

    /// How fast the supply of a flow lets it be.
    fn supply_rate(&self, now: u64, flow: &Flow) -> f64 {
        match flow.supply {
            Supply::Stored => f64::INFINITY,
            Supply::Dry => 0.0,
            Supply::Upstream(at) => {
                let upstream = &self.flows[at as usize];
                let is_behind = upstream.share_at(now) - flow.share_at(now) > TOUCH;
                if is_behind { f64::INFINITY } else { upstream.rate * flow.bytes / upstream.bytes }
            }
        }
    }

    fn set_alarm(&mut self, now: u64, at: u32) {
        let flow = self.flows[at as usize];
        let until = if flow.is_nearly_told { flow.left } else { (flow.left - flow.nearly_at).max(0.0) };
        let mut after = until / flow.rate;
        if let Supply::Upstream(upstream) = flow.supply {
            let upstream = &self.flows[upstream as usize];
            let gap = upstream.share_at(now) - flow.share_at(now);
            let closing = flow.rate / flow.bytes - upstream.rate / upstream.bytes;
            if gap > TOUCH && closing > 0.0 {
                after = after.min((gap - TOUCH / 2.0) / closing);
            }
        }
        let flow = &mut self.flows[at as usize];
        flow.turn += 1;
        if after.is_finite() {
            self.alarms.push((now + after.ceil() as u64, FlowKey { at, version: flow.version }, flow.turn));
        }
    }
}

impl Flow {
    fn advance(&mut self, now: u64) {
        self.left -= self.rate * (now - self.since) as f64;
        self.since = now;
    }

    /// The part of it that has been sent by `now`.
    fn share_at(&self, now: u64) -> f64 {
        1.0 - (self.left - self.rate * (now - self.since) as f64) / self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{Begin, FlowKey, Net, Progress};

    /// Lets time pass until nothing is left to happen: what came of each flow, when.
    fn run(net: &mut Net) -> Vec<(u64, u32, Progress)> {
        let (mut queue, mut story): (Vec<(u64, FlowKey, u32)>, _) = (Vec::new(), Vec::new());
        loop {
            queue.extend(net.alarms());
            queue.sort_by_key(|alarm| std::cmp::Reverse(alarm.0));
            let Some((now, key, turn)) = queue.pop() else { return story };
            if let Some(progress) = net.look(now, key, turn) {
                story.push((now, key.at, progress));
            }
        }
    }

    fn stored(from: u32, to: u32, bytes: f64) -> Begin {
        Begin { from, to, bytes, nearly_at: 0.0, cargo: u64::from(from) << 32 | u64::from(to), is_stored: true }
    }

    fn hosts(rates: &[(f64, f64)]) -> Net {
        let mut net = Net::default();
        rates.iter().for_each(|(up, down)| net.add_host(*up, *down));
        net
    }

    #[test]
    fn one_flow_gets_the_narrower_end() {
        let mut net = hosts(&[(4.0, 1.0), (1.0, 2.0)]);
        net.start(0, Begin { nearly_at: 20.0, ..stored(0, 1, 100.0) });
        assert_eq!(run(&mut net), [(40, 0, Progress::Nearly), (50, 0, Progress::Sent)]);
    }

    #[test]
    fn two_flows_share_an_uplink_and_the_rest_gets_all_of_it() {
        let mut net = hosts(&[(2.0, 1.0), (1.0, 9.0), (1.0, 9.0)]);
        net.start(0, stored(0, 1, 100.0));
        net.start(0, stored(0, 2, 200.0));
        assert_eq!(run(&mut net), [(100, 0, Progress::Sent), (150, 1, Progress::Sent)]);
    }

    #[test]
    fn a_flow_that_is_stopped_makes_room_and_is_not_heard_of_again() {
        let mut net = hosts(&[(2.0, 1.0), (1.0, 9.0), (1.0, 9.0)]);
        let first = net.start(0, stored(0, 1, 100.0));
        net.start(0, stored(0, 2, 100.0));
        net.stop(50, first);
        net.stop(60, first);
        assert_eq!(run(&mut net), [(75, 1, Progress::Sent)]);
    }

    #[test]
    fn what_is_passed_on_is_never_ahead_of_what_has_arrived() {
        let mut net = hosts(&[(1.0, 1.0), (4.0, 4.0), (4.0, 4.0), (4.0, 4.0)]);
        net.start(0, Begin { cargo: 7, ..stored(0, 1, 100_000.0) });
        net.start(50_000, Begin { cargo: 7, is_stored: false, ..stored(1, 2, 100_000.0) });
        net.start(50_000, Begin { cargo: 7, is_stored: false, ..stored(2, 3, 100_000.0) });
        let ends: Vec<u64> = run(&mut net).iter().map(|(at, ..)| *at).collect();
        // Times are whole microseconds: one more or less at each hop.
        assert!(ends.iter().all(|at| (99_997..=100_003).contains(at)), "{ends:?}");
    }

    #[test]
    fn what_a_slow_upstream_leaves_of_a_link_goes_to_the_others() {
        let mut net = hosts(&[(1.0, 9.0), (4.0, 9.0), (1.0, 9.0), (1.0, 9.0)]);
        net.start(0, Begin { cargo: 7, ..stored(0, 1, 100.0) });
        net.start(0, Begin { cargo: 7, is_stored: false, ..stored(1, 2, 100.0) });
        net.start(0, stored(1, 3, 270.0));
        assert_eq!(run(&mut net).iter().find(|(_, flow, _)| *flow == 2).map(|told| told.0), Some(90));
    }

    #[test]
    fn what_has_no_upstream_waits_for_one() {
        let mut net = hosts(&[(1.0, 9.0), (1.0, 9.0), (1.0, 9.0)]);
        let early = net.start(0, Begin { cargo: 7, is_stored: false, ..stored(1, 2, 100.0) });
        assert_eq!(run(&mut net), []);
        assert_eq!(net.passing_on(1, 7), [early]);
        let upstream = net.start(1000, Begin { cargo: 7, ..stored(0, 1, 100.0) });
        net.stop(1050, upstream);
        assert_eq!(run(&mut net), []);
        net.start(2000, Begin { cargo: 7, ..stored(0, 1, 100.0) });
        assert_eq!(run(&mut net).len(), 2);
    }
}

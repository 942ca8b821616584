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

/// One direction of a host's link.
#[derive(Clone, Debug, Default)]
struct Lane {
    bytes_per_us: f64,
    flows: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    version: u32,
    /// Counts changes of the rate: an alarm set before the last one is void.
    turn: u32,
    from: u32,
    to: u32,
    left: f64,
    nearly_at: f64,
    is_nearly_told: bool,
    rate: f64,
    since: u64,
}

/// All links. The rate of a flow is the smaller of its shares at both ends: a share that the other
/// end cannot use is nobody's, so a swarm over real links, which would give it to others, is no
/// slower.
#[derive(Debug, Default)]
pub(crate) struct Net {
    up: Vec<Lane>,
    down: Vec<Lane>,
    flows: Vec<Flow>,
    free: Vec<u32>,
    /// When to look at which flow again, and its turn.
    alarms: Vec<(u64, FlowKey, u32)>,
}

impl Net {
    /// Adds a host with its rates in bytes a microsecond; they are numbered from 0.
    pub(crate) fn add_host(&mut self, up: f64, down: f64) {
        self.up.push(Lane { bytes_per_us: up, flows: Vec::new() });
        self.down.push(Lane { bytes_per_us: down, flows: Vec::new() });
    }

    /// Begins to send `bytes`. The owner is told when `nearly_at` are left.
    pub(crate) fn start(&mut self, now: u64, from: u32, to: u32, bytes: f64, nearly_at: f64) -> FlowKey {
        let at = self.free.pop().unwrap_or(self.flows.len() as u32);
        let version = self.flows.get(at as usize).map_or(0, |old| old.version + 1);
        let flow = Flow {
            version,
            turn: 0,
            from,
            to,
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
        self.share(now, from, to);
        FlowKey { at, version }
    }

    /// Ends a flow, finished or not; nothing if it is over.
    pub(crate) fn stop(&mut self, now: u64, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(key.at as usize).filter(|flow| flow.version == key.version) else { return };
        let (from, to) = (flow.from, flow.to);
        flow.version += 1;
        self.free.push(key.at);
        self.up[from as usize].flows.retain(|at| *at != key.at);
        self.down[to as usize].flows.retain(|at| *at != key.at);
        self.share(now, from, to);
    }

    /// An alarm of `turn` went off: what has become of the flow, if the alarm still counts.
    pub(crate) fn look(&mut self, now: u64, key: FlowKey, turn: u32) -> Option<Progress> {
        let flow = self.flows.get_mut(key.at as usize).filter(|f| f.version == key.version && f.turn == turn)?;
        flow.advance(now);
        if flow.left < 0.5 {
            self.stop(now, key);
            return Some(Progress::Sent);
        }
        let is_nearly = !flow.is_nearly_told && flow.left <= flow.nearly_at + 0.5;
        flow.is_nearly_told |= is_nearly;
        self.set_alarm(now, key.at);
        is_nearly.then_some(Progress::Nearly)
    }

    /// Alarms to be set: when, for which flow, of which turn.
    pub(crate) fn alarms(&mut self) -> impl Iterator<Item = (u64, FlowKey, u32)> + '_ {
        self.alarms.drain(..)
    }

    /// New rates for all flows at the two ends of a change.
    fn share(&mut self, now: u64, from: u32, to: u32) {
        for index in 0..self.up[from as usize].flows.len() {
            self.rate(now, self.up[from as usize].flows[index]);
        }
        for index in 0..self.down[to as usize].flows.len() {
            let at = self.down[to as usize].flows[index];
            if self.flows[at as usize].from != from {
                self.rate(now, at);
            }
        }
    }

    fn rate(&mut self, now: u64, at: u32) {
        let flow = self.flows[at as usize];
        let share = |lane: &Lane| lane.bytes_per_us / lane.flows.len().max(1) as f64;
        let rate = share(&self.up[flow.from as usize]).min(share(&self.down[flow.to as usize]));
        if rate != flow.rate {
            self.flows[at as usize].advance(now);
            self.flows[at as usize].rate = rate;
            self.set_alarm(now, at);
        }
    }

    fn set_alarm(&mut self, now: u64, at: u32) {
        let flow = &mut self.flows[at as usize];
        flow.turn += 1;
        let until = if flow.is_nearly_told { flow.left } else { (flow.left - flow.nearly_at).max(0.0) };
        let after = (until / flow.rate).ceil() as u64;
        self.alarms.push((now + after, FlowKey { at, version: flow.version }, flow.turn));
    }
}

impl Flow {
    fn advance(&mut self, now: u64) {
        self.left -= self.rate * (now - self.since) as f64;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::{FlowKey, Net, Progress};

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

    fn hosts(rates: &[(f64, f64)]) -> Net {
        let mut net = Net::default();
        rates.iter().for_each(|(up, down)| net.add_host(*up, *down));
        net
    }

    #[test]
    fn one_flow_gets_the_narrower_end() {
        let mut net = hosts(&[(4.0, 1.0), (1.0, 2.0)]);
        net.start(0, 0, 1, 100.0, 20.0);
        assert_eq!(run(&mut net), [(40, 0, Progress::Nearly), (50, 0, Progress::Sent)]);
    }

    #[test]
    fn two_flows_share_an_uplink_and_the_rest_gets_all_of_it() {
        let mut net = hosts(&[(2.0, 1.0), (1.0, 9.0), (1.0, 9.0)]);
        net.start(0, 0, 1, 100.0, 0.0);
        net.start(0, 0, 2, 200.0, 0.0);
        assert_eq!(run(&mut net), [(100, 0, Progress::Sent), (150, 1, Progress::Sent)]);
    }

    #[test]
    fn a_flow_that_is_stopped_makes_room_and_is_not_heard_of_again() {
        let mut net = hosts(&[(2.0, 1.0), (1.0, 9.0), (1.0, 9.0)]);
        let first = net.start(0, 0, 1, 100.0, 0.0);
        net.start(0, 0, 2, 100.0, 0.0);
        net.stop(50, first);
        net.stop(60, first);
        assert_eq!(run(&mut net), [(75, 1, Progress::Sent)]);
    }
}

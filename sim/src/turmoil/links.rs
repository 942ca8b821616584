//! The state of every way between two hosts, made of all faults that are on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::fault::Fault;

/// What passes between two hosts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Way {
    /// Everything.
    #[default]
    Open,
    /// What is sent waits.
    Held,
    /// Nothing from the first to the second.
    CutForth,
    /// Nothing from the second to the first.
    CutBack,
    /// Nothing.
    Cut,
}

impl Way {
    /// Both at once.
    const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Open, way) | (way, Self::Open) => way,
            (Self::Cut, _) | (_, Self::Cut) | (Self::CutForth, Self::CutBack) | (Self::CutBack, Self::CutForth) => {
                Self::Cut
            }
            // A way that is cut on one side holds nothing back.
            (Self::Held, way) | (way, Self::Held) => way,
            (way, _) => way,
        }
    }
}

/// All ways, by the numbers of the hosts, the smaller one first.
pub struct Links {
    ips: Vec<IpAddr>,
    ways: BTreeMap<(u32, u32), Way>,
}

impl Links {
    /// All ways between these hosts, open.
    pub fn new(ips: Vec<IpAddr>) -> Self {
        let count = ips.len() as u32;
        let ways = (0..count).flat_map(|a| (a + 1..count).map(move |b| ((a, b), Way::Open))).collect();
        Self { ips, ways }
    }

    /// Makes the ways what these faults make of them.
    pub fn settle<'a>(&mut self, sim: &turmoil::Sim<'_>, faults: impl Iterator<Item = &'a Fault> + Clone) {
        for (&(a, b), way) in &mut self.ways {
            let new = faults.clone().fold(Way::Open, |way, fault| way.and(effect(fault, a, b)));
            if new == *way {
                continue;
            }
            let (from, to) = (self.ips[a as usize], self.ips[b as usize]);
            match *way {
                Way::Held => sim.release(from, to),
                Way::Open => {}
                _ => sim.repair(from, to),
            }
            match new {
                Way::Open => {}
                Way::Held => sim.hold(from, to),
                Way::CutForth => sim.partition_oneway(from, to),
                Way::CutBack => sim.partition_oneway(to, from),
                Way::Cut => sim.partition(from, to),
            }
            *way = new;
        }
    }

    /// Ways on which nothing passes, from and to.
    pub fn cut(&self) -> BTreeSet<(IpAddr, IpAddr)> {
        let mut cut = BTreeSet::new();
        for (&(a, b), way) in &self.ways {
            let (a, b) = (self.ips[a as usize], self.ips[b as usize]);
            if matches!(way, Way::Cut | Way::CutForth) {
                cut.insert((a, b));
            }
            if matches!(way, Way::Cut | Way::CutBack) {
                cut.insert((b, a));
            }
        }
        cut
    }
}

/// What a fault makes of the way between two hosts.
fn effect(fault: &Fault, a: u32, b: u32) -> Way {
    let parts = |hosts: &[u32]| hosts.contains(&a) != hosts.contains(&b);
    match fault {
        Fault::Partition { hosts, .. } if parts(hosts) => Way::Cut,
        Fault::Hold { hosts, .. } if parts(hosts) => Way::Held,
        Fault::Bridge { hosts, bridge, .. } if parts(hosts) && a != *bridge && b != *bridge => Way::Cut,
        Fault::OneWay { from, to, .. } if (*from, *to) == (a, b) => Way::CutForth,
        Fault::OneWay { from, to, .. } if (*from, *to) == (b, a) => Way::CutBack,
        _ => Way::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_add_up() {
        let ways = [Way::Open, Way::Held, Way::CutForth, Way::CutBack, Way::Cut];
        for way in ways {
            assert_eq!(way.and(Way::Open), way);
            assert_eq!(way.and(Way::Cut), Way::Cut);
            assert_eq!(way.and(way), way);
            for other in ways {
                assert_eq!(way.and(other), other.and(way));
            }
        }
        assert_eq!(Way::CutForth.and(Way::CutBack), Way::Cut);
    }

    #[test]
    fn a_fault_touches_the_ways_it_names() {
        let partition = Fault::Partition { hosts: vec![0, 1], span_ms: 1 };
        assert_eq!(effect(&partition, 0, 1), Way::Open);
        assert_eq!(effect(&partition, 1, 2), Way::Cut);
        let bridge = Fault::Bridge { hosts: vec![0], bridge: 2, span_ms: 1 };
        assert_eq!((effect(&bridge, 0, 1), effect(&bridge, 0, 2)), (Way::Cut, Way::Open));
        let one_way = Fault::OneWay { from: 2, to: 1, span_ms: 1 };
        assert_eq!(effect(&one_way, 1, 2), Way::CutBack);
    }
}

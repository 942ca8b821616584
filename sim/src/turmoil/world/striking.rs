//! Faults as they strike a world, last, and are over.

use std::time::Duration;

use df_daemons::sync::lock;

use super::World;
use crate::turmoil::fault::{Fault, Manner};
use crate::turmoil::ledger::Mark;

impl World<'_> {
    /// A fault happens that was due at `at_ms`: so it is written down, for a run of what was written down is to
    /// be the same run.
    pub(super) fn strike(&mut self, at_ms: u64, fault: Fault) {
        self.ledger().note("world", 30, self.fired.len() as u32, &fault);
        self.fired.push((at_ms, fault.clone()));
        match &fault {
            Fault::Kill { host, down_ms } => self.go_down(*host, *down_ms, Mark::ResumedAfterKill),
            Fault::PowerLoss { host, down_ms } => {
                // Nobody hears of it: its machine is gone before it can close anything.
                let cut = Fault::Partition { hosts: vec![*host], span_ms: 0 };
                let ways: Vec<Fault> = self.active.iter().map(|(_, fault)| fault.clone()).chain([cut]).collect();
                self.links.settle(&self.sim, ways.iter());
                self.go_down(*host, *down_ms, Mark::ResumedAfterPowerLoss);
                self.nodes[*host as usize].disk.power_lost();
            }
            Fault::Wipe { host, down_ms } => {
                self.go_down(*host, *down_ms, Mark::ResumedAfterKill);
                self.nodes[*host as usize].disk.wipe();
            }
            Fault::Restart { host } if !self.starts.contains_key(host) => {
                self.nodes[*host as usize].stop(self.now_ms);
            }
            Fault::Reset { host } => lock(&self.common.wires).reset(self.nodes[*host as usize].ip),
            Fault::Flip { host, draw } => drop(self.nodes[*host as usize].disk.flip(*draw)),
            Fault::Change { content } => lock(&self.common.shelf).change(*content),
            Fault::Wall { host, by_secs } => self.nodes[*host as usize].shift_wall(*by_secs),
            _ => {}
        }
        let is_lasting = !matches!(fault, Fault::Kill { .. } | Fault::PowerLoss { .. } | Fault::Wipe { .. });
        if let Some(span_ms) = fault.span_ms().filter(|_| is_lasting) {
            self.switch(&fault, true);
            self.active.push((self.now_ms + span_ms, fault));
        }
        self.settle_links();
    }

    fn go_down(&mut self, host: u32, down_ms: u64, mark: Mark) {
        self.kill(host);
        self.deaths.insert(host, mark);
        self.starts.insert(host, self.now_ms + down_ms.max(1));
    }

    pub(super) fn settle_links(&mut self) {
        self.links.settle(&self.sim, self.active.iter().map(|(_, fault)| fault));
        lock(&self.common.wires).set_cut(self.links.cut());
    }

    /// Turns a lasting fault on or off.
    pub(super) fn switch(&self, fault: &Fault, is_on: bool) {
        let scenario = self.scenario();
        let node = |host: &u32| &self.nodes[*host as usize];
        let mut wires = lock(&self.common.wires);
        let mut shelf = lock(&self.common.shelf);
        match fault {
            Fault::Latency { host, latency_ms, .. } => {
                let (_, usual_ms) = scenario.topology.latency_ms;
                let most_ms = if is_on { *latency_ms } else { usual_ms };
                for other in self.nodes.iter().filter(|other| other.number != *host) {
                    self.sim.set_link_max_message_latency(
                        node(host).ip,
                        other.ip,
                        Duration::from_millis(most_ms.max(usual_ms)),
                    );
                }
            }
            Fault::Slow { host, bytes_per_sec, .. } => {
                let rate = if is_on { *bytes_per_sec } else { scenario.topology.uplink_bytes_per_sec };
                wires.set_rate(node(host).ip, rate);
            }
            Fault::Hang { host, .. } => wires.gate(node(host).ip).set_shut(is_on),
            Fault::Refuse { host, .. } => wires.set_refuses(node(host).ip, is_on),
            Fault::Full { host, .. } => node(host).disk.set_faults(|faults| faults.is_full = is_on),
            Fault::DiskError { host, percent, .. } => {
                node(host).disk.set_faults(|faults| faults.error_percent = if is_on { *percent } else { 0 });
            }
            Fault::Lag { host, delay_ms, .. } => {
                let usual_ms = if scenario.knobs.has_slow_disks { 15 } else { 0 };
                node(host).disk.set_faults(|faults| faults.delay_ms = if is_on { *delay_ms } else { usual_ms });
            }
            Fault::Lie { host, .. } => node(host).disk.set_faults(|faults| faults.lies = is_on),
            Fault::OriginDown { .. } => shelf.set_down(is_on),
            Fault::Origin { content, manner, .. } => {
                shelf.set_manner(*content, if is_on { *manner } else { Manner::Good });
            }
            _ => {}
        }
    }

    /// Ends what has lasted long enough.
    pub(super) fn end_due(&mut self) {
        let now_ms = self.now_ms;
        let (due, on): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.active).into_iter().partition(|(end, _)| *end <= now_ms);
        self.active = on;
        if due.is_empty() {
            return;
        }
        for (_, fault) in &due {
            self.ledger().note("world", 31, 0, &format_args!("over: {fault:?}"));
            self.switch(fault, false);
        }
        // What another fault still wants is turned on again.
        let still: Vec<Fault> = self.active.iter().map(|(_, fault)| fault.clone()).collect();
        still.iter().for_each(|fault| self.switch(fault, true));
        self.settle_links();
    }
}

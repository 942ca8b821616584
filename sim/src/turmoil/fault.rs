//! Faults as data: the kinds a run may have, and single ones with what they strike and for how long.

use df_core::rng::Rng;
use serde::{Deserialize, Serialize};

use super::scenario::Scenario;

/// A kind of fault, which a run has or has not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A daemon is killed and started again.
    Kill,
    /// A machine loses its power, and what was not synced may be lost or torn.
    PowerLoss,
    /// A daemon comes back with an empty disk.
    Wipe,
    /// A daemon dies several times in a row.
    CrashLoop,
    /// A daemon, scheduler or manager is told to end, and started again when it has.
    Restart,
    /// A process hangs.
    Hang,
    /// A scheduler is killed, and has forgotten everything.
    SchedulerKill,
    /// Some hosts cannot reach the others.
    Partition,
    /// One host cannot send to another, which can send to it.
    OneWay,
    /// Two groups that see each other only by way of one host.
    Bridge,
    /// Messages wait, then all come at once.
    Hold,
    /// A link comes and goes.
    Flap,
    /// A link becomes slow to answer.
    Latency,
    /// A host can send only a little.
    Slow,
    /// All connections of a host are reset.
    Reset,
    /// New connections to a host are refused.
    Refuse,
    /// A disk is full.
    Full,
    /// Some calls to a disk fail.
    DiskError,
    /// Stored bits flip.
    Flip,
    /// A disk takes its time.
    Lag,
    /// A host sends other bytes than it has.
    Lie,
    /// The origin does not answer.
    OriginDown,
    /// The origin answers with errors, or not as it should.
    OriginFault,
    /// A content changes at its origin.
    Change,
    /// A wall clock is moved.
    Wall,
    /// A manager is killed and started again.
    ManagerKill,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 26] = [
        Self::Kill,
        Self::PowerLoss,
        Self::Wipe,
        Self::CrashLoop,
        Self::Restart,
        Self::Hang,
        Self::SchedulerKill,
        Self::Partition,
        Self::OneWay,
        Self::Bridge,
        Self::Hold,
        Self::Flap,
        Self::Latency,
        Self::Slow,
        Self::Reset,
        Self::Refuse,
        Self::Full,
        Self::DiskError,
        Self::Flip,
        Self::Lag,
        Self::Lie,
        Self::OriginDown,
        Self::OriginFault,
        Self::Change,
        Self::Wall,
        Self::ManagerKill,
    ];
}

/// How an origin answers for one content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manner {
    /// As it should.
    #[default]
    Good,
    /// 404.
    NotFound,
    /// 503.
    Unavailable,
    /// 429, with a second to wait.
    TooMany,
    /// 200 with everything, whatever range was asked for.
    IgnoresRange,
    /// Half of what it announced, then the end of the connection.
    Truncated,
    /// Half of what it announced, then nothing.
    Stalled,
    /// Nothing at all for some seconds, then a good answer.
    SlowHead,
    /// 206 with another range than was asked for.
    WrongRange,
    /// A redirect to itself.
    RedirectLoop,
    /// Half of a range, and its end as if that were all.
    EndsEarly,
}

impl Manner {
    const BAD: [Self; 10] = [
        Self::NotFound,
        Self::Unavailable,
        Self::TooMany,
        Self::IgnoresRange,
        Self::Truncated,
        Self::Stalled,
        Self::SlowHead,
        Self::WrongRange,
        Self::RedirectLoop,
        Self::EndsEarly,
    ];
}

/// One fault. Hosts are counted through: schedulers, seeds, peers, the origin, the manager.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "fields that say with their names and units what they are")]
pub enum Fault {
    /// A process dies, and is started again after a time.
    Kill { host: u32, down_ms: u64 },
    /// A machine loses its power.
    PowerLoss { host: u32, down_ms: u64 },
    /// A process dies, and its disk is replaced.
    Wipe { host: u32, down_ms: u64 },
    /// A process is told to end, and started again when it has.
    Restart { host: u32 },
    /// Nothing that a process reads or writes gets on.
    Hang { host: u32, span_ms: u64 },
    /// Nothing passes between these hosts and all others.
    Partition { hosts: Vec<u32>, span_ms: u64 },
    /// Nothing passes from one host to another.
    OneWay { from: u32, to: u32, span_ms: u64 },
    /// Nothing passes between these hosts and all others but one.
    Bridge { hosts: Vec<u32>, bridge: u32, span_ms: u64 },
    /// What these hosts and all others send to each other waits.
    Hold { hosts: Vec<u32>, span_ms: u64 },
    /// A way takes this long.
    Latency { host: u32, latency_ms: u64, span_ms: u64 },
    /// A host sends no more than this.
    Slow { host: u32, bytes_per_sec: u64, span_ms: u64 },
    /// All connections of a host break.
    Reset { host: u32 },
    /// A host accepts no connections.
    Refuse { host: u32, span_ms: u64 },
    /// A disk takes no more bytes.
    Full { host: u32, span_ms: u64 },
    /// So many per cent of a disk's calls fail.
    DiskError { host: u32, percent: u64, span_ms: u64 },
    /// A bit of a stored content flips.
    Flip { host: u32, draw: u64 },
    /// Blocking calls of a disk take so long.
    Lag { host: u32, delay_ms: u64, span_ms: u64 },
    /// A host serves other bytes than it has.
    Lie { host: u32, span_ms: u64 },
    /// The origin closes every connection.
    OriginDown { span_ms: u64 },
    /// The origin answers in another manner.
    Origin { content: u32, manner: Manner, span_ms: u64 },
    /// A content changes at its origin.
    Change { content: u32 },
    /// A wall clock jumps by so many seconds.
    Wall { host: u32, by_secs: i64 },
}

impl Fault {
    /// How long it lasts, in milliseconds; nothing for what happens at once and cannot be undone.
    pub const fn span_ms(&self) -> Option<u64> {
        match self {
            Self::Kill { down_ms, .. } | Self::PowerLoss { down_ms, .. } | Self::Wipe { down_ms, .. } => Some(*down_ms),
            Self::Hang { span_ms, .. }
            | Self::Partition { span_ms, .. }
            | Self::OneWay { span_ms, .. }
            | Self::Bridge { span_ms, .. }
            | Self::Hold { span_ms, .. }
            | Self::Latency { span_ms, .. }
            | Self::Slow { span_ms, .. }
            | Self::Refuse { span_ms, .. }
            | Self::Full { span_ms, .. }
            | Self::DiskError { span_ms, .. }
            | Self::Lag { span_ms, .. }
            | Self::Lie { span_ms, .. }
            | Self::OriginDown { span_ms }
            | Self::Origin { span_ms, .. } => Some(*span_ms),
            Self::Restart { .. } | Self::Reset { .. } | Self::Flip { .. } | Self::Change { .. } | Self::Wall { .. } => {
                None
            }
        }
    }
}

/// Draws the faults of a run.
pub struct Drawing {
    rng: Rng,
    kinds: Vec<Kind>,
    gap_ms: u64,
    span_ms: u64,
    schedulers: u32,
    daemons: u32,
    managers: u32,
    contents: Vec<u32>,
    changeable: Vec<u32>,
    /// When users ask hosts for something, and for which content.
    begun: Vec<(u64, u32, Option<u32>)>,
    /// Where something is going on as the fault happens, if it is to happen there.
    focus: Option<(u32, Option<u32>)>,
}

impl Drawing {
    /// The faults of a scenario.
    pub fn new(scenario: &Scenario) -> Self {
        let contents = 0..scenario.contents.len() as u32;
        let users = scenario.work.iter().filter(|work| !work.act.is_operators());
        Self {
            rng: Rng::new(scenario.seed).fork("faults"),
            kinds: scenario.mask.iter().copied().collect(),
            gap_ms: scenario.rates.gap_ms,
            span_ms: scenario.rates.span_ms,
            schedulers: scenario.topology.schedulers,
            daemons: scenario.daemons(),
            managers: scenario.topology.managers,
            changeable: contents.clone().filter(|content| scenario.contents[*content as usize].has_etag).collect(),
            contents: contents.collect(),
            begun: users.map(|work| (work.at_ms, work.host, work.act.content())).collect(),
            focus: None,
        }
    }

    /// The whole plan, with times in milliseconds.
    pub fn plan(mut self, chaos_ms: u64) -> Vec<(u64, Fault)> {
        let mut plan = Vec::new();
        let mut at = 0;
        while !self.kinds.is_empty() {
            at += self.spread(self.gap_ms);
            if at >= chaos_ms {
                break;
            }
            let kind = self.kinds[self.rng.index(self.kinds.len())];
            // Half of them while somebody is being served, and half of those right there: a quiet world has
            // little to break.
            let begun = self.begun.get(self.rng.index(self.begun.len())).copied();
            let begun = begun.filter(|_| self.rng.chance(1, 2));
            let at = begun.map_or(at, |(begun_ms, ..)| begun_ms + self.rng.between(10, 2400));
            let focus = begun.map(|(_, host, content)| (self.schedulers + host, content));
            self.focus = focus.filter(|_| self.rng.chance(1, 2));
            plan.extend(self.faults(kind).into_iter().map(|(later, fault)| (at + later, fault)));
        }
        plan.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Half to one and a half times as much, now and then much more.
    fn spread(&mut self, mean: u64) -> u64 {
        let drawn = self.rng.between(mean / 2, mean + mean / 2).max(1);
        if self.rng.chance(1, 16) { drawn * 6 } else { drawn }
    }

    const fn origin(&self) -> u32 {
        self.schedulers + self.daemons
    }

    const fn hosts(&self) -> u32 {
        self.origin() + 1 + self.managers
    }

    fn any(&mut self) -> u32 {
        if let Some((host, _)) = self.focus {
            return host;
        }
        self.rng.below(u64::from(self.hosts())) as u32
    }

    fn scheduler(&mut self) -> u32 {
        self.rng.below(u64::from(self.schedulers)) as u32
    }

    fn daemon(&mut self) -> u32 {
        if let Some((host, _)) = self.focus {
            return host;
        }
        self.schedulers + self.rng.below(u64::from(self.daemons)) as u32
    }

    fn manager(&self) -> Option<u32> {
        (self.managers > 0).then_some(self.origin() + 1)
    }

    /// A host on which one of our processes runs, if it is not the origin's.
    fn process(&mut self) -> Option<u32> {
        let host = self.any();
        (host != self.origin()).then_some(host)
    }

    /// A host with something on its disk.
    fn disk(&mut self) -> u32 {
        let manager = self.manager().filter(|_| self.rng.chance(1, 4));
        manager.unwrap_or_else(|| self.daemon())
    }

    fn content(&mut self) -> u32 {
        match self.focus {
            Some((_, Some(content))) => content,
            _ => self.contents[self.rng.index(self.contents.len())],
        }
    }

    /// Some hosts, not all of them.
    fn group(&mut self) -> Vec<u32> {
        let mut hosts: Vec<u32> = (0..self.hosts()).collect();
        self.rng.shuffle(&mut hosts);
        let count = if self.rng.chance(1, 2) { 1 } else { self.rng.between(1, u64::from(self.hosts()) - 1) };
        hosts.truncate(count as usize);
        hosts.sort_unstable();
        hosts
    }

    fn faults(&mut self, kind: Kind) -> Vec<(u64, Fault)> {
        let span_ms = self.spread(self.span_ms);
        match kind {
            Kind::CrashLoop => {
                let host = self.daemon();
                let times = self.rng.between(2, 5);
                (0..times)
                    .map(|time| (time * (span_ms / 2 + 300), Fault::Kill { host, down_ms: span_ms / 4 }))
                    .collect()
            }
            Kind::Flap => {
                let hosts = self.group();
                let times = self.rng.between(2, 6);
                let short = (span_ms / 4).max(10);
                (0..times)
                    .map(|time| (time * short * 2, Fault::Partition { hosts: hosts.clone(), span_ms: short }))
                    .collect()
            }
            Kind::Reset => {
                // Of the scheduler's as often as of all others': every host has one to it.
                let is_scheduler = self.schedulers > 0 && self.rng.chance(1, 2);
                let host = if is_scheduler { self.scheduler() } else { self.any() };
                let times = if self.rng.chance(1, 2) { 1 } else { self.rng.between(2, 9) };
                (0..times).map(|time| (time * (span_ms / 2 + 200), Fault::Reset { host })).collect()
            }
            Kind::Change => {
                // A new version often comes with a restart of its server, which breaks what is being read.
                let origin = Fault::Reset { host: self.origin() };
                let reset = (self.rng.between(0, 40), origin);
                let has_restarted = self.rng.chance(1, 2);
                let change = self.single(kind, span_ms).map(|fault| (0, fault));
                change.into_iter().chain(has_restarted.then_some(reset)).collect()
            }
            _ => self.single(kind, span_ms).into_iter().map(|fault| (0, fault)).collect(),
        }
    }

    fn single(&mut self, kind: Kind, span_ms: u64) -> Option<Fault> {
        Some(match kind {
            Kind::CrashLoop | Kind::Flap | Kind::Reset => return None,
            Kind::Kill => Fault::Kill { host: self.daemon(), down_ms: span_ms },
            Kind::PowerLoss => Fault::PowerLoss { host: self.daemon(), down_ms: span_ms },
            Kind::Wipe => Fault::Wipe { host: self.daemon(), down_ms: span_ms },
            Kind::Restart => Fault::Restart { host: self.process()? },
            Kind::Hang => Fault::Hang { host: self.any(), span_ms },
            Kind::SchedulerKill if self.schedulers == 0 => return None,
            Kind::ManagerKill => Fault::Kill { host: self.manager()?, down_ms: span_ms },
            Kind::SchedulerKill => Fault::Kill { host: self.scheduler(), down_ms: span_ms },
            Kind::Partition => Fault::Partition { hosts: self.group(), span_ms },
            Kind::OneWay => {
                let from = self.any();
                self.focus = None;
                let to = self.any();
                if from == to {
                    return None;
                }
                Fault::OneWay { from, to, span_ms }
            }
            Kind::Bridge => {
                let (mut hosts, bridge) = (self.group(), self.any());
                hosts.retain(|host| *host != bridge);
                Fault::Bridge { hosts, bridge, span_ms }
            }
            Kind::Hold => Fault::Hold { hosts: self.group(), span_ms },
            Kind::Latency => Fault::Latency { host: self.any(), latency_ms: self.rng.between(100, 3000), span_ms },
            Kind::Slow => {
                Fault::Slow { host: self.any(), bytes_per_sec: [100, 1000, 5000][self.rng.index(3)], span_ms }
            }
            Kind::Refuse => Fault::Refuse { host: self.any(), span_ms },
            Kind::Full => Fault::Full { host: self.disk(), span_ms },
            Kind::DiskError => {
                Fault::DiskError { host: self.disk(), percent: [2, 20, 100][self.rng.index(3)], span_ms }
            }
            Kind::Flip => Fault::Flip { host: self.daemon(), draw: self.rng.next_u64() },
            Kind::Lag => Fault::Lag { host: self.disk(), delay_ms: self.rng.between(10, 2000), span_ms },
            // A liar lies for long, most of the time.
            Kind::Lie => {
                Fault::Lie { host: self.daemon(), span_ms: if self.rng.chance(2, 3) { 60_000 } else { span_ms } }
            }
            Kind::OriginDown => Fault::OriginDown { span_ms },
            Kind::OriginFault => {
                let (content, manner) = (self.content(), Manner::BAD[self.rng.index(Manner::BAD.len())]);
                // Who asks again and again without a pause shows it in some seconds.
                let floor_ms = if manner == Manner::EndsEarly { 6000 } else { 0 };
                Fault::Origin { content, manner, span_ms: span_ms.max(floor_ms) }
            }
            Kind::Change => {
                let content = self.content();
                if !self.changeable.contains(&content) {
                    return None;
                }
                Fault::Change { content }
            }
            Kind::Wall => {
                let by_secs = [-3600, -5, 5, 3600][self.rng.index(4)];
                Fault::Wall { host: self.any(), by_secs }
            }
        })
    }
}

//! A desk at which one scheduler sits alone: hosts are what a test says they are, and every transfer ends
//! when it says so. The contents are cached ones, so that no source comes between.

use df_core::id::{HostId, PeerId, PieceDigest, TaskId};
use df_core::machine::Machine;
use df_core::piece::{Order, PiecePlan, PieceSet};
use df_core::scheduler::{
    Cached, GrantKey, HostInfo, HostKey, HostKind, HostRow, Input, Mode, Output, PeerKey, PieceFailure, Registration,
    RequestId, Scheduler, SchedulerConfig, Zone,
};
use df_core::time::{Duration, Instant};

/// How often a scheduler looks for what is overdue.
pub(crate) const SWEEP: Duration = Duration::from_millis(250);

/// A transfer that was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Granted {
    pub(crate) grant: GrantKey,
    pub(crate) child: PeerKey,
    pub(crate) parent: PeerKey,
    pub(crate) piece: u32,
}

pub(crate) struct Desk {
    pub(crate) scheduler: Scheduler,
    pub(crate) now: Instant,
    /// Transfers under way, in the order in which they were granted.
    pub(crate) under_way: Vec<Granted>,
    pub(crate) revoked: Vec<Granted>,
    plan: PiecePlan,
    accepted: Option<HostKey>,
    registered: Option<PeerKey>,
    hosts: u8,
}

impl Desk {
    pub(crate) fn new(config: SchedulerConfig, pieces: u32) -> Self {
        Self {
            scheduler: Scheduler::new(config, 5),
            now: Instant::from_micros(1),
            under_way: Vec::new(),
            revoked: Vec::new(),
            plan: PiecePlan::with_piece_len(u64::from(pieces) << 20, 1 << 20).unwrap(),
            accepted: None,
            registered: None,
            hosts: 0,
        }
    }

    pub(crate) fn tell(&mut self, input: Input) {
        self.scheduler.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        self.scheduler.check_invariants();
        while let Some(output) = self.scheduler.poll_output() {
            match output {
                Output::HostAccepted { host, .. } => self.accepted = Some(host),
                Output::Registered { peer, .. } => self.registered = Some(peer),
                Output::Grant { peer, grant, piece, parent } => {
                    self.under_way.push(Granted { grant, child: peer, parent, piece: piece.get() });
                }
                Output::Revoke { grant, .. } => {
                    let revoked = self.take(grant);
                    self.revoked.push(revoked);
                }
                Output::FetchSource { .. } | Output::FailTask { .. } => panic!("{output:?}"),
                _ => {}
            }
        }
    }

    /// Lets time pass, sweep by sweep.
    pub(crate) fn wait(&mut self, term: Duration) {
        let end = self.now + term;
        while self.now < end {
            self.now = end.min(self.now + SWEEP);
            self.scheduler.handle_timeout(self.now);
            self.drain();
        }
    }

    fn take(&mut self, grant: GrantKey) -> Granted {
        let at = self.under_way.iter().position(|granted| granted.grant == grant).expect("it is under way");
        self.under_way.remove(at)
    }

    /// A transfer has brought its piece.
    pub(crate) fn finish(&mut self, granted: Granted) {
        self.take(granted.grant);
        self.tell(Input::PieceFinished { grant: granted.grant });
    }

    pub(crate) fn fail(&mut self, granted: Granted, failure: PieceFailure) {
        self.take(granted.grant);
        self.tell(Input::PieceFailed { grant: granted.grant, failure });
    }

    /// All transfers to a child fail, and those granted then, until nothing more is.
    pub(crate) fn fail_all(&mut self, child: PeerKey) {
        for _ in 0..100 {
            let Some(granted) = self.to(child).pop() else { return };
            self.fail(granted, PieceFailure::Corrupt);
        }
        panic!("again and again: {:?}", self.to(child));
    }

    pub(crate) fn host(&mut self, kind: HostKind, upload_limit: u32) -> HostKey {
        self.hosts += 1;
        let id = HostId::from_bytes([self.hosts; 16]);
        let info = HostInfo { id, incarnation: 1, kind, zone: Zone(0), upload_limit, download_limit: 4 };
        self.tell(Input::HostAnnounced { request: RequestId(0), info });
        self.accepted.take().unwrap()
    }

    /// A host connects anew: under another key, the same host.
    pub(crate) fn connect_anew(&mut self, host: HostKey) -> HostKey {
        let info = *self.scheduler.host(host).unwrap();
        self.tell(Input::HostAnnounced { request: RequestId(0), info });
        self.accepted.take().unwrap()
    }

    /// A host joins a task with these pieces, and wants the others.
    pub(crate) fn join(&mut self, host: HostKey, task: u8, held: &[u32], order: Order) -> PeerKey {
        let plan = self.plan;
        let set: PieceSet = held.iter().filter_map(|piece| plan.number(*piece)).collect();
        self.tell(Input::PeerRegistered(Box::new(Registration {
            request: RequestId(0),
            host,
            peer: PeerId::from_bytes([self.hosts; 16]),
            task: TaskId::from_bytes([task; 32]),
            plan: Some(plan),
            is_wanting: !set.is_complete(&plan),
            held: set,
            digests: held.iter().map(|piece| (*piece, PieceDigest::from_bytes([*piece as u8; 32]))).collect(),
            version: 0,
            has_source: false,
            can_fetch_source: false,
            wakes_seeds: true,
            cached: (!held.is_empty()).then_some(Cached { is_imported: true, replicas: 1, stamp: 1 }),
            order,
            mode: Mode::Granted,
        })));
        self.registered.take().unwrap()
    }

    /// A new host that has all of a task's pieces and sends as many at once.
    pub(crate) fn holder(&mut self, task: u8, kind: HostKind, upload_limit: u32) -> PeerKey {
        let host = self.host(kind, upload_limit);
        let all: Vec<u32> = (0..self.plan.count().unwrap()).collect();
        self.join(host, task, &all, Order::RarestFirst)
    }

    /// A new host that has these pieces, wants the rest and sends nothing.
    pub(crate) fn child(&mut self, task: u8, held: &[u32]) -> PeerKey {
        let host = self.host(HostKind::Normal, 0);
        self.join(host, task, held, Order::RarestFirst)
    }

    pub(crate) fn host_of(&self, peer: PeerKey) -> HostRow {
        let host = self.scheduler.peer(peer).unwrap().host;
        self.scheduler.host_rows(self.now).find(|row| row.key == host).unwrap()
    }

    pub(crate) fn held(&self, peer: PeerKey) -> u32 {
        self.scheduler.peer(peer).unwrap().held
    }

    pub(crate) fn to(&self, child: PeerKey) -> Vec<Granted> {
        self.under_way.iter().copied().filter(|granted| granted.child == child).collect()
    }
}

//! One host: the production daemon on it, life after life, and its users.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_core::rng::Rng;
use df_daemons::config::{HostPort, ManagerAddress, ManagerLink, ManagerSettings, PeerConfig, SchedulerSettings};
use df_daemons::env::net::{Listener, Net};
use df_daemons::env::{Clock, Env};
use df_daemons::manager::ManagerIncoming;
use df_daemons::peer::{self, PeerIncoming};
use df_daemons::scheduler;
use df_daemons::sync::lock;
use df_daemons::units::{Rate, Size, Span};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::book::{Book, ROOT};
use super::disk::SimDisk;
use super::eyes::{Eyes, Gauges};
use super::ledger::Ledger;
use super::manager::{self, Estate, Operator};
use super::net::{LocalDoor, SimNet, Wires};
use super::origin::{self, Shelf};
use super::scenario::{Act, Scenario};
use super::user::{Entry, Outcome, User};

/// Where schedulers listen.
pub const SCHEDULER_PORT: u16 = 8002;
/// Where daemons answer each other.
const RPC_PORT: u16 = 65000;
/// Where daemons serve pieces.
pub const PIECE_PORT: u16 = 65002;

/// What every wall clock showed when the run began, after the Unix epoch.
pub(super) const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// What a host is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It runs dfscheduler.
    Scheduler,
    /// It runs dfdaemon as a seed peer.
    Seed,
    /// It runs dfdaemon.
    Peer,
    /// It is where contents come from.
    Origin,
    /// It runs dfmanager.
    Manager,
}

impl Role {
    /// Whether it is a manager's member, if there is one.
    pub const fn is_member(self) -> bool {
        matches!(self, Self::Scheduler | Self::Seed | Self::Peer)
    }
}

/// What all hosts share.
pub struct Common {
    /// The run.
    pub scenario: Scenario,
    /// Its ledger.
    pub ledger: Ledger,
    /// What is true.
    pub book: Arc<Book>,
    /// The origin's contents.
    pub shelf: Arc<Mutex<Shelf>>,
    /// All connections.
    pub wires: Arc<Mutex<Wires>>,
    /// What users asked for.
    pub diary: Mutex<Vec<Entry>>,
    /// The schedulers' addresses.
    pub schedulers: Vec<HostPort>,
    /// The manager's address, if there is one, and what outlives its process.
    pub manager: Option<(HostPort, Estate)>,
}

impl Common {
    /// How members reach the manager.
    fn link(&self) -> ManagerLink {
        let address = self.manager.as_ref().map(|(address, _)| ManagerAddress(address.clone()));
        let join_token_file = address.as_ref().map(|_| manager::TOKEN_FILE.into());
        ManagerLink { address, join_token_file, cluster: None }
    }
}

/// One host.
pub struct Node {
    /// Its number in the scenario.
    pub number: u32,
    /// What it is called.
    pub name: Arc<str>,
    /// Where it is.
    pub ip: IpAddr,
    /// What it is.
    pub role: Role,
    /// Its disk, if it needs one.
    pub disk: SimDisk,
    /// What its machines hold on to.
    pub gauges: Arc<Mutex<Gauges>>,
    /// Its present life.
    pub life: Mutex<Life>,
}

/// What changes from life to life.
#[derive(Default)]
pub struct Life {
    /// How many there were.
    pub count: u64,
    /// Whether the daemon ended by itself, and why.
    pub ended: Option<String>,
    /// How users reach it.
    pub users: Option<mpsc::UnboundedSender<(usize, Act)>>,
    /// Its clock.
    pub clock: Option<Clock>,
    /// How far its wall clock is off, in seconds.
    pub wall_shift_secs: i64,
    /// Tells it to end.
    pub stop: CancellationToken,
    /// When it was told, in milliseconds of the run.
    pub stopping_ms: Option<u64>,
}

impl Node {
    /// A host that has not been started.
    pub fn new(number: u32, name: &str, ip: IpAddr, role: Role, scenario: &Scenario, ledger: &Ledger) -> Self {
        let rng = Rng::new(scenario.seed).fork("disk").fork(name);
        let disk = SimDisk::new(ROOT.as_ref(), rng, ledger.clock(), scenario.knobs.can_reserve);
        if scenario.knobs.has_slow_disks {
            disk.set_faults(|faults| faults.delay_ms = 15);
        }
        let (gauges, life) = (Arc::default(), Mutex::default());
        Self { number, name: name.into(), ip, role, disk, gauges, life }
    }

    /// The time on its wall.
    fn wall(&self, ledger: &Ledger, shift_secs: i64) -> Duration {
        let true_wall = EPOCH + Duration::from_micros(ledger.now_us());
        let shift = Duration::from_secs(shift_secs.unsigned_abs());
        if shift_secs < 0 { true_wall.saturating_sub(shift) } else { true_wall + shift }
    }

    /// Tells its process to end.
    pub fn stop(&self, now_ms: u64) {
        let mut life = lock(&self.life);
        life.stopping_ms.get_or_insert(now_ms);
        life.stop.cancel();
    }

    /// What tells its process to end.
    fn shutdown(&self) -> CancellationToken {
        lock(&self.life).stop.clone()
    }

    /// Moves its wall clock.
    pub fn shift_wall(&self, by_secs: i64) {
        let mut life = lock(&self.life);
        life.wall_shift_secs += by_secs;
        if let Some(clock) = &life.clock {
            clock.shift_wall(by_secs);
        }
    }

    /// Its world, as a new process finds it.
    fn env(self: &Arc<Self>, common: &Common) -> Env {
        let (clock, count) = {
            let mut life = lock(&self.life);
            life.count += 1;
            life.ended = None;
            (life.stop, life.stopping_ms) = (CancellationToken::new(), None);
            let clock = Clock::with_wall(self.wall(&common.ledger, life.wall_shift_secs));
            life.clock = Some(clock.clone());
            (clock, life.count)
        };
        let net = SimNet::new(self.ip, PIECE_PORT, common.wires.clone());
        let seed = Rng::new(common.scenario.seed ^ count << 32).fork(&self.name).next_u64();
        let mut env = Env::simulated(Arc::new(net), Arc::new(self.disk.clone()), clock.clone(), seed);
        let disk = matches!(self.role, Role::Peer | Role::Seed).then(|| self.disk.clone());
        env.watch = Some(Arc::new(Eyes::new(
            (self.name.clone(), self.number),
            clock,
            disk,
            common.book.clone(),
            common.ledger.clone(),
            common.scenario.knobs.request_limit,
            self.gauges.clone(),
        )));
        env
    }

    /// What runs on it.
    pub async fn run(self: Arc<Self>, common: Arc<Common>) -> turmoil::Result {
        let ended = match self.role {
            Role::Scheduler => self.schedule(&common).await,
            Role::Seed | Role::Peer => self.serve(&common).await,
            Role::Manager => self.manage(&common).await,
            Role::Origin => {
                let net = SimNet::new(self.ip, PIECE_PORT, common.wires.clone());
                let listener = net.listen((self.ip, origin::PORT).into()).await?;
                origin::serve(common.shelf.clone(), listener).await;
                "the origin's port is gone".to_owned()
            }
        };
        common.ledger.note(&self.name, 9, self.number, &format_args!("ended: {ended}"));
        lock(&self.life).ended = Some(ended);
        Ok(())
    }

    async fn schedule(self: &Arc<Self>, common: &Common) -> String {
        let (env, knobs) = (self.env(common), &common.scenario.knobs);
        let settings = SchedulerSettings {
            relay_depth_limit: knobs.relay_depth_limit,
            source_escape: Span::new(Duration::from_millis(knobs.source_escape_ms)),
            task_ttl: Span::new(Duration::from_millis(knobs.task_ttl_ms)),
            hostname: self.name.to_string(),
            advertise_ip: Some(self.ip),
            data_dir: ROOT.into(),
            manager: common.link(),
            ..SchedulerSettings::default()
        };
        let incoming = match env.net.listen((self.ip, SCHEDULER_PORT).into()).await {
            Ok(listener) => listener,
            Err(error) => return error.to_string(),
        };
        let ended = scheduler::run(env, settings, incoming, self.shutdown()).await;
        format!("{ended:?}")
    }

    async fn manage(self: &Arc<Self>, common: &Arc<Common>) -> String {
        let Some((_, estate)) = common.manager.clone() else { return "there is none".to_owned() };
        let env = self.env(common);
        let (grpc, rest) = (
            env.net.listen((self.ip, manager::GRPC_PORT).into()).await,
            env.net.listen((self.ip, manager::REST_PORT).into()).await,
        );
        let (Ok(grpc), Ok(rest)) = (grpc, rest) else { return "its ports are taken".to_owned() };
        let operator = Operator { env: env.clone(), ip: self.ip, estate: estate.clone(), book: common.book.clone() };
        let (asks, asked) = mpsc::unbounded_channel();
        lock(&self.life).users = Some(asks);
        tokio::spawn(users(Asker::Operator(operator), asked, self.clone(), common.clone()));
        let settings = ManagerSettings { data_dir: ROOT.into(), ..ManagerSettings::default() };
        let ended = match df_daemons::manager::prepare(&env, estate.db, |_| Ok(())).await {
            Ok(prepared) => {
                let incoming = ManagerIncoming { grpc, rest };
                df_daemons::manager::run(env, settings, prepared, incoming, self.shutdown()).await
            }
            Err(failure) => Err(failure),
        };
        match ended {
            Ok(()) => "by itself".to_owned(),
            Err(failure) => failure.to_string(),
        }
    }

    async fn serve(self: &Arc<Self>, common: &Arc<Common>) -> String {
        let env = self.env(common);
        let (rpc, pieces) =
            (env.net.listen((self.ip, RPC_PORT).into()).await, env.net.listen((self.ip, PIECE_PORT).into()).await);
        let (rpc, pieces) = match (rpc, pieces) {
            (Ok(rpc), Ok(pieces)) => (rpc, pieces),
            (Err(error), _) | (_, Err(error)) => return error.to_string(),
        };
        let (door, dial) = LocalDoor::open(lock(&common.wires).gate(self.ip));
        let user = User {
            dial,
            disk: self.disk.clone(),
            book: common.book.clone(),
            contents: Arc::new(common.scenario.contents.clone()),
        };
        let (asks, asked) = mpsc::unbounded_channel();
        lock(&self.life).users = Some(asks);
        tokio::spawn(users(Asker::User(user), asked, self.clone(), common.clone()));
        let incoming = PeerIncoming { rpc, pieces, local: Listener::Other(Box::new(door)) };
        let ended = peer::run(env, self.config(common), incoming, self.shutdown()).await;
        match ended {
            Ok(()) => "by itself".to_owned(),
            Err(failure) => failure.to_string(),
        }
    }

    fn config(&self, common: &Common) -> PeerConfig {
        let knobs = &common.scenario.knobs;
        let rate = |rate: Option<u64>| rate.and_then(Rate::new);
        let mut config = PeerConfig { data_dir: ROOT.into(), ..PeerConfig::default() };
        config.host.hostname = self.name.to_string();
        config.host.ip = self.ip;
        config.host.idc = (knobs.zones > 1).then(|| format!("zone {}", self.number % knobs.zones));
        config.seed_peer.enable = self.role == Role::Seed;
        config.scheduler.addresses = common.schedulers.clone();
        config.manager = common.link();
        config.rpc.port = RPC_PORT;
        config.pieces.port = PIECE_PORT;
        config.upload.rate_limit = rate(knobs.upload_rate);
        config.upload.transfer_limit = knobs.upload_limit;
        config.upload.request_limit = knobs.request_limit;
        config.upload.child_limit = knobs.child_limit;
        config.download.rate_limit = rate(knobs.download_rate);
        config.download.source_rate_limit = rate(knobs.source_rate);
        config.download.transfer_limit = knobs.download_limit;
        config.source.allow = ["192.168.0.0/16"].iter().filter_map(|cidr| cidr.parse().ok()).collect();
        config.source.stall_limit = Span::new(Duration::from_millis(knobs.source_stall_ms));
        config.source.retry_limit = knobs.source_retry_limit;
        config.source.connection_limit = knobs.source_connection_limit;
        config.store.quota = knobs.quota.map(Size::new);
        config.store.free_floor = Size::new(0);
        config
    }
}

/// Who asks a daemon for something.
#[derive(Clone)]
enum Asker {
    User(User),
    Operator(Operator),
}

impl Asker {
    async fn ask(&self, act: &Act) -> Outcome {
        match self {
            Self::User(user) => user.ask(act).await,
            Self::Operator(operator) => operator.ask(act).await,
        }
    }
}

/// Everybody who asks this daemon for something, as long as it lives.
async fn users(asker: Asker, mut asked: mpsc::UnboundedReceiver<(usize, Act)>, node: Arc<Node>, common: Arc<Common>) {
    while let Some((entry, act)) = asked.recv().await {
        let (asker, node, common) = (asker.clone(), node.clone(), common.clone());
        tokio::spawn(async move {
            common.ledger.note(&node.name, 10, node.number, &format_args!("asked {act:?}"));
            let outcome = asker.ask(&act).await;
            common.ledger.note(&node.name, 11, node.number, &format_args!("answered {outcome:?} to {act:?}"));
            if let Some(entry) = lock(&common.diary).get_mut(entry) {
                entry.ended.get_or_insert((common.ledger.now_us(), outcome));
            }
        });
    }
}

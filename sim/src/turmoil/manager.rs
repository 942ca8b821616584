//! The manager's host: a store that fails as its disk does, and an operator at its port.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::failure::{Code, Failure};
use df_api::manager as wire;
use df_api::manager::console_client::ConsoleClient;
use df_api::status::failure_of;
use df_core::rng::Rng;
use df_daemons::env::{Clock, Env};
use df_daemons::manager::db::{Change, Db, Kind, MemoryDb};
use df_daemons::manager::{Bootstrap, prepare};
use df_daemons::peer::membership;
use df_daemons::sync::lock;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::book::Book;
use super::disk::SimDisk;
use super::net::{SimNet, Wires};
use super::node::EPOCH;
use super::scenario::Act;
use super::user::Outcome;

/// Its port for members and operators.
pub const GRPC_PORT: u16 = 65003;

/// Its port for Harbor.
pub const REST_PORT: u16 = 8080;

/// Where every member finds the token to join with.
pub const TOKEN_FILE: &str = "/etc/join-token";

/// The cluster there is from the beginning.
const FIRST_CLUSTER: u64 = 1;

/// How long an operator waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a preheat may take.
const PREHEAT_TERM: Duration = Duration::from_secs(20);

/// The manager's store: it keeps what it has taken, whatever happens to the process, and takes nothing while
/// its disk fails.
pub struct SimDb {
    rows: MemoryDb,
    disk: SimDisk,
}

impl SimDb {
    fn check(&self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::new(Code::LocalIo, "the store failed").because(error);
        self.disk.may_fail().map_err(failed)
    }
}

impl Db for SimDb {
    fn all(&self, kind: Kind) -> Result<BTreeMap<u64, Vec<u8>>, Failure> {
        self.check()?;
        self.rows.all(kind)
    }

    fn latest(&self, kind: Kind, before: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, Failure> {
        self.check()?;
        self.rows.latest(kind, before, limit)
    }

    fn apply(&self, changes: &[Change]) -> Result<(), Failure> {
        self.check()?;
        if self.disk.faults().is_full {
            return Err(Failure::new(Code::NoSpace, "the store is full"));
        }
        self.rows.apply(changes)
    }
}

/// What outlives the manager's process.
#[derive(Clone)]
pub struct Estate {
    /// Its store.
    pub db: Arc<SimDb>,
    /// Password of its first user.
    password: Arc<str>,
    /// The operator's token, once signed in.
    session: Arc<Mutex<Option<String>>>,
    /// The highest version of a configuration that an operator was told is in force.
    pub promised: Arc<Mutex<u64>>,
}

impl Estate {
    /// A manager that was set up before the run began, and what its members join with.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub fn found(seed: u64, disk: &SimDisk) -> Result<(Self, String), Failure> {
        let setup = |error: std::io::Error| Failure::new(Code::Internal, "no runtime").because(error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(setup)?;
        let net = SimNet::new(IpAddr::from([0, 0, 0, 0]), 0, Arc::new(Mutex::new(Wires::default())));
        let seed = Rng::new(seed).fork("manager").next_u64();
        let (mut password, mut token) = (String::new(), String::new());
        let db = Arc::new(SimDb { rows: MemoryDb::default(), disk: disk.clone() });
        let hand_over = |bootstrap: &Bootstrap| {
            (password, token) = (bootstrap.password.clone(), bootstrap.join_token.clone());
            Ok(())
        };
        runtime.block_on(async {
            let env = Env::simulated(Arc::new(net), Arc::new(disk.clone()), Clock::with_wall(EPOCH), seed);
            prepare(&env, db.clone(), hand_over).await
        })?;
        let estate = Self { db, password: password.into(), session: Arc::default(), promised: Arc::default() };
        Ok((estate, token))
    }
}

/// Somebody who sits at the manager.
#[derive(Clone)]
pub struct Operator {
    /// The manager's world.
    pub env: Env,
    /// Its address.
    pub ip: IpAddr,
    /// What is known of it.
    pub estate: Estate,
    /// What there is to preheat.
    pub book: Arc<Book>,
}

impl Operator {
    /// Asks, and waits for the answer.
    pub async fn ask(&self, act: &Act) -> Outcome {
        let late = Failure::new(Code::Timeout, "the manager did not answer");
        let answer = tokio::time::timeout(PATIENCE, self.asked(act)).await.unwrap_or(Err(late));
        match answer {
            Ok(()) => Outcome::Done { local_bytes: 0, peer_bytes: 0, origin_bytes: 0 },
            Err(failure) => {
                if failure.code == Code::Auth {
                    *lock(&self.estate.session) = None;
                }
                Outcome::Failed { code: failure.code.name().to_owned(), text: failure.to_string() }
            }
        }
    }

    fn client(&self) -> Result<ConsoleClient<Channel>, Failure> {
        let channel = membership::channel(&self.env, SocketAddr::new(self.ip, GRPC_PORT));
        channel.map(ConsoleClient::new).map_err(|error| Failure::new(Code::Network, error.to_string()))
    }

    /// The token of somebody who has signed in; at the first call that is done.
    async fn token(&self, client: &mut ConsoleClient<Channel>) -> Result<String, Failure> {
        let known = lock(&self.estate.session).clone();
        if let Some(token) = known {
            return Ok(token);
        }
        let asked = wire::SignInRequest { name: "root".to_owned(), password: self.estate.password.to_string() };
        let session = client.sign_in(asked).await.map_err(|status| failure_of(&status))?.into_inner();
        *lock(&self.estate.session) = Some(session.token.clone());
        Ok(session.token)
    }

    async fn asked(&self, act: &Act) -> Result<(), Failure> {
        let mut client = self.client()?;
        let token = self.token(&mut client).await?;
        let bearer = format!("Bearer {token}").parse();
        let bearer = bearer.map_err(|_| Failure::new(Code::Internal, "a token that is no header"))?;
        let refused = |status: Status| failure_of(&status);
        match *act {
            Act::SetLimits { upload_rate } => {
                let limits = wire::HostLimits { upload_rate_bytes_per_sec: Some(upload_rate), ..Default::default() };
                let limits = wire::Limits { peer: Some(limits), seed_peer: Some(limits), ..wire::Limits::default() };
                let mut request = Request::new(wire::SetLimitsRequest {
                    cluster_id: FIRST_CLUSTER,
                    limits: Some(limits),
                    ..wire::SetLimitsRequest::default()
                });
                request.metadata_mut().insert("authorization", bearer);
                let settings = client.set_limits(request).await.map_err(refused)?.into_inner();
                let mut promised = lock(&self.estate.promised);
                *promised = settings.version.max(*promised);
                Ok(())
            }
            Act::Preheat { content, scope } => {
                let Some(task) = self.book.request(content, false) else { return Ok(()) };
                let scopes = [
                    wire::PreheatScope::SingleSeedPeer,
                    wire::PreheatScope::AllSeedPeers,
                    wire::PreheatScope::AllPeers,
                ];
                let mut request = Request::new(wire::PreheatRequest {
                    r#type: wire::PreheatType::File.into(),
                    urls: vec![task.url.to_string()],
                    scope: scopes[scope as usize % scopes.len()].into(),
                    timeout_ms: u64::try_from(PREHEAT_TERM.as_millis()).unwrap_or(0),
                    ..wire::PreheatRequest::default()
                });
                request.metadata_mut().insert("authorization", bearer);
                client.create_preheat(request).await.map(drop).map_err(refused)
            }
            _ => Ok(()),
        }
    }
}

//! A scheduler or daemon as a member of a manager's cluster: its stream to the manager, and what holds
//! in the cluster, which is kept in a file so that a start without a manager finds it.

mod kept;
mod rules;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::dial;
use df_api::failure::{Code, Failure};
use df_api::manager as wire;
use df_api::manager::manager_client::ManagerClient;
use df_api::manager::member_order::Order as Down;
use df_api::manager::member_report::Report as Up;
use df_core::rng::Rng;
use df_core::time::micros;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

pub use kept::Kept;
pub use rules::{Rules, Subject};

use crate::config::ManagerLink;
use crate::env::Env;
use crate::sync::lock;

/// How often a member gives a sign of life, until the manager says otherwise.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);
const BEAT_FLOOR: Duration = Duration::from_millis(200);

/// How often the manager is asked, besides what it says by itself.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

/// How long the manager may take to accept the stream, or to answer.
const ANSWER_TERM: Duration = Duration::from_secs(5);

/// Pause before the stream is tried again; doubles up to the limit.
const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_LIMIT: Duration = Duration::from_secs(10);

/// Reports that may wait for a slow manager; more are dropped.
const OUTBOX_LIMIT: usize = 256;

/// Longest join token.
const TOKEN_LIMIT: usize = 1024;

/// What a member does with what it is told.
pub trait Member: Send + Sync + 'static {
    /// Puts a configuration in force, all of it or nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    fn configure(&self, told: &wire::Configuration) -> Result<(), String>;

    /// Carries out anything else. What is to be reported goes to the reporter.
    fn carry_out(&self, order: Down, reporter: &Reporter);

    /// Bytes stored, and the most that may be; 0 for unknown.
    fn disk(&self) -> (u64, u64);

    /// The stream to the manager ended, with all that was wanted over it.
    fn parted(&self);
}

/// Where reports to the manager go. Cheap to clone.
#[derive(Clone)]
pub struct Reporter(Arc<Mutex<Option<mpsc::Sender<wire::MemberReport>>>>);

impl Reporter {
    /// Tells the manager something; nothing happens without a stream, or if too much waits.
    pub fn tell(&self, report: Up) {
        if let Some(sender) = &*lock(&self.0) {
            let _ = sender.try_send(wire::MemberReport { report: Some(report) });
        }
    }

    /// Tells the manager that something happened.
    pub fn event(&self, severity: wire::Severity, kind: &str, text: String) {
        let event = wire::Event { severity: severity.into(), kind: kind.to_owned(), text, ..wire::Event::default() };
        self.tell(Up::Events(wire::EventBatch { events: vec![event], lost: 0 }));
    }
}

/// A member and its manager.
pub struct Membership {
    env: Env,
    link: ManagerLink,
    token: MetadataValue<tonic::metadata::Ascii>,
    hello: wire::Hello,
    member: Arc<dyn Member>,
    kept: Kept,
    reporter: Reporter,
    /// Why the latest configuration told is not in force.
    refused: String,
    rng: Rng,
}

/// The token to join with.
///
/// # Errors
/// When the file cannot be read, or there is no token in it.
fn read_token(env: &Env, file: &Path) -> Result<MetadataValue<tonic::metadata::Ascii>, Failure> {
    let unreadable = || Failure::new(Code::LocalIo, format!("cannot read the join token {}", file.display()));
    let text = env.disk.read_text(file).map_err(|error| unreadable().because(error))?;
    let token = text.trim();
    let value = MetadataValue::try_from(format!("Bearer {token}"));
    match value {
        Ok(mut value) if !token.is_empty() && token.len() <= TOKEN_LIMIT => {
            value.set_sensitive(true);
            Ok(value)
        }
        _ => Err(unreadable().because("there is no token in it").hint("dfmanager writes one at its first start")),
    }
}

impl Membership {
    /// Puts in force what was kept, and starts to keep the stream open.
    ///
    /// # Errors
    /// [`Code::LocalIo`] for a join token that cannot be read.
    pub fn start(
        env: &Env,
        link: ManagerLink,
        kept: PathBuf,
        hello: wire::Hello,
        member: Arc<dyn Member>,
        shutdown: &CancellationToken,
    ) -> Result<Reporter, Failure> {
        let reporter = Reporter(Arc::default());
        let Some(file) = link.address.as_ref().map(|_| link.join_token_file.clone()) else { return Ok(reporter) };
        let file = file.ok_or_else(|| {
            Failure::new(Code::Usage, "a manager is named, but no token to join with").hint("give --join-token-file")
        })?;
        let token = read_token(env, &file)?;
        let mut kept = Kept::open(env, kept);
        if let Some(told) = kept.told() {
            match member.configure(told) {
                Ok(()) => tracing::info!(version = told.version, "configuration as last heard is in force"),
                Err(why) => {
                    tracing::warn!(why, "the configuration that was kept is bad and not used");
                    kept.forget();
                }
            }
        }
        let rng = Rng::new(env.seed_for("manager"));
        let membership = Self {
            env: env.clone(),
            link,
            token,
            hello,
            member,
            kept,
            reporter: reporter.clone(),
            refused: String::new(),
            rng,
        };
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(membership.keep()));
        Ok(reporter)
    }

    async fn keep(mut self) {
        let mut pause = BACKOFF;
        loop {
            let began = self.env.clock.now();
            match self.stream().await {
                Ok(()) => tracing::info!("the manager ended the stream"),
                Err(error) => tracing::info!(%error, "no stream to the manager"),
            }
            *lock(&self.reporter.0) = None;
            self.member.parted();
            if self.env.clock.now() - began > BACKOFF_LIMIT {
                pause = BACKOFF;
            }
            let jitter = self.rng.below(micros(pause) / 2);
            tokio::time::sleep(pause / 2 + Duration::from_micros(jitter)).await;
            pause = (pause * 2).min(BACKOFF_LIMIT);
        }
    }

    async fn channel(&self) -> Result<Channel, Status> {
        let unavailable = |error: &dyn std::fmt::Display| Status::unavailable(error.to_string());
        let address = self.link.address.as_ref().ok_or_else(|| unavailable(&"no address"))?;
        let found = self.env.net.resolve(&address.0.host, address.0.port).await.map_err(|e| unavailable(&e))?;
        let address = found.first().copied().ok_or_else(|| unavailable(&"no address"))?;
        crate::peer::membership::channel(&self.env, address).map_err(|error| unavailable(&error))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }

    /// One stream, from its opening to its end.
    async fn stream(&mut self) -> Result<(), Status> {
        let late = |_| Status::unavailable("no answer");
        let mut client = ManagerClient::new(self.channel().await?)
            .max_decoding_message_size(dial::MESSAGE_LIMIT)
            .max_encoding_message_size(dial::MESSAGE_LIMIT);
        let (sender, reports) = mpsc::channel(OUTBOX_LIMIT);
        let hello = wire::Hello { configuration_version: self.kept.version(), ..self.hello.clone() };
        let _ = sender.try_send(wire::MemberReport { report: Some(Up::Hello(hello.clone())) });
        let request = self.request(tokio_stream::wrappers::ReceiverStream::new(reports));
        let mut orders = tokio::time::timeout(ANSWER_TERM, client.join(request)).await.map_err(late)??.into_inner();
        *lock(&self.reporter.0) = Some(sender.clone());
        let mut beats = tokio::time::interval(BEAT_INTERVAL);
        let mut polls = tokio::time::interval(POLL_INTERVAL);
        polls.reset();
        loop {
            tokio::select! { biased;
                order = orders.message() => match order?.and_then(|order| order.order) {
                    Some(Down::Welcome(welcome)) => {
                        tracing::info!(cluster = welcome.cluster, "joined the manager's cluster");
                        let interval = Duration::from_millis(welcome.beat_interval_ms).max(BEAT_FLOOR);
                        beats = tokio::time::interval(interval.min(BEAT_INTERVAL));
                    }
                    Some(Down::Configuration(told)) => {
                        self.hear(told).await;
                        self.beat();
                    }
                    Some(order) => self.member.carry_out(order, &self.reporter),
                    None => return Ok(()),
                },
                _ = beats.tick() => {
                    self.beat();
                    self.kept.catch_up(&self.env).await;
                }
                _ = polls.tick() => {
                    let asked = client.poll(self.request(hello.clone()));
                    let told = tokio::time::timeout(ANSWER_TERM, asked).await.map_err(late)??;
                    self.hear(told.into_inner()).await;
                    self.beat();
                }
            }
        }
    }

    fn beat(&self) {
        let (disk_used_bytes, disk_limit_bytes) = self.member.disk();
        self.reporter.tell(Up::Beat(wire::Beat {
            configuration_version: self.kept.version(),
            refused: self.refused.clone(),
            disk_used_bytes,
            disk_limit_bytes,
        }));
    }

    /// A configuration was told: a newer one is put in force and kept.
    async fn hear(&mut self, told: wire::Configuration) {
        if !self.kept.is_newer(&told) {
            return;
        }
        match self.member.configure(&told) {
            Ok(()) => {
                tracing::info!(version = told.version, "configuration in force");
                self.refused.clear();
                self.kept.keep(&self.env, told).await;
            }
            Err(why) => {
                tracing::warn!(version = told.version, why, "a configuration is bad and not used");
                self.refused = why;
            }
        }
    }
}

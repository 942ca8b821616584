//! The manager: who gets in, what it tells its members, what it shows, and preheats. And a cluster
//! that has one.

mod access;
mod harbor;
mod image;
mod members;
mod preheat;
mod walk;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use df_api::manager as wire;
use df_api::manager::console_client::ConsoleClient;
use df_daemons::config::{ManagerLink, PeerConfig};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Request;
use tonic::transport::Channel;

use crate::cluster::{Cluster, Daemon, LIMIT, Process};

/// A dfmanager.
pub(crate) struct Manager {
    process: Option<Process>,
    pub(crate) grpc: SocketAddr,
    pub(crate) rest: SocketAddr,
    pub(crate) dir: TempDir,
}

pub(crate) fn channel(address: SocketAddr) -> Channel {
    let connector = tower::service_fn(move |_| async move { TcpStream::connect(address).await.map(TokioIo::new) });
    df_api::dial::channel(&address.to_string(), connector).unwrap()
}

/// A request with a token.
pub(crate) fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

impl Manager {
    pub(crate) async fn start() -> Self {
        let mut manager = Self::unstarted();
        manager.run().await;
        manager
    }

    pub(crate) fn unstarted() -> Self {
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        Self { process: None, grpc: free, rest: free, dir: TempDir::new().unwrap() }
    }

    /// Starts it on the ports it had.
    pub(crate) async fn run(&mut self) {
        let (data, password) = (self.dir.path().join("data"), self.dir.path().join("password"));
        let (grpc, rest) = (self.grpc.to_string(), self.rest.to_string());
        let mut line = vec!["--listen-grpc", &grpc, "--listen-rest", &rest, "--source-allow", "127.0.0.0/8"];
        line.extend(["--data-dir", data.to_str().unwrap()]);
        line.extend(["--init-admin-password-file", password.to_str().unwrap()]);
        let process = Process::start(env!("CARGO_BIN_EXE_dfmanager"), &line).await;
        (self.grpc, self.rest) = (process.said("grpc"), process.said("rest"));
        self.process = Some(process);
    }

    pub(crate) fn take_process(&mut self) -> Process {
        self.process.take().expect("it runs")
    }

    pub(crate) fn join_token_file(&self) -> PathBuf {
        self.dir.path().join("data").join("join-token")
    }

    fn read(&self, path: PathBuf) -> String {
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    pub(crate) fn join_token(&self) -> String {
        self.read(self.join_token_file())
    }

    pub(crate) fn password(&self) -> String {
        self.read(self.dir.path().join("password"))
    }

    pub(crate) fn console(&self) -> ConsoleClient<Channel> {
        ConsoleClient::new(channel(self.grpc)).max_decoding_message_size(df_api::dial::MESSAGE_LIMIT)
    }

    /// A token of root.
    pub(crate) async fn root(&self) -> String {
        let (name, password) = ("root".to_owned(), self.password());
        let session = self.console().sign_in(wire::SignInRequest { name, password }).await.unwrap().into_inner();
        session.token
    }

    /// A token of root's with some scopes, for a time.
    pub(crate) async fn token(&self, scopes: &[&str], ttl_ms: u64) -> String {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let asked = wire::CreateTokenRequest { name: "test".to_owned(), scopes, ttl_ms };
        self.console().create_token(with(&self.root().await, asked)).await.unwrap().into_inner().secret
    }

    /// How others are told of it.
    pub(crate) fn link(&self) -> ManagerLink {
        ManagerLink {
            address: Some(self.grpc.to_string().parse().unwrap()),
            join_token_file: Some(self.join_token_file()),
            cluster: None,
        }
    }

    /// A scheduler of its cluster.
    pub(crate) async fn scheduler(&self, name: &str) -> (Process, SocketAddr) {
        let (manager, token) = (self.grpc.to_string(), self.join_token_file());
        let data = self.dir.path().join(name);
        let mut line = vec!["--listen", "127.0.0.1:0", "--manager", &manager, "--hostname", name];
        line.extend(["--join-token-file", token.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
        let process = Process::start(env!("CARGO_BIN_EXE_dfscheduler"), &line).await;
        let address = process.said("listen");
        (process, address)
    }

    /// All members.
    pub(crate) async fn members(&self, token: &str) -> Vec<wire::MemberRow> {
        let asked = wire::WatchRowsRequest { limit: 500, ..wire::WatchRowsRequest::default() };
        let mut pages = self.console().watch_members(with(token, asked)).await.unwrap().into_inner();
        pages.message().await.unwrap().unwrap().rows
    }
}

/// Asks until there is an answer.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let mut turns = tokio::time::interval(Duration::from_millis(50));
    let asking = async {
        loop {
            turns.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    timeout(LIMIT, asking).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

/// A manager with a scheduler, seeds and peers, none of which is told of any other but the manager.
pub(crate) struct Town {
    pub(crate) manager: Manager,
    pub(crate) scheduler: Option<Process>,
    pub(crate) cluster: Cluster,
    pub(crate) token: String,
}

impl Town {
    pub(crate) async fn start(seeds: usize, peers: usize) -> Self {
        let manager = Manager::start().await;
        let token = manager.root().await;
        let (scheduler, _) = manager.scheduler("s1").await;
        until("the scheduler joins", || async {
            manager.members(&token).await.iter().any(|row| row.hostname == "s1").then_some(())
        })
        .await;
        let link = manager.link();
        let cluster = Cluster::start_with(seeds, peers, |config: &mut PeerConfig| {
            config.scheduler.addresses.clear();
            config.manager = link.clone();
        })
        .await;
        for daemon in &cluster.daemons {
            daemon.linked().await;
        }
        Self { manager, scheduler: Some(scheduler), cluster, token }
    }

    pub(crate) fn daemon(&self, at: usize) -> &Daemon {
        &self.cluster.daemons[at]
    }

    /// The number of the default cluster.
    pub(crate) async fn cluster_id(&self) -> u64 {
        let clusters = self.manager.console().list_clusters(with(&self.token, ())).await.unwrap().into_inner();
        clusters.clusters[0].id
    }

    /// Waits until all members have the latest configuration in force.
    pub(crate) async fn settled(&self) -> wire::Settings {
        let cluster_id = self.cluster_id().await;
        until("the configuration is in force", || async {
            let asked = with(&self.token, wire::ClusterRequest { cluster_id });
            let settings = self.manager.console().get_settings(asked).await.unwrap().into_inner();
            (settings.members > 0 && settings.members == settings.members_in_force).then_some(settings)
        })
        .await
    }
}

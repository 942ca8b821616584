//! The dfmanager: the core's [`Registry`] behind gRPC for members and operators, and REST for Harbor.
//!
//! It dials nobody but registries whose images are preheated: members open streams to it, and what it
//! wants of them goes down these. Nothing it does is on the path of a download.

mod auth;
mod console;
mod convert;
pub mod db;
mod desk;
mod effects;
mod events;
mod gate;
mod join;
mod overview;
mod preheat;
mod records;
pub mod rest;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use df_api::failure::{Code, Failure};
use df_api::manager::console_server::ConsoleServer;
use df_api::manager::manager_server::ManagerServer;
use df_core::registry::{Registry, RegistryConfig};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::config::ManagerSettings;
use crate::env::Env;
use crate::env::net::Listener;
use crate::peer::source::{Egress, SourceClient, SourceConfig};
use crate::{pump, serving};
use auth::Auth;
pub use auth::Bootstrap;
use db::Db;
use desk::Desk;

/// The sockets a dfmanager serves.
pub struct ManagerIncoming {
    /// Members and operators.
    pub grpc: Listener,
    /// Harbor.
    pub rest: Listener,
}

/// Makes the data directory private and opens the store in it.
///
/// # Errors
/// When it belongs to somebody else, or does not open.
pub async fn open_store(env: &Env, data_dir: &Path) -> Result<Arc<dyn Db>, Failure> {
    let (dir, disk) = (data_dir.to_owned(), env.disk.clone());
    let open = move || {
        let unusable = |error: std::io::Error| {
            Failure::new(Code::LocalIo, format!("the data directory {} cannot be used", dir.display())).because(error)
        };
        disk.create_dir_all(&dir).map_err(unusable)?;
        disk.check_private(&dir).map_err(unusable)?;
        Ok(Arc::new(db::SledDb::open(&dir.join("manager.db"))?) as Arc<dyn Db>)
    };
    env.blocking(open).await
}

/// A store in which there is somebody who can sign in.
pub struct Prepared {
    db: Arc<dyn Db>,
    auth: Auth,
}

/// Reads users and tokens; into a new store come the first of each, and are handed over (see [`hand_over`]).
///
/// # Errors
/// When the store cannot be read, or what is handed over cannot be written.
pub async fn prepare(
    env: &Env,
    db: Arc<dyn Db>,
    hand_over: impl FnOnce(&Bootstrap) -> Result<(), Failure>,
) -> Result<Prepared, Failure> {
    let auth = Auth::open(env.clone(), db.clone(), hand_over).await?;
    Ok(Prepared { db, auth })
}

/// Runs a dfmanager until `shutdown`.
///
/// # Errors
/// When the store cannot be read, or a port fails.
pub async fn run(
    env: Env,
    settings: ManagerSettings,
    Prepared { db, auth }: Prepared,
    incoming: ManagerIncoming,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let (inbox, mail) = pump::inbox();
    let (now, times) = (env.clock.now(), convert::Times::of(&env));
    let store = db.clone();
    let loaded = env.blocking(move || records::load(&*store, now, times.now_ms())).await?;
    let epoch = loaded.epoch.unwrap_or_else(|| env.seed_for("epoch"));
    let desk = Desk::new(env.clone(), inbox, settings.trusted_networks.clone(), epoch);
    let mut stored = loaded.stored;
    for (id, order) in loaded.orders {
        if let Some(job) = stored.jobs.get_mut(&id).filter(|job| !job.state.is_over()) {
            job.spec.ticket = desk.next();
            desk.keep_order(job.spec.ticket, preheat::Order::restored(&order));
        }
    }
    let egress = Egress { allow: settings.source_allow.clone(), deny: settings.source_deny.clone() };
    let source = SourceConfig { egress, ca_file: settings.source_ca_file.clone(), ..SourceConfig::from_env() };
    let source = SourceClient::new(env.clone(), source).map_err(Failure::from)?;
    let preheater = preheat::Preheater::new(desk.clone(), source);
    let machine = Registry::restored(RegistryConfig::default(), stored, now, times.now_ms());
    let gate = gate::Gate::open(auth, desk.clone(), db.clone())?;
    let effects = effects::Effects::new(desk.clone(), db, preheater.clone());
    let stop = shutdown.child_token();
    tokio::spawn(pump::run(env, machine, effects, mail, stop.clone()));
    tokio::spawn(stop.clone().run_until_cancelled_owned(desk.clone().tidy()));
    let console = console::Service::new(desk.clone(), gate.clone(), preheater);
    let rest = tokio::spawn(rest::serve(rest::router(console.clone()), incoming.rest, shutdown.clone()));
    let members = ManagerServer::new(join::Service::new(desk, gate))
        .max_decoding_message_size(df_api::dial::MESSAGE_LIMIT)
        .max_encoding_message_size(df_api::dial::MESSAGE_LIMIT);
    let operators = ConsoleServer::new(console)
        .max_decoding_message_size(serving::REQUEST_LIMIT)
        .max_encoding_message_size(df_api::dial::MESSAGE_LIMIT);
    let (router, _) = serving::builder(Server::builder(), members).await;
    let ended = serving::serve(router.add_service(operators), incoming.grpc.into_stream(), shutdown.clone()).await;
    shutdown.cancel();
    let _ = rest.await;
    stop.cancel();
    ended.map_err(|error| Failure::new(Code::Network, "the manager no longer serves its port").because(error))
}

/// Says once what only the first administrator needs to know: on the terminal, or in files that only
/// this user can read.
///
/// # Errors
/// When a file cannot be written.
pub fn hand_over(settings: &ManagerSettings, bootstrap: &Bootstrap) -> Result<(), Failure> {
    let join = settings.data_dir.join("join-token");
    write_secret(&join, &bootstrap.join_token)?;
    match &settings.init_admin_password_file {
        Some(file) => {
            write_secret(file, &bootstrap.password)?;
            tracing::info!(file = %file.display(), "the password of the new user root is in this file");
        }
        None => {
            let said = format!("password of the new user root, shown this once: {}", bootstrap.password);
            let _ = writeln!(std::io::stdout(), "{said}");
        }
    }
    tracing::info!(file = %join.display(), "members join with the token in this file");
    Ok(())
}

fn write_secret(path: &Path, secret: &str) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Code::LocalIo, format!("cannot write {}", path.display())).because(error);
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    writeln!(file, "{secret}").map_err(failed)
}

//! The dfscheduler: the core's [`Scheduler`] behind gRPC.
//!
//! Every host keeps one stream open (`Announce`); what it tells goes to the machine, what the machine
//! wants goes back over it. The scheduler dials nobody but its manager.

mod effects;
mod member;
mod meter;
mod preheat;
mod service;
mod stream;
mod v1;
mod views;

use std::sync::Arc;

use df_api::failure::{Code, Failure};
use df_api::scheduler::scheduler_server::SchedulerServer;
use df_core::scheduler::Scheduler;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::config::SchedulerSettings;
use crate::env::Env;
use crate::env::net::Listener;
use crate::{pump, serving};

/// Runs a dfscheduler until `shutdown`.
///
/// # Errors
/// When the port fails, or the token to join a manager with cannot be read.
pub async fn run(
    env: Env,
    settings: SchedulerSettings,
    incoming: Listener,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let (inbox, mail) = pump::inbox();
    let desk = stream::Desk::new(env.clone(), inbox, settings.trusted_networks.clone());
    let machine = Scheduler::new(settings.machine(), env.seed_for("scheduler"));
    let stop = shutdown.child_token();
    member::join(&env, &settings, incoming.local_addr().ok(), desk.clone(), &stop)?;
    let v1 = v1::V1::new(desk.clone());
    let effects = effects::Effects::new(desk.clone(), v1.clone());
    tokio::spawn(pump::run(env, machine, effects, mail, stop.clone()));
    let service = SchedulerServer::new(service::Service::new(Arc::new(desk), v1))
        .max_decoding_message_size(df_api::dial::MESSAGE_LIMIT)
        .max_encoding_message_size(df_api::dial::MESSAGE_LIMIT);
    let (router, _) = serving::builder(Server::builder(), service).await;
    let ended = serving::serve(router, incoming.into_stream(), shutdown).await;
    stop.cancel();
    ended.map_err(|error| Failure::new(Code::Network, "the scheduler no longer serves its port").because(error))
}

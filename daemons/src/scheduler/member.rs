//! This scheduler as a member of a manager's cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::failure::Failure;
use df_api::manager as wire;
use df_api::manager::member_order::Order;
use df_api::manager::member_report::Report as Up;
use df_core::id::{HostId, TaskId};
use tokio_util::sync::CancellationToken;

use super::preheat::Preheats;
use super::stream::{Desk, Slots};
use super::views::{self, Wall};
use crate::config::SchedulerSettings;
use crate::env::Env;
use crate::member::{Member, Membership, Reporter, Rules};
use crate::sync::lock;

/// Name of the file with what the manager told, in the data directory.
const KEPT: &str = "dynconfig";

/// Between two views, at least.
const INTERVAL_FLOOR: Duration = Duration::from_millis(200);

/// Tasks that are watched closely at once.
const CLOSE_LIMIT: usize = 64;

/// A task that is watched, and the host whose pieces are shown, as the manager names them.
type Close = (Vec<u8>, Vec<u8>);

/// What the manager's word changes here.
struct Node {
    desk: Desk,
    preheats: Preheats,
    /// Ends the stream of views.
    watching: Mutex<Option<CancellationToken>>,
    /// And those of tasks.
    close: Mutex<BTreeMap<Close, CancellationToken>>,
}

/// Joins the cluster of the configured manager, if there is one.
///
/// # Errors
/// When the join token cannot be read.
pub(super) fn join(
    env: &Env,
    settings: &SchedulerSettings,
    listen: Option<SocketAddr>,
    desk: Desk,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let port = listen.map_or(settings.listen.port(), |address| address.port());
    let bound = listen.map(|address| address.ip()).filter(|ip| !ip.is_unspecified());
    let hello = wire::Hello {
        kind: wire::MemberKind::Scheduler.into(),
        hostname: settings.hostname.clone(),
        ip: settings.advertise_ip.or(bound).map_or_else(String::new, |ip| ip.to_string()),
        rpc_port: port.into(),
        piece_port: 0,
        idc: settings.idc.clone().unwrap_or_default(),
        location: settings.location.clone().unwrap_or_default(),
        cluster: settings.manager.cluster.clone().unwrap_or_default(),
        host_id: Vec::new(),
        incarnation: env.seed_for("incarnation"),
        configuration_version: 0,
        release: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let preheats = Preheats::new(desk.clone());
    let node = Arc::new(Node { desk, preheats, watching: Mutex::default(), close: Mutex::default() });
    let kept = settings.data_dir.join(KEPT);
    Membership::start(env, settings.manager.clone(), kept, hello, node, stop).map(drop)
}

fn interval(interval_ms: u64) -> Option<Duration> {
    (interval_ms > 0).then(|| Duration::from_millis(interval_ms).max(INTERVAL_FLOOR))
}

impl Node {
    fn watch(&self, interval_ms: u64, reporter: &Reporter) {
        let mut watching = lock(&self.watching);
        if let Some(old) = watching.take() {
            old.cancel();
        }
        let Some(pause) = interval(interval_ms) else { return };
        let end = CancellationToken::new();
        *watching = Some(end.clone());
        let (desk, reporter) = (self.desk.clone(), reporter.clone());
        tokio::spawn(end.run_until_cancelled_owned(async move {
            loop {
                let wall = Wall::of(desk.clock());
                let taken = desk.look(move |machine, books| views::view(machine, books, wall));
                let Some(view) = taken.await else { return };
                reporter.tell(Up::View(view));
                tokio::time::sleep(pause).await;
            }
        }));
    }

    fn watch_task(&self, asked: wire::WatchTask, reporter: &Reporter) {
        let Ok(task) = TaskId::try_from(&asked.task_id[..]) else { return };
        let shown = HostId::try_from(&asked.host_id[..]).ok();
        let key = (asked.task_id.clone(), asked.host_id.clone());
        let mut close = lock(&self.close);
        if let Some(old) = close.remove(&key) {
            old.cancel();
        }
        let Some(pause) = interval(asked.interval_ms) else {
            if !close.keys().any(|(known, _)| *known == asked.task_id) {
                self.desk.books().meter.unwatch(&task);
            }
            return;
        };
        if close.len() >= CLOSE_LIMIT {
            return;
        }
        let end = CancellationToken::new();
        close.insert(key, end.clone());
        let (desk, reporter) = (self.desk.clone(), reporter.clone());
        tokio::spawn(end.run_until_cancelled_owned(async move {
            loop {
                let wall = Wall::of(desk.clock());
                let taken = desk.look(move |machine, books| views::task(machine, books, &task, shown, wall));
                let Some(view) = taken.await else { return };
                let (task_id, host_id) = (asked.task_id.clone(), asked.host_id.clone());
                reporter.tell(Up::Task(wire::TaskShown { task_id, host_id, view: Some(view) }));
                tokio::time::sleep(pause).await;
            }
        }));
    }

    fn order_host(&self, order: wire::HostOrder, reporter: &Reporter) {
        let done = |failure: &str, hosts| {
            Up::Done(wire::OrderDone { order_id: order.order_id, failure: failure.to_owned(), hosts })
        };
        let Ok(host) = HostId::try_from(&order.host_id[..]) else {
            return reporter.tell(done("no id of a host", 0));
        };
        match order.action() {
            wire::HostAction::Isolate => {
                let term = (order.term_ms > 0).then(|| Duration::from_millis(order.term_ms));
                let was_there = self.desk.hold(host, term, order.reason.clone());
                reporter.tell(done("", u32::from(was_there)));
                reporter.event(wire::Severity::Warning, "host.held", format!("{host} is held: {}", order.reason));
            }
            wire::HostAction::Release => {
                let (desk, reporter) = (self.desk.clone(), reporter.clone());
                let done = done("", 1);
                tokio::spawn(async move {
                    desk.release(host).await;
                    reporter.tell(done);
                    reporter.event(wire::Severity::Info, "host.released", format!("{host} is released"));
                });
            }
        }
    }

    fn delete(&self, order: &wire::DeleteOrder, reporter: &Reporter) {
        let order_id = order.order_id;
        let Ok(task) = TaskId::try_from(&order.task_id[..]) else { return };
        let (desk, reporter) = (self.desk.clone(), reporter.clone());
        tokio::spawn(async move {
            let hosts = desk.look(move |machine, _| machine.peers_of(&task).count()).await.unwrap_or(0);
            desk.delete(task).await;
            let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
            reporter.tell(Up::Done(wire::OrderDone { order_id, failure: String::new(), hosts }));
            reporter.event(wire::Severity::Warning, "task.deleted", format!("{task} is deleted on {hosts} hosts"));
        });
    }
}

impl Member for Node {
    fn configure(&self, told: &wire::Configuration) -> Result<(), String> {
        // Schedulers hold to none of the rules themselves, but a bad one is bad for everybody.
        Rules::new(&told.block_rules, false)?;
        let limits = told.limits.unwrap_or_default();
        let (peer, seed_peer) = (limits.peer.unwrap_or_default(), limits.seed_peer.unwrap_or_default());
        let slots = [peer.upload_slot_limit, peer.download_slot_limit, seed_peer.upload_slot_limit];
        if slots.iter().chain(&[seed_peer.download_slot_limit]).any(|slots| *slots == Some(0)) {
            return Err("a host without slots".to_owned());
        }
        self.desk.set_slots(Slots { peer, seed_peer });
        self.desk.limit_candidates(limits.candidate_parent_limit, limits.filter_parent_limit);
        Ok(())
    }

    fn carry_out(&self, order: Order, reporter: &Reporter) {
        match order {
            Order::Watch(watch) => self.watch(watch.interval_ms, reporter),
            Order::WatchTask(asked) => self.watch_task(asked, reporter),
            Order::Preheat(part) => self.preheats.begin(part, reporter.clone()),
            Order::Cancel(cancel) => self.preheats.cancel(cancel.job_id, cancel.part),
            Order::Host(order) => self.order_host(order, reporter),
            Order::Delete(order) => self.delete(&order, reporter),
            Order::Welcome(_) | Order::Configuration(_) => {}
        }
    }

    fn disk(&self) -> (u64, u64) {
        (0, 0)
    }

    fn parted(&self) {
        if let Some(watching) = lock(&self.watching).take() {
            watching.cancel();
        }
        std::mem::take(&mut *lock(&self.close)).into_values().for_each(|end| end.cancel());
    }
}

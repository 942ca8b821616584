//! Carrying out what the registry decides: first what is to be durable, then what rests on it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use df_api::failure::Failure;
use df_api::manager as wire;
use df_api::manager::Severity;
use df_api::manager::member_order::Order as Down;
use df_core::planted::{Bug, is_planted};
use df_core::registry::{Cluster, ClusterId, Job, JobState, MemberId, MemberKind, Notice, Output, Registry};
use tokio::sync::mpsc;

use super::convert;
use super::db::{Change, Db};
use super::desk::{Delivery, Desk};
use super::preheat::Preheater;
use super::records;
use crate::pump::Driver;

/// Batches written together.
const BATCH_LIMIT: usize = 64;

/// Pause before a store that failed is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Schedulers and seed peers that members are told.
const SCHEDULER_LIMIT: usize = 256;
const SEED_LIMIT: usize = 4096;

/// What one round of the machine changed, and what rests on it.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    deliveries: Vec<Delivery>,
}

/// The registry's driver.
pub(super) struct Effects {
    desk: Desk,
    preheater: Preheater,
    batch: Batch,
    /// As long as what rests on it: every request waits in the machine's inbox or here.
    committer: mpsc::UnboundedSender<Batch>,
}

impl Effects {
    pub(super) fn new(desk: Desk, db: Arc<dyn Db>, preheater: Preheater) -> Self {
        let (committer, batches) = mpsc::unbounded_channel();
        tokio::spawn(commit(desk.clone(), db, batches));
        Self { desk, preheater, batch: Batch::default(), committer }
    }

    fn then(&mut self, what: impl FnOnce(&Desk) + Send + 'static) {
        let desk = self.desk.clone();
        self.batch.deliveries.push(Box::new(move |durable: Result<(), Failure>| {
            if durable.is_ok() {
                what(&desk);
            }
        }));
    }
}

impl Driver<Registry> for Effects {
    fn act(&mut self, machine: &Registry, output: Output) {
        match output {
            Output::Answer { request, result } => {
                if let Some(reader) = self.desk.reader(request) {
                    self.batch.deliveries.push(reader(machine, result));
                }
            }
            Output::Save(record) => {
                let (epoch, times) = (self.desk.epoch(), self.desk.times());
                let order = |ticket| self.desk.order(ticket).map(|order| order.stored()).unwrap_or_default();
                self.batch.changes.extend(records::change(machine, record, epoch, times, order));
            }
            Output::Erase(record) => self.batch.changes.push(records::removal(record)),
            Output::Configure(member) => {
                let cluster = machine.member(member).map(|member| member.cluster);
                if let Some(told) = cluster.and_then(|id| configuration(machine, id, self.desk.epoch())) {
                    self.then(move |desk| {
                        desk.send(member, Down::Configuration(told));
                    });
                }
            }
            Output::Push(_) if is_planted(Bug::PushForgotten) => {}
            Output::Push(id) => {
                if let Some(told) = configuration(machine, id, self.desk.epoch()) {
                    self.then(move |desk| desk.broadcast(id, &Down::Configuration(told)));
                }
            }
            Output::Close(session) => self.desk.close(session),
            Output::Resolve(job) => {
                if let Some(job_now) = machine.job(job) {
                    self.preheater.resolve(job, job_now.spec.clone());
                }
            }
            Output::SendPart { job, part, to } => self.send_part(machine, job, part, to),
            Output::CancelPart { job, part, to } => {
                self.desk.send(to, Down::Cancel(wire::CancelPart { job_id: job.0, part }));
            }
            Output::Note(notice) => self.note(machine, notice),
        }
    }

    fn settled(&mut self, _: &Registry) {
        let batch = std::mem::take(&mut self.batch);
        if !batch.changes.is_empty() || !batch.deliveries.is_empty() {
            let _ = self.committer.send(batch);
        }
    }
}

impl Effects {
    fn send_part(&mut self, machine: &Registry, job: df_core::registry::JobId, part: u32, to: MemberId) {
        let Some(known) = machine.job(job) else { return };
        let Some(order) = self.desk.order(known.spec.ticket) else { return };
        let now = self.desk.env().clock.now();
        if let Some(message) = order.part(job, known, part, known.deadline - now) {
            self.desk.send(to, Down::Preheat(message));
        }
    }

    fn note(&self, machine: &Registry, notice: Notice) {
        let events = self.desk.events();
        match notice {
            Notice::MemberJoined(id) => {
                if let Some(text) = member_text(machine, id) {
                    events.note(Severity::Info, "member.joined", format!("{text} joined"));
                }
            }
            Notice::MemberLost(id) => {
                if let Some(text) = member_text(machine, id) {
                    tracing::warn!(member = text, "lost: it missed its signs of life");
                    events.note(Severity::Warning, "member.lost", format!("{text} is lost"));
                }
            }
            Notice::JobOver(id) => {
                if let Some(job) = machine.job(id) {
                    self.desk.drop_order(job.spec.ticket);
                    events.add(job_event(id.0, job));
                }
            }
            Notice::ConfigurationChanged(id) => {
                if let Some(Cluster { version, spec, .. }) = machine.cluster(id) {
                    let text = format!("configuration of {} has version {version}", spec.name);
                    events.note(Severity::Info, "configuration.changed", text);
                }
            }
        }
    }
}

fn member_text(machine: &Registry, id: MemberId) -> Option<String> {
    let said = &machine.member(id)?.introduction;
    let kind = match said.kind {
        MemberKind::Scheduler => "scheduler",
        MemberKind::SeedPeer => "seed peer",
        MemberKind::Peer => "peer",
    };
    Some(format!("{kind} {} ({}:{})", said.hostname, said.ip, said.rpc_port))
}

fn job_event(id: u64, job: &Job) -> wire::Event {
    let (severity, word) = match job.state {
        JobState::Succeeded => (Severity::Info, "succeeded"),
        JobState::Partly => (Severity::Warning, "succeeded in part"),
        JobState::Cancelled => (Severity::Info, "was cancelled"),
        JobState::TimedOut => (Severity::Warning, "took too long"),
        _ => (Severity::Error, "failed"),
    };
    let why = if job.failure.is_empty() { String::new() } else { format!(": {}", job.failure) };
    wire::Event {
        severity: severity.into(),
        kind: "job.finished".to_owned(),
        text: format!("preheat {id} {word}{why}"),
        job_id: id,
        user: job.spec.created_by.clone(),
        ..wire::Event::default()
    }
}

/// What members of a cluster are told.
pub(super) fn configuration(machine: &Registry, id: ClusterId, epoch: u64) -> Option<wire::Configuration> {
    let cluster = machine.cluster(id)?;
    let listed = |kind, limit| {
        machine.active(id, kind).take(limit).map(|(_, member)| convert::address_message(member)).collect()
    };
    Some(wire::Configuration {
        version: cluster.version,
        cluster_id: id.0,
        cluster: cluster.spec.name.clone(),
        limits: Some(convert::limits_message(&cluster.limits)),
        block_rules: cluster.rules.iter().map(convert::rule_message).collect(),
        schedulers: listed(MemberKind::Scheduler, SCHEDULER_LIMIT),
        seed_peers: listed(MemberKind::SeedPeer, SEED_LIMIT),
        overrides: convert::overrides_message(cluster),
        epoch,
    })
}

/// Writes batches in order, several at once, and then lets go what rests on them.
///
/// What the store did not take is written first when it does again. Until then nothing goes out, for it
/// may rest on that: a member that has once heard of a version takes no other of the same number. When the
/// store is well again, members come anew and hear what they missed.
async fn commit(desk: Desk, db: Arc<dyn Db>, mut batches: mpsc::UnboundedReceiver<Batch>) {
    let mut owed: Vec<Change> = Vec::new();
    loop {
        let next = match owed.is_empty() {
            true => batches.recv().await,
            false => tokio::time::timeout(STORE_RETRY, batches.recv()).await.unwrap_or_else(|_| Some(Batch::default())),
        };
        let Some(mut batch) = next else { return };
        for _ in 1..BATCH_LIMIT {
            let Ok(more) = batches.try_recv() else { break };
            batch.changes.extend(more.changes);
            batch.deliveries.extend(more.deliveries);
        }
        let (db, was_owing) = (db.clone(), !owed.is_empty());
        owed.append(&mut batch.changes);
        let mut durable = Ok(());
        if !owed.is_empty() {
            let changes = std::mem::take(&mut owed);
            let applied = move || (if is_planted(Bug::ChangeNotStored) { Ok(()) } else { db.apply(&changes) }, changes);
            let (result, changes) = desk.env().blocking(applied).await;
            desk.note_store(result.as_ref().err().map(ToString::to_string));
            if let Err(failure) = result {
                tracing::error!(%failure, "what changed is not stored yet");
                durable = Err(failure.hint("it is tried again: look at what holds before you repeat it"));
                owed = latest(changes);
            } else if was_owing {
                tracing::info!("the store is well again");
                desk.close_all();
            }
        }
        batch.deliveries.into_iter().for_each(|deliver| deliver(durable.clone()));
    }
}

/// The last change of each value.
fn latest(changes: Vec<Change>) -> Vec<Change> {
    let mut seen = BTreeSet::new();
    let mut kept: Vec<Change> = changes.into_iter().rev().filter(|change| seen.insert(change.key())).collect();
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::db::Kind;

    #[test]
    fn of_what_is_owed_the_last_word_on_each_value_counts() {
        let put = |number, text: &str| Change::Put(Kind::Job, number, text.as_bytes().to_vec());
        let owed = vec![put(1, "a"), put(2, "b"), put(1, "c"), Change::Remove(Kind::Job, 2), put(3, "d")];
        assert_eq!(latest(owed), [put(1, "c"), Change::Remove(Kind::Job, 2), put(3, "d")]);
    }
}

//! `Daemon.Download`: a local caller's download, with its progress.

use std::time::Duration;

use df_api::dfdaemon::{DownRequest, DownResult, ExportTaskRequest};
use df_api::failure::{Code, Failure};
use df_api::task::TaskRequest;
use futures_util::stream::BoxStream;
use tokio::time::{Instant as TokioInstant, sleep_until, timeout_at};
use tonic::Status;

use super::Busy;
use super::descriptor::{Ticket, Tickets};
use crate::digest::Digest;
use crate::peer::job::{Job, JobOptions};
use crate::peer::{Peer, Waiting};

/// A download this short is answered by one message.
const PATIENCE: Duration = Duration::from_millis(50);

/// Time between two messages of a longer one.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// Checks a request, joins the download, and answers its progress.
pub(super) async fn start(
    peer: &Peer,
    tickets: Tickets,
    request: DownRequest,
    busy: Busy,
) -> Result<BoxStream<'static, Result<DownResult, Status>>, Status> {
    let options = JobOptions {
        may_fetch_source: !request.disable_back_source,
        is_insecure: request.insecure,
        is_in_order: request.in_order,
        ..JobOptions::CALLER
    };
    let (term, rate) = (request.timeout, rate_of(request.limit));
    let task = checked(request)?;
    let waiting = peer.join(task, options, rate).await?;
    let deadline = (term > 0).then(|| deadline(peer, term));
    Ok(Box::pin(follow(peer.clone(), waiting, tickets, deadline, busy)))
}

/// The same for the export of a cached content.
pub(super) async fn export(
    peer: &Peer,
    tickets: Tickets,
    request: ExportTaskRequest,
    busy: Busy,
) -> Result<BoxStream<'static, Result<DownResult, Status>>, Status> {
    if !request.output.is_empty() {
        return Err(
            Failure::new(Code::Usage, "an export of which the daemon writes the output is an ExportTask").into()
        );
    }
    let name = super::cached::named(&request.cid, request.url_meta.as_ref())?;
    let rate = rate_of(request.limit);
    let waiting = peer.export(name, request.local_only, request.in_order, rate).await?;
    let deadline = (request.timeout > 0).then(|| deadline(peer, request.timeout));
    Ok(Box::pin(follow(peer.clone(), waiting, tickets, deadline, busy)))
}

fn checked(request: DownRequest) -> Result<TaskRequest, Failure> {
    let usage = |what: &str| Failure::new(Code::Usage, what);
    if !request.deliver_descriptor || !request.output.is_empty() {
        return Err(usage("a download goes to an output, or is handed out as a descriptor: one of them")
            .hint("ask with deliver_descriptor and without an output, as our dfget does"));
    }
    let meta = request.url_meta.unwrap_or_default();
    if !meta.range.is_empty() {
        return Err(usage("ranges of a content cannot be downloaded by themselves"));
    }
    if !meta.digest.is_empty() {
        let parsed: Result<Digest, _> = meta.digest.parse();
        parsed.map_err(|error| usage(&format!("{:?} is not a digest", meta.digest)).because(error))?;
    }
    TaskRequest::new(&request.url, meta, request.piece_length)
}

/// A limit in bytes per second as v1 has it: a float, 0 for none.
pub(super) fn rate_of(limit: f64) -> Option<u64> {
    (limit.is_finite() && limit >= 1.0).then_some(limit as u64)
}

fn deadline(peer: &Peer, millis: u64) -> TokioInstant {
    let clock = &peer.env().clock;
    clock.at(clock.now() + Duration::from_millis(millis))
}

fn follow(
    peer: Peer,
    waiting: Waiting,
    tickets: Tickets,
    deadline: Option<TokioInstant>,
    busy: Busy,
) -> impl futures_util::Stream<Item = Result<DownResult, Status>> {
    async_stream::stream! {
        let _busy = busy;
        let job = waiting.job().clone();
        let mut outcome = job.outcome();
        let mut has_ticket = false;
        let clock = peer.env().clock.clone();
        let mut report_at = clock.at(clock.now() + PATIENCE);
        loop {
            let until = deadline.map_or(report_at, |deadline| deadline.min(report_at));
            let _ = timeout_at(until, outcome.wait_for(Option::is_some)).await;
            let ended = outcome.borrow().clone();
            let done = match ended {
                Some(Err(failure)) => {
                    yield Err(failure.into());
                    return;
                }
                None if deadline.is_some_and(|deadline| deadline <= until) => {
                    sleep_until(until).await;
                    yield Err(Failure::new(Code::Timeout, "the download took longer than it may").into());
                    return;
                }
                ended => ended.is_some(),
            };
            // The first result carries one.
            let given = (!std::mem::replace(&mut has_ticket, true)).then(|| tickets.give(job.stored.clone()));
            match given.transpose() {
                Ok(ticket) => yield Ok(result(&peer, &job, ticket, done)),
                Err(error) => {
                    yield Err(Failure::new(Code::Busy, "no descriptor can be handed out").because(error).into());
                    return;
                }
            }
            if done {
                return;
            }
            report_at = clock.at(clock.now() + REPORT_INTERVAL);
        }
    }
}

fn result(peer: &Peer, job: &Job, ticket: Option<Ticket>, done: bool) -> DownResult {
    let content_path = ticket.as_ref().and_then(|_| job.stored.data_path().to_str()).unwrap_or_default().to_owned();
    let (completed_length, contiguous_length) = job.stored.held_bytes();
    DownResult {
        task_id: job.task.to_string(),
        peer_id: peer.peer_id(&job.task).to_string(),
        completed_length,
        done,
        content_length: job.stored.plan().and_then(|plan| plan.content_len()),
        ticket: ticket.map(Vec::from).unwrap_or_default(),
        contiguous_length,
        tally: Some(job.tally()),
        content_path,
        is_durable: done && job.stored.is_durable(),
        digest: if done { job.request.meta.digest.clone() } else { String::new() },
    }
}

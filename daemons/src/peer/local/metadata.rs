//! What this host has of a task, as other peers ask: `GetPieceTasks` and `SyncPieceTasks`.

use std::collections::BTreeSet;
use std::sync::Arc;

use df_api::base::{PieceInfo, PiecePacket, PieceTaskRequest};
use df_api::convert;
use df_api::failure::{Code, Failure};
use df_api::scheduler::Host;
use futures_util::stream::BoxStream;
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use super::v1;
use crate::peer::Peer;
use crate::peer::store::StoredTask;

/// Most pieces described in one packet.
const PIECE_LIMIT: usize = 4096;

/// The packet that answers a request.
pub(super) fn packet(peer: &Peer, host: &Host, request: &PieceTaskRequest) -> Result<PiecePacket, Status> {
    let stored = find(peer, request)?;
    let wanted = usize::try_from(request.limit).unwrap_or(PIECE_LIMIT).min(PIECE_LIMIT);
    Ok(describe(peer, host, &stored, request.start_num, wanted, &BTreeSet::new()))
}

/// What a request is about. A Dragonfly v1 peer calls the task by an id of its own, but this host by the
/// name its scheduler told it.
pub(super) fn find(peer: &Peer, request: &PieceTaskRequest) -> Result<Arc<StoredTask>, Status> {
    let named = request.dst_pid.parse().ok().and_then(|name| peer.task_named(&name));
    let task = match named {
        Some(task) => task,
        None => convert::task_id_text(&request.task_id)?,
    };
    let unknown = || Failure::new(Code::NotFound, "no such task here");
    Ok(peer.store().task(&task).ok_or_else(unknown)?)
}

/// Answers each request, and from then on every piece from its first on as it comes, until all are
/// told.
pub(super) fn follow(
    peer: Peer,
    host: Arc<Host>,
    mut requests: Streaming<PieceTaskRequest>,
) -> BoxStream<'static, Result<PiecePacket, Status>> {
    Box::pin(async_stream::try_stream! {
        let Some(first) = requests.next().await.transpose()? else { return };
        if v1::is_foreign(&first) {
            let mut packets = v1::follow(peer, host, first, requests);
            while let Some(packet) = packets.next().await {
                yield packet?;
            }
            return;
        }
        let stored = find(&peer, &first)?;
        let (mut start, mut told) = (first.start_num, BTreeSet::new());
        let mut changes = stored.watch();
        loop {
            changes.borrow_and_update();
            let packet = describe(&peer, &host, &stored, start, PIECE_LIMIT, &told);
            told.extend(packet.piece_infos.iter().filter_map(|piece| u32::try_from(piece.piece_num).ok()));
            let is_news = !packet.piece_infos.is_empty() || told.is_empty();
            let total = packet.total_piece;
            if is_news {
                yield packet;
            }
            if u32::try_from(total).is_ok_and(|total| (start..total).all(|piece| told.contains(&piece))) {
                return;
            }
            let heard = tokio::select! { biased;
                request = requests.next() => Some(request.transpose()),
                changed = changes.changed() => match changed {
                    Ok(()) => None,
                    Err(_) => Some(Ok(None)),
                },
            };
            match heard.transpose()? {
                Some(Some(request)) => start = request.start_num,
                Some(None) => return,
                None => {}
            }
        }
    })
}

fn describe(
    peer: &Peer,
    host: &Host,
    stored: &StoredTask,
    start: u32,
    limit: usize,
    told: &BTreeSet<u32>,
) -> PiecePacket {
    let plan = stored.plan();
    let digests = stored.digests();
    let fresh = digests.iter().filter(|(number, _)| *number >= start && !told.contains(number));
    let info = |(number, digest): &(u32, df_core::id::PieceDigest)| {
        let range = plan.and_then(|plan| plan.number(*number).map(|piece| plan.range(piece)))?;
        Some(PieceInfo {
            piece_num: i32::try_from(*number).ok()?,
            range_start: range.start,
            range_size: u32::try_from(range.len).ok()?,
            piece_offset: range.start,
            piece_blake3: digest.as_bytes().to_vec(),
            ..PieceInfo::default()
        })
    };
    PiecePacket {
        task_id: stored.id().to_string(),
        dst_pid: peer.peer_id(&stored.id()).to_string(),
        dst_addr: address(&host.ip, host.piece_port),
        piece_infos: fresh.filter_map(info).take(limit).collect(),
        total_piece: plan.and_then(|plan| plan.count()).and_then(|count| i32::try_from(count).ok()).unwrap_or(-1),
        content_length: plan.and_then(|plan| plan.content_len()).and_then(|len| i64::try_from(len).ok()).unwrap_or(-1),
        piece_length: plan.map_or(0, |plan| plan.piece_len()),
        held: stored.held().to_bytes(),
        ..PiecePacket::default()
    }
}

pub(super) fn address(ip: &str, port: u32) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

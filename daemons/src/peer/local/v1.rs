//! What this host has of a task, as Dragonfly v1 peers ask: with MD5s, and in their order of events.
//!
//! A v1 peer holds a content for complete as soon as it has as many bytes as it was told there are, and
//! then compares MD5s with the sign it was told. So it is told length, count and sign together, when
//! the sign is known: when all is here and summed.

use std::collections::BTreeSet;
use std::sync::Arc;

use df_api::base::{PieceInfo, PiecePacket, PieceTaskRequest};
use df_api::failure::{Code, Failure};
use df_api::scheduler::Host;
use df_core::id::PieceDigest;
use futures_util::stream::BoxStream;
use sha2::{Digest, Sha256};
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use super::metadata::{address, find};
use crate::peer::Peer;
use crate::peer::store::StoredTask;

/// Pieces summed for one packet: a child need not wait for all of a large content.
const PIECE_LIMIT: usize = 16;

/// Whether a request comes from a v1 peer: it says who asks, our own daemons do not.
pub(super) const fn is_foreign(request: &PieceTaskRequest) -> bool {
    !request.src_pid.is_empty()
}

/// What makes a stream go on.
enum Heard {
    Again(PieceTaskRequest),
    News,
    End,
}

impl Heard {
    fn of(request: Option<PieceTaskRequest>) -> Self {
        request.map_or(Self::End, Self::Again)
    }
}

/// What is told one v1 peer.
struct Teller {
    peer: Peer,
    host: Arc<Host>,
    stored: Arc<StoredTask>,
    /// The names the peer uses.
    task_id: String,
    name: String,
}

/// The packet that answers a request.
pub(super) async fn packet(peer: &Peer, host: &Arc<Host>, request: &PieceTaskRequest) -> Result<PiecePacket, Status> {
    let teller = Teller::new(peer, host, request)?;
    let limit = if request.limit == 0 { PIECE_LIMIT } else { usize::try_from(request.limit).unwrap_or(PIECE_LIMIT) };
    teller.packet(request.start_num, limit.min(PIECE_LIMIT * 4), &BTreeSet::new()).await
}

/// Tells a v1 peer every piece from the first it asks for as it comes, and again what it asks for again,
/// until it hangs up.
pub(super) fn follow(
    peer: Peer,
    host: Arc<Host>,
    first: PieceTaskRequest,
    mut requests: Streaming<PieceTaskRequest>,
) -> BoxStream<'static, Result<PiecePacket, Status>> {
    Box::pin(async_stream::try_stream! {
        let teller = Teller::new(&peer, &host, &first)?;
        let (start, mut told, mut is_first, mut is_whole) = (first.start_num, BTreeSet::new(), true, false);
        let mut changes = teller.stored.watch();
        loop {
            changes.borrow_and_update();
            let packet = teller.packet(start, PIECE_LIMIT, &told).await?;
            let numbers = packet.piece_infos.iter().filter_map(|piece| u32::try_from(piece.piece_num).ok());
            let before = told.len();
            told.extend(numbers);
            let is_news = told.len() > before || (packet.total_piece >= 0 && !is_whole);
            is_whole |= packet.total_piece >= 0;
            if is_news || is_first {
                is_first = false;
                yield packet;
            }
            if is_news {
                continue;
            }
            let heard = tokio::select! { biased;
                request = requests.next() => request.transpose().map(Heard::of),
                changed = changes.changed() => Ok(if changed.is_ok() { Heard::News } else { Heard::End }),
            };
            match heard? {
                // It wants these once more: what it got was not good, or did not come.
                Heard::Again(again) => {
                    let end = again.start_num.saturating_add(again.limit.max(1));
                    told.retain(|piece| !(again.start_num..end).contains(piece));
                }
                Heard::News => {}
                Heard::End => return,
            }
        }
    })
}

impl Teller {
    fn new(peer: &Peer, host: &Arc<Host>, request: &PieceTaskRequest) -> Result<Self, Status> {
        let stored = find(peer, request)?;
        let name = peer.peer_id(&stored.id()).to_string();
        Ok(Self { peer: peer.clone(), host: host.clone(), stored, task_id: request.task_id.clone(), name })
    }

    /// Up to `limit` pieces from `start` on that were not told; and if with these all is told or nothing
    /// is left to tell, the whole.
    async fn packet(&self, start: u32, limit: usize, told: &BTreeSet<u32>) -> Result<PiecePacket, Status> {
        let digests = self.stored.digests();
        let fresh: Vec<_> =
            digests.iter().filter(|(number, _)| *number >= start && !told.contains(number)).copied().collect();
        let mut piece_infos = Vec::new();
        for (number, digest) in fresh.iter().take(limit) {
            piece_infos.extend(self.piece(*number, *digest).await?);
        }
        let mut packet = PiecePacket {
            task_id: self.task_id.clone(),
            dst_pid: self.name.clone(),
            dst_addr: address(&self.host.ip, self.host.piece_port),
            piece_infos,
            total_piece: -1,
            content_length: -1,
            ..PiecePacket::default()
        };
        if fresh.len() <= limit && self.stored.is_complete() {
            self.add_whole(&mut packet).await?;
        }
        Ok(packet)
    }

    async fn piece(&self, number: u32, digest: PieceDigest) -> Result<Option<PieceInfo>, Status> {
        let Some(plan) = self.stored.plan() else { return Ok(None) };
        let Some(range) = plan.number(number).map(|piece| plan.range(piece)) else { return Ok(None) };
        let sum = self.peer.sums().of(self.peer.env(), &self.stored, range, digest).await;
        let unreadable = |error| Failure::new(Code::LocalIo, "cannot read the store back").because(error);
        Ok(Some(PieceInfo {
            piece_num: i32::try_from(number).unwrap_or(i32::MAX),
            range_start: range.start,
            range_size: u32::try_from(range.len).unwrap_or(u32::MAX),
            piece_md5: sum.map_err(unreadable)?,
            piece_offset: range.start,
            ..PieceInfo::default()
        }))
    }

    /// Length, count, and the sign: SHA-256 of all MD5s one behind the other.
    async fn add_whole(&self, packet: &mut PiecePacket) -> Result<(), Status> {
        let mut sign = Sha256::new();
        for (number, digest) in self.stored.digests() {
            if let Some(piece) = self.piece(number, digest).await? {
                sign.update(piece.piece_md5);
            }
        }
        let plan = self.stored.plan();
        let count = plan.and_then(|plan| plan.count()).and_then(|count| i32::try_from(count).ok());
        let len = plan.and_then(|plan| plan.content_len()).and_then(|len| i64::try_from(len).ok());
        if let (Some(count), Some(len)) = (count, len) {
            (packet.total_piece, packet.content_length) = (count, len);
            packet.piece_md5_sign = sign.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        }
        Ok(())
    }
}

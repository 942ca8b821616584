//! Names of hosts, peers and tasks by their numbers, and the digests of what the source has.

use df_core::id::{HostId, PeerId, PieceDigest, TaskId};
use df_core::piece::PieceNumber;

pub(crate) fn host_id(number: u32) -> HostId {
    HostId::from_bytes(numbered(number, 0))
}

/// The number of a host by its name.
pub(crate) fn host_number(id: &HostId) -> u32 {
    let [a, b, c, d, ..] = *id.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

pub(crate) fn peer_id(number: u32) -> PeerId {
    PeerId::from_bytes(numbered(number, 1))
}

pub(crate) fn task_id(number: u32) -> TaskId {
    TaskId::from_bytes(numbered(number, 2))
}

/// The number of a task by its name.
pub(crate) fn task_number(id: &TaskId) -> usize {
    let [a, b, c, d, ..] = *id.as_bytes();
    u32::from_be_bytes([a, b, c, d]) as usize
}

/// The digest of a piece as the source has it.
pub(crate) fn digest_of(piece: PieceNumber) -> PieceDigest {
    PieceDigest::from_bytes(numbered(piece.get(), 3))
}

/// The digest of bytes that are not what they should be.
pub(crate) const WRONG_DIGEST: PieceDigest = PieceDigest::from_bytes([0xbb; 32]);

fn numbered<const N: usize>(number: u32, kind: u8) -> [u8; N] {
    let mut bytes = [kind; N];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

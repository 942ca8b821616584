//! The border: messages become core types, or a refusal that says why.

use df_core::downloader::{GrantId, PieceFailure};
use df_core::id::{HostId, MalformedId, PeerId, PieceDigest, TaskId};
use df_core::piece::{PiecePlan, PieceSet, PlanError};
use df_core::scheduler::{HostInfo, HostKind, Zone};
use tonic::Status;

use crate::failure::{Code, Failure};
use crate::scheduler as wire;

/// Most pieces of whose digests one message may speak.
const DIGEST_LIMIT: usize = 1 << 17;

/// The most transfers at once a host may claim to stand.
const LANE_LIMIT: u32 = 1024;

/// What is wrong with a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Malformed(pub String);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed message: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Self {
        Failure::new(Code::Usage, malformed.to_string()).into()
    }
}

impl From<MalformedId> for Malformed {
    fn from(error: MalformedId) -> Self {
        Self(error.to_string())
    }
}

impl From<PlanError> for Malformed {
    fn from(error: PlanError) -> Self {
        Self(error.to_string())
    }
}

fn id<'a, T: TryFrom<&'a [u8]>>(what: &str, bytes: &'a [u8]) -> Result<T, Malformed> {
    T::try_from(bytes).map_err(|_| Malformed(format!("{what} of {} bytes", bytes.len())))
}

/// A task id's 32 bytes.
///
/// # Errors
/// Any other length.
pub fn task_id(bytes: &[u8]) -> Result<TaskId, Malformed> {
    id("task id", bytes)
}

/// A task id's 64 hexadecimal digits, as v1 messages and piece URLs have it.
///
/// # Errors
/// Anything else.
pub fn task_id_text(text: &str) -> Result<TaskId, Malformed> {
    text.parse().map_err(|_| Malformed("task id that is not 64 lower-case hexadecimal digits".to_owned()))
}

/// A host id's 16 bytes.
///
/// # Errors
/// Any other length.
pub fn host_id(bytes: &[u8]) -> Result<HostId, Malformed> {
    id("host id", bytes)
}

/// A peer id's 16 bytes.
///
/// # Errors
/// Any other length.
pub fn peer_id(bytes: &[u8]) -> Result<PeerId, Malformed> {
    id("peer id", bytes)
}

/// A BLAKE3 digest's 32 bytes.
///
/// # Errors
/// Any other length.
pub fn piece_digest(bytes: &[u8]) -> Result<PieceDigest, Malformed> {
    id("piece digest", bytes)
}

/// How a content is cut.
///
/// # Errors
/// Lengths no plan can have.
pub fn plan(plan: wire::Plan) -> Result<PiecePlan, Malformed> {
    Ok(match plan.content_length {
        Some(content_len) => PiecePlan::with_piece_len(content_len, plan.piece_length)?,
        None => PiecePlan::open(plan.piece_length)?,
    })
}

/// The message of a plan.
pub const fn plan_message(plan: &PiecePlan) -> wire::Plan {
    wire::Plan { piece_length: plan.piece_len(), content_length: plan.content_len() }
}

/// A set of pieces of a plan.
///
/// # Errors
/// Pieces the plan does not have.
pub fn piece_set(bytes: &[u8], plan: &PiecePlan) -> Result<PieceSet, Malformed> {
    PieceSet::from_bytes(bytes, plan).ok_or_else(|| Malformed("pieces the content does not have".to_owned()))
}

/// Digests with their piece numbers (which the core checks against the plan).
///
/// # Errors
/// Numbers and digests of different count; too many.
pub fn digests(message: &wire::Digests) -> Result<Vec<(u32, PieceDigest)>, Malformed> {
    if message.pieces.len() > DIGEST_LIMIT || message.blake3.len() != message.pieces.len() * PieceDigest::LEN {
        let (pieces, bytes) = (message.pieces.len(), message.blake3.len());
        return Err(Malformed(format!("{bytes} bytes of digests for {pieces} pieces")));
    }
    let digests = message.blake3.chunks_exact(PieceDigest::LEN).map(piece_digest);
    message.pieces.iter().zip(digests).map(|(piece, digest)| Ok((*piece, digest?))).collect()
}

/// The message of digests.
pub fn digests_message<'a>(digests: impl IntoIterator<Item = &'a (u32, PieceDigest)>) -> wire::Digests {
    let mut message = wire::Digests::default();
    let mut bytes = Vec::new();
    for (piece, digest) in digests {
        message.pieces.push(*piece);
        bytes.extend_from_slice(digest.as_bytes());
    }
    message.blake3 = bytes;
    message
}

/// What a host says of itself. Its zone is a hash of IDC and location, which are compared whole.
///
/// # Errors
/// A malformed id, or lanes of a width nobody has.
pub fn host(message: &wire::Host) -> Result<HostInfo, Malformed> {
    let lanes = [message.upload_limit, message.download_limit];
    if lanes.iter().any(|lane| !(1..=LANE_LIMIT).contains(lane)) {
        return Err(Malformed(format!("transfers at once of {lanes:?}, not 1 to {LANE_LIMIT}")));
    }
    Ok(HostInfo {
        id: host_id(&message.id)?,
        incarnation: message.incarnation,
        kind: host_kind(message.kind()),
        zone: zone(&message.idc, &message.location),
        upload_limit: message.upload_limit,
        download_limit: message.download_limit,
    })
}

/// The zone of an IDC and a location; hosts that say neither are in one zone.
pub fn zone(idc: &str, location: &str) -> Zone {
    if idc.is_empty() && location.is_empty() {
        return Zone(0);
    }
    let mut hash = blake3::Hasher::new();
    hash.update(&(idc.len() as u64).to_le_bytes());
    hash.update(idc.as_bytes());
    hash.update(location.as_bytes());
    let [a, b, c, d, ..] = *hash.finalize().as_bytes();
    Zone(u32::from_le_bytes([a, b, c, d]).max(1))
}

const fn host_kind(kind: wire::HostKind) -> HostKind {
    match kind {
        wire::HostKind::Normal => HostKind::Normal,
        wire::HostKind::Seed => HostKind::Seed,
    }
}

/// The message of a kind of host.
pub const fn host_kind_message(kind: HostKind) -> wire::HostKind {
    match kind {
        HostKind::Normal => wire::HostKind::Normal,
        HostKind::Seed => wire::HostKind::Seed,
    }
}

/// Why a piece did not come.
pub const fn piece_failure(failure: wire::PieceFailure) -> PieceFailure {
    match failure {
        wire::PieceFailure::Local => PieceFailure::Local,
        wire::PieceFailure::Corrupt => PieceFailure::Corrupt,
        wire::PieceFailure::NotFound => PieceFailure::NotFound,
        wire::PieceFailure::Refused => PieceFailure::Refused,
        wire::PieceFailure::Aborted => PieceFailure::Aborted,
        wire::PieceFailure::Stalled => PieceFailure::Stalled,
        wire::PieceFailure::Disconnected => PieceFailure::Disconnected,
    }
}

/// The message of why a piece did not come.
pub const fn piece_failure_message(failure: PieceFailure) -> wire::PieceFailure {
    match failure {
        PieceFailure::Local => wire::PieceFailure::Local,
        PieceFailure::Corrupt => wire::PieceFailure::Corrupt,
        PieceFailure::NotFound => wire::PieceFailure::NotFound,
        PieceFailure::Refused => wire::PieceFailure::Refused,
        PieceFailure::Aborted => wire::PieceFailure::Aborted,
        PieceFailure::Stalled => wire::PieceFailure::Stalled,
        PieceFailure::Disconnected => wire::PieceFailure::Disconnected,
    }
}

/// A grant's number.
pub const fn grant_id(grant: u64) -> GrantId {
    GrantId(grant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_plan() -> PiecePlan {
        PiecePlan::with_piece_len(100, 10).unwrap()
    }

    #[test]
    fn plans_survive_the_wire_and_bad_ones_do_not() {
        for original in [some_plan(), PiecePlan::open(7).unwrap(), PiecePlan::for_content(0).unwrap()] {
            assert_eq!(plan(plan_message(&original)), Ok(original));
        }
        assert!(plan(wire::Plan { piece_length: 0, content_length: None }).is_err());
        assert!(plan(wire::Plan { piece_length: 1, content_length: Some(u64::MAX) }).is_err());
    }

    #[test]
    fn digests_survive_the_wire_and_crooked_ones_do_not() {
        let original = vec![(3, PieceDigest::from_bytes([1; 32])), (0, PieceDigest::from_bytes([2; 32]))];
        let mut message = digests_message(&original);
        assert_eq!(digests(&message), Ok(original));
        message.pieces.push(9);
        assert!(digests(&message).is_err());
    }

    #[test]
    fn ids_of_any_other_length_are_refused() {
        for len in [0, 1, 15, 17, 31, 33] {
            let bytes = vec![0; len];
            assert!(task_id(&bytes).is_err() && peer_id(&bytes).is_err() && host_id(&bytes).is_err());
        }
        for text in ["", "abc", "../../etc/passwd", &"g".repeat(64), &"a".repeat(65)] {
            assert!(task_id_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sets_beyond_the_plan_are_refused() {
        let all = PieceSet::all(&some_plan());
        assert_eq!(piece_set(&all.to_bytes(), &some_plan()), Ok(all));
        assert!(piece_set(&[0xff; 2], &some_plan()).is_err());
    }

    #[test]
    fn hosts_with_impossible_lanes_are_refused() {
        let good = wire::Host { id: vec![1; 16], upload_limit: 4, download_limit: 4, ..wire::Host::default() };
        assert!(host(&good).is_ok());
        assert!(host(&wire::Host { upload_limit: 0, ..good.clone() }).is_err());
        assert!(host(&wire::Host { download_limit: 1 << 20, ..good.clone() }).is_err());
        assert!(host(&wire::Host { id: vec![1; 3], ..good }).is_err());
    }

    #[test]
    fn zones_do_not_collide_by_concatenation() {
        assert_ne!(zone("a", "b"), zone("ab", ""));
        assert_eq!(zone("", ""), Zone(0));
    }
}

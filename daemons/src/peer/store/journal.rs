//! The journal of one task: an append-only file of small records, each with its own checksum, from
//! which everything about the task can be known again.
//!
//! A record is its length (4 bytes, little-endian), a checksum (8 bytes, the first of the BLAKE3 of
//! the rest), and a protocol buffer. Reading stops at the first record that is torn or damaged;
//! what follows is cut off.

use std::io;
use std::sync::Arc;

use df_core::id::PieceDigest;
use prost::Message;

use crate::env::disk::DiskFile;

/// Longest record, so that garbage is not taken for a length.
const RECORD_LIMIT: usize = 64 * 1024;

const HEAD_LEN: usize = 12;

/// One fact.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(oneof = "Fact", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub(super) fact: Option<Fact>,
}

/// What a record says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Fact {
    /// The first record.
    #[prost(message, tag = "1")]
    Task(TaskFact),
    #[prost(message, tag = "2")]
    Plan(PlanFact),
    /// A piece is in the content file.
    #[prost(message, tag = "3")]
    Piece(PieceFact),
    /// A piece is not, or no longer, in it.
    #[prost(uint32, tag = "4")]
    Lost(u32),
    /// Version of the source the pieces were taken from.
    #[prost(message, tag = "5")]
    Version(VersionFact),
    /// The boot (of the machine) during which the records from here on were written.
    #[prost(bytes = "vec", tag = "6")]
    Boot(Vec<u8>),
    /// The bytes of all pieces so far are durable; the content file was last written to then (in
    /// nanoseconds of wall time).
    #[prost(uint64, tag = "7")]
    Durable(u64),
    /// How long it is kept, and where else; the last one counts.
    #[prost(message, tag = "8")]
    Keeping(KeepingFact),
    /// The whole content was compared with this digest ("algorithm:hex").
    #[prost(string, tag = "9")]
    Verified(String),
    /// A scheduler knows of what is here.
    #[prost(message, tag = "10")]
    Confirmed(ConfirmedFact),
    /// Another task was deleted; only in the journal of deletions.
    #[prost(message, tag = "11")]
    Deleted(DeletedFact),
    /// A hash of the validators of the source's version that the pieces are of, on a scheduler's word.
    #[prost(uint64, tag = "12")]
    VersionHash(u64),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TaskFact {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) id: Vec<u8>,
    /// The URL without secrets, for people.
    #[prost(string, tag = "2")]
    pub(super) shown_url: String,
    /// Wall time since the Unix epoch, in seconds.
    #[prost(uint64, tag = "3")]
    pub(super) created_secs: u64,
    /// The name of a cached content; empty for any other.
    #[prost(string, tag = "4")]
    pub(super) cid: String,
    #[prost(string, tag = "5")]
    pub(super) tag: String,
    #[prost(string, tag = "6")]
    pub(super) application: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeepingFact {
    /// Whether it was imported here: not evicted.
    #[prost(bool, tag = "1")]
    pub(super) is_pinned: bool,
    /// Wall time in seconds after which it goes; 0 for never.
    #[prost(uint64, tag = "2")]
    pub(super) expires_secs: u64,
    /// Hosts that are to have it.
    #[prost(uint32, tag = "3")]
    pub(super) replicas: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct ConfirmedFact {
    /// Version of the content's name.
    #[prost(uint64, tag = "1")]
    pub(super) stamp: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct DeletedFact {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) id: Vec<u8>,
    /// Version of its name up to which everything was deleted.
    #[prost(uint64, tag = "2")]
    pub(super) stamp: u64,
    /// Wall time at which this host heard of it, in seconds.
    #[prost(uint64, tag = "3")]
    pub(super) at_secs: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PlanFact {
    #[prost(uint64, tag = "1")]
    pub(super) piece_len: u64,
    #[prost(uint64, optional, tag = "2")]
    pub(super) content_len: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PieceFact {
    #[prost(uint32, tag = "1")]
    pub(super) number: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) digest: Vec<u8>,
}

/// See [`Version`](crate::peer::source::Version).
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct VersionFact {
    #[prost(uint64, optional, tag = "1")]
    pub(super) content_len: Option<u64>,
    #[prost(string, optional, tag = "2")]
    pub(super) etag: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub(super) last_modified: Option<String>,
}

impl PieceFact {
    pub(super) fn new(number: u32, digest: PieceDigest) -> Self {
        Self { number, digest: digest.as_bytes().to_vec() }
    }
}

/// An open journal.
pub(super) struct Journal {
    file: Arc<dyn DiskFile>,
    end: u64,
}

impl Journal {
    /// A journal that begins here.
    pub(super) const fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, end: 0 }
    }

    /// Reads all facts and cuts a torn tail off.
    pub(super) fn read(file: Arc<dyn DiskFile>) -> io::Result<(Self, Vec<Fact>)> {
        let len = file.len()?;
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        let mut facts = Vec::new();
        let mut rest = &bytes[..];
        while let Some((fact, after)) = parse(rest) {
            facts.push(fact);
            rest = after;
        }
        let end = len - rest.len() as u64;
        if !rest.is_empty() {
            file.set_len(end)?;
        }
        Ok((Self { file, end }, facts))
    }

    /// Appends a fact: in the kernel's hands when this returns, durable after [`Journal::sync`].
    pub(super) fn append(&mut self, fact: Fact) -> io::Result<()> {
        let body = Record { fact: Some(fact) }.encode_to_vec();
        let mut bytes = Vec::with_capacity(HEAD_LEN + body.len());
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&checksum(&body));
        bytes.extend_from_slice(&body);
        self.file.write_all_at(&bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

fn parse(bytes: &[u8]) -> Option<(Fact, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD_LEN)?;
    let len = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    if len > RECORD_LIMIT {
        return None;
    }
    let (body, rest) = rest.split_at_checked(len)?;
    if head[4..] != checksum(body) {
        return None;
    }
    Some((Record::decode(body).ok()?.fact?, rest))
}

fn checksum(body: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::hash(body).as_bytes()[..8]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::disk::{Disk, OpenMode, RealDisk};

    fn facts() -> Vec<Fact> {
        vec![
            Fact::Task(TaskFact { id: vec![1; 32], cid: "c".to_owned(), created_secs: 7, ..TaskFact::default() }),
            Fact::Plan(PlanFact { piece_len: 10, content_len: Some(25) }),
            Fact::Piece(PieceFact::new(2, PieceDigest::from_bytes([9; 32]))),
            Fact::Lost(2),
        ]
    }

    /// Whatever byte is cut off or flipped: reading gives a prefix of what was written, and
    /// appending goes on from there.
    #[test]
    fn a_damaged_journal_gives_what_was_written_before_the_damage() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| RealDisk.open(&dir.path().join(name), OpenMode::Any).unwrap();
        let mut whole = Journal::new(open("whole"));
        facts().into_iter().for_each(|fact| whole.append(fact).unwrap());
        let mut bytes = vec![0; usize::try_from(whole.end).unwrap()];
        open("whole").read_exact_at(&mut bytes, 0).unwrap();
        for at in 0..bytes.len() {
            for flips in [true, false] {
                let mut damaged = if flips { bytes.clone() } else { bytes[..at].to_vec() };
                if flips {
                    damaged[at] ^= 0x40;
                }
                let file = open("damaged");
                file.set_len(0).unwrap();
                file.write_all_at(&damaged, 0).unwrap();
                let (mut journal, read) = Journal::read(file.clone()).unwrap();
                assert!(read.len() < 4 && read == facts()[..read.len()], "damage at {at}");
                journal.append(Fact::Lost(5)).unwrap();
                let (_, again) = Journal::read(file).unwrap();
                assert_eq!(again.last(), Some(&Fact::Lost(5)));
                assert_eq!(again.len(), read.len() + 1);
            }
        }
    }
}

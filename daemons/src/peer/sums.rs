//! MD5 of stored pieces, for Dragonfly v1 peers, which know no better: computed when one asks, and
//! remembered by the piece's BLAKE3, which says what the bytes are.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use df_core::id::PieceDigest;
use df_core::piece::ByteRange;

use super::store::StoredTask;
use crate::digest::{Algorithm, Hasher};
use crate::env::Env;
use crate::sync::lock;

/// Sums remembered (100 bytes each).
const SUM_LIMIT: usize = 1 << 16;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Sums(Arc<Mutex<BTreeMap<PieceDigest, String>>>);

impl Sums {
    /// The MD5 of a verified piece, in hexadecimal digits.
    ///
    /// # Errors
    /// When the content cannot be read, or is no longer what was verified.
    pub async fn of(
        &self,
        env: &Env,
        stored: &Arc<StoredTask>,
        range: ByteRange,
        digest: PieceDigest,
    ) -> io::Result<String> {
        if let Some(known) = lock(&self.0).get(&digest) {
            return Ok(known.clone());
        }
        let stored = stored.clone();
        let sum = env.blocking(move || sum(&stored, range, digest)).await?;
        let mut known = lock(&self.0);
        if known.len() >= SUM_LIMIT {
            known.pop_first();
        }
        known.insert(digest, sum.clone());
        Ok(sum)
    }
}

fn sum(stored: &StoredTask, range: ByteRange, digest: PieceDigest) -> io::Result<String> {
    let (mut md5, mut blake3) = (Hasher::new(Algorithm::Md5), blake3::Hasher::new());
    let mut buffer = vec![0; READ_BYTES];
    let mut at = range.start;
    while at < range.end() {
        let most = usize::try_from(range.end() - at).unwrap_or(READ_BYTES).min(READ_BYTES);
        stored.file().read_exact_at(&mut buffer[..most], at)?;
        md5.update(&buffer[..most]);
        blake3.update(&buffer[..most]);
        at += most as u64;
    }
    if blake3.finalize().as_bytes() != digest.as_bytes() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a stored piece is no longer what it was"));
    }
    Ok(md5.finish().bytes().iter().map(|byte| format!("{byte:02x}")).collect())
}

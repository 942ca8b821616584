//! The bytes of contents: known to the whole world, so that whoever gets them can be checked.

use std::fmt::Write as _;

use df_core::rng::Rng;

/// The bytes of a version of something.
pub fn bytes(what: &str, number: u32, version: u32, len: u64) -> Vec<u8> {
    let mut rng = Rng::new(u64::from(number) << 32 | u64::from(version)).fork(what);
    let mut bytes = Vec::with_capacity(len as usize + 8);
    while bytes.len() < len as usize {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(len as usize);
    bytes
}

/// A digest as it is given on a command line.
pub fn digest(bytes: &[u8]) -> String {
    format!("blake3:{}", hex(blake3::hash(bytes).as_bytes()))
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

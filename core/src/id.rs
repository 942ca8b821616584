//! Names of tasks, hosts and peers: fixed-size, parsed once at the border.

use core::fmt;
use core::str::FromStr;

/// Why a textual id was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MalformedId;

impl fmt::Display for MalformedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id of the expected number of lower-case hexadecimal digits")
    }
}

impl core::error::Error for MalformedId {}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Length in bytes; the text form has twice as many digits.
            pub const LEN: usize = $bytes;

            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The id's bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = MalformedId;
            fn try_from(bytes: &[u8]) -> Result<Self, MalformedId> {
                bytes.try_into().map(Self).map_err(|_| MalformedId)
            }
        }

        impl FromStr for $name {
            type Err = MalformedId;
            fn from_str(text: &str) -> Result<Self, MalformedId> {
                let mut bytes = [0; $bytes];
                decode_hex(text.as_bytes(), &mut bytes)?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

hex_id!(
    /// A task: one content that many hosts want. The hash of the request's identifying parts.
    TaskId, 32
);
hex_id!(
    /// A host: one running dfdaemon with its data directory, stable across restarts.
    HostId, 16
);
hex_id!(
    /// A peer: one host's part in one task.
    PeerId, 16
);
hex_id!(
    /// The BLAKE3 hash of one piece's bytes.
    PieceDigest, 32
);

impl HostId {
    /// Its first half, where there is no room for more: as good a name among hosts that did not choose theirs.
    pub const fn half(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

fn decode_hex(text: &[u8], out: &mut [u8]) -> Result<(), MalformedId> {
    if text.len() != out.len() * 2 {
        return Err(MalformedId);
    }
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(())
}

fn nibble(digit: u8) -> Result<u8, MalformedId> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(MalformedId),
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn text_and_bytes_round_trip() {
        let id = PeerId::from_bytes(core::array::from_fn(|i| i as u8 * 17));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(PeerId::try_from(&id.as_bytes()[..]), Ok(id));
        assert_eq!(format!("{id:?}"), "00112233");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "0", "zz", "é", "0A112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff0"] {
            assert_eq!(text.parse::<PeerId>(), Err(MalformedId), "{text}");
        }
        assert_eq!(TaskId::try_from(&[0; 31][..]), Err(MalformedId));
    }
}

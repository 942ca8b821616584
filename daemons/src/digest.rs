//! Content digests: parsing `algorithm:hex` and computing them over a stream of bytes.

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;

/// Bytes of the longest digest.
const DIGEST_LEN_LIMIT: usize = 64;

/// How a digest is computed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Algorithm {
    /// MD5 (RFC 1321): only for contents whose publisher names nothing better.
    Md5,
    /// SHA-256 (FIPS 180-4), what registries use.
    Sha256,
    /// SHA-512 (FIPS 180-4).
    Sha512,
    /// BLAKE3 with its default output of 32 bytes, what pieces use.
    Blake3,
    /// CRC-32 as in zip and PNG (ISO-HDLC): finds accidents, no attacks.
    Crc32,
    /// CRC-32C (Castagnoli, RFC 3720): finds accidents, no attacks.
    Crc32c,
}

impl Algorithm {
    /// Every algorithm, for tables and tests.
    pub const ALL: [Self; 6] = [Self::Md5, Self::Sha256, Self::Sha512, Self::Blake3, Self::Crc32, Self::Crc32c];

    /// The name before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Blake3 => "blake3",
            Self::Crc32 => "crc32",
            Self::Crc32c => "crc32c",
        }
    }

    /// The length of a digest in bytes.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha512 => 64,
            Self::Crc32 | Self::Crc32c => 4,
        }
    }
}

/// The digest of some content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    /// As long as the algorithm says, then zeros.
    padded: [u8; DIGEST_LEN_LIMIT],
}

/// Why a text is no digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DigestError {
    /// There is no colon.
    #[error("a digest is written ALGORITHM:HEX")]
    NoColon,
    /// The algorithm is none of [`Algorithm::ALL`].
    #[error("the digest's algorithm is none of md5, sha256, sha512, blake3, crc32 and crc32c")]
    UnknownAlgorithm,
    /// The wrong number of hexadecimal digits.
    #[error("a digest by {} has {} hexadecimal digits", .0.name(), .0.digest_len() * 2)]
    WrongLength(Algorithm),
    /// A character that is no hexadecimal digit.
    #[error("a digest has a character that is no hexadecimal digit")]
    NotHex,
}

impl Digest {
    /// The digest with these bytes, if the algorithm makes digests of that length.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        let mut padded = [0; DIGEST_LEN_LIMIT];
        padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
        (bytes.len() == algorithm.digest_len()).then_some(Self { algorithm, padded })
    }

    /// The digest of bytes that are all at hand.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }

    /// How it was computed.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digest itself.
    pub fn bytes(&self) -> &[u8] {
        &self.padded[..self.algorithm.digest_len()]
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    /// Reads `algorithm:hex`: the algorithm in lower case, the digits in either, nothing around.
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or(DigestError::NoColon)?;
        let algorithm = Algorithm::ALL.into_iter().find(|a| a.name() == name).ok_or(DigestError::UnknownAlgorithm)?;
        if hex.len() != algorithm.digest_len() * 2 {
            return Err(DigestError::WrongLength(algorithm));
        }
        let mut padded = [0; DIGEST_LEN_LIMIT];
        for (byte, pair) in padded.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            for digit in pair {
                let value = char::from(*digit).to_digit(16).ok_or(DigestError::NotHex)?;
                *byte = *byte << 4 | value as u8;
            }
        }
        Ok(Self { algorithm, padded })
    }
}

impl fmt::Display for Digest {
    /// The canonical form: `algorithm:hex`, all in lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.algorithm.name())?;
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Computes a digest over bytes as they come.
///
/// BLAKE3 works on many kilobytes at once: give it updates of 128 KiB and more where speed counts.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    state: State,
}

#[derive(Clone)]
enum State {
    Md5(md5::Md5),
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
    Blake3(Box<blake3::Hasher>),
    Crc(crc_fast::Digest),
}

impl Hasher {
    /// A computation that has seen no bytes yet.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Md5 => State::Md5(md5::Md5::new()),
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
            Algorithm::Blake3 => State::Blake3(Box::default()),
            Algorithm::Crc32 => State::Crc(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc)),
            Algorithm::Crc32c => State::Crc(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi)),
        };
        Self { algorithm, state }
    }

    /// Takes the next bytes of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Md5(state) => state.update(bytes),
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
            State::Blake3(state) => {
                state.update(bytes);
            }
            State::Crc(state) => state.update(bytes),
        }
    }

    /// The digest of everything taken.
    pub fn finish(self) -> Digest {
        let mut padded = [0; DIGEST_LEN_LIMIT];
        let mut put = |bytes: &[u8]| padded[..bytes.len()].copy_from_slice(bytes);
        match self.state {
            State::Md5(state) => put(&state.finalize()),
            State::Sha256(state) => put(&state.finalize()),
            State::Sha512(state) => put(&state.finalize()),
            State::Blake3(state) => put(state.finalize().as_bytes()),
            // A CRC of 32 bits comes in the low half; written most significant byte first, as all tools do.
            State::Crc(state) => put(&(state.finalize() as u32).to_be_bytes()),
        }
        Digest { algorithm: self.algorithm, padded }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The digests of "123456789": md5sum, sha256sum, sha512sum and b3sum print these, and the two
    /// CRCs are the check values of the catalogue of parametrised CRC algorithms.
    #[test]
    fn digests_of_the_check_string_are_the_published_ones() {
        let table = [
            "md5:25f9e794323b453885f5181f1b624d0b",
            "sha256:15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
            "sha512:d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274a\
             d27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
            "blake3:b7d65b48420d1033cb2595293263b6f72eabee20d55e699d0df1973b3c9deed1",
            "crc32:cbf43926",
            "crc32c:e3069283",
        ];
        for (algorithm, expected) in Algorithm::ALL.into_iter().zip(table) {
            assert_eq!(Digest::of(algorithm, b"123456789").to_string(), expected);
        }
    }

    #[test]
    fn malformed_digests_are_refused_with_the_reason() {
        let table = [
            ("", DigestError::NoColon),
            ("cbf43926", DigestError::NoColon),
            (":cbf43926", DigestError::UnknownAlgorithm),
            ("CRC32:cbf43926", DigestError::UnknownAlgorithm),
            ("md5sum:25f9e794323b453885f5181f1b624d0b", DigestError::UnknownAlgorithm),
            (" crc32:cbf43926", DigestError::UnknownAlgorithm),
            ("crc32:", DigestError::WrongLength(Algorithm::Crc32)),
            ("crc32:cbf4392", DigestError::WrongLength(Algorithm::Crc32)),
            ("crc32:cbf439260", DigestError::WrongLength(Algorithm::Crc32)),
            ("sha256:25f9e794323b453885f5181f1b624d0b", DigestError::WrongLength(Algorithm::Sha256)),
            ("crc32:cbf4392 ", DigestError::NotHex),
            ("crc32:+bf43926", DigestError::NotHex),
            ("crc32:0xbf4392", DigestError::NotHex),
            ("crc32:cbf43\u{e4}2", DigestError::NotHex),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Digest>(), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn digits_may_be_in_upper_case_and_are_printed_in_lower() {
        let digest: Digest = "crc32c:E306928f".parse().unwrap();
        assert_eq!((digest.to_string(), digest.bytes()), ("crc32c:e306928f".into(), &[0xe3, 0x06, 0x92, 0x8f][..]));
        assert_eq!(Digest::new(Algorithm::Crc32c, digest.bytes()), Some(digest));
        assert_eq!(Digest::new(Algorithm::Sha256, digest.bytes()), None);
        assert_eq!(Digest::new(Algorithm::Sha512, &[0; 65]), None);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(pick in 0..Algorithm::ALL.len(), content: Vec<u8>) {
            let digest = Digest::of(Algorithm::ALL[pick], &content);
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
            prop_assert_eq!(digest.to_string().to_uppercase().parse::<Digest>(), Err(DigestError::UnknownAlgorithm));
        }

        #[test]
        fn any_text_is_a_canonical_digest_or_refused(text in "(md5|sha256|crc32|crc32c|x)?:?[0-9a-fA-Fg \u{e4}]{0,70}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text.to_lowercase());
            }
        }

        #[test]
        fn the_cuts_between_updates_do_not_matter(pick in 0..Algorithm::ALL.len(), parts: Vec<Vec<u8>>) {
            let algorithm = Algorithm::ALL[pick];
            let mut hasher = Hasher::new(algorithm);
            parts.iter().for_each(|part| hasher.update(part));
            prop_assert_eq!(hasher.finish(), Digest::of(algorithm, &parts.concat()));
        }
    }
}

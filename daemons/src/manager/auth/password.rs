//! Passwords: Argon2id with 19 MiB, two passes and one lane, as OWASP recommends.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use df_api::failure::{Code, Failure};

/// Shortest password that is accepted, and the longest, in bytes.
const FLOOR: usize = 12;
const LIMIT: usize = 1024;

/// A hash that no password has: what is compared with for names that nobody has.
pub(super) const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Says whether a password is fit to be one.
pub(super) fn check(password: &str) -> Result<(), Failure> {
    match password.len() {
        FLOOR..=LIMIT => Ok(()),
        _ => Err(Failure::new(Code::Usage, format!("a password has {FLOOR} to {LIMIT} bytes"))),
    }
}

/// What is kept of a password. Takes some tens of milliseconds.
pub(super) fn hash(password: &str) -> Result<String, Failure> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string())
        .map_err(|error| Failure::new(Code::Internal, "the password cannot be hashed").because(error))
}

/// Whether a password is the one; compares in constant time. Takes some tens of milliseconds.
pub(super) fn matches(password: &str, phc: &str) -> bool {
    let is_short = password.len() <= LIMIT;
    let hash = PasswordHash::new(phc);
    is_short && hash.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_own_hash_alone() {
        let phc = hash("correct horse battery").unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(matches("correct horse battery", &phc));
        assert!(!matches("correct horse batterz", &phc));
        assert_ne!(phc, hash("correct horse battery").unwrap(), "salted");
        assert!(PasswordHash::new(NOBODY).is_ok(), "it takes as long as any other");
        assert!(!matches("", NOBODY) && !matches("x", "garbage"));
    }
}

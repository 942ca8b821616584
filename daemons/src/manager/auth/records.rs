//! Users and tokens as they are stored and as they are shown.

use df_api::failure::Failure;
use df_api::manager as wire;
use prost::Message;

use super::super::db::{Change, Db, Kind};
use super::{Books, Rights};

/// A user.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct StoredUser {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(enumeration = "wire::Role", tag = "3")]
    pub(super) role: i32,
    /// The password's hash.
    #[prost(string, tag = "4")]
    pub(super) phc: String,
    #[prost(bool, tag = "5")]
    pub(super) is_disabled: bool,
    #[prost(bool, tag = "6")]
    pub(super) must_change_password: bool,
    #[prost(uint64, tag = "7")]
    pub(super) created_at_ms: u64,
    #[prost(uint64, tag = "8")]
    pub(super) signed_in_at_ms: u64,
}

impl StoredUser {
    pub(super) fn new(id: u64, name: &str, role: wire::Role, phc: String, created_at_ms: u64) -> Self {
        Self { id, name: name.to_owned(), role: role.into(), phc, created_at_ms, ..Self::default() }
    }

    pub(super) fn change(&self) -> Change {
        Change::Put(Kind::User, self.id, self.encode_to_vec())
    }

    /// Without the password's hash.
    pub(super) fn shown(&self) -> wire::User {
        wire::User {
            id: self.id,
            name: self.name.clone(),
            role: self.role,
            is_disabled: self.is_disabled,
            created_at_ms: self.created_at_ms,
            signed_in_at_ms: self.signed_in_at_ms,
        }
    }
}

/// A token.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct StoredToken {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(uint64, tag = "3")]
    pub(super) user: u64,
    #[prost(uint32, tag = "4")]
    pub(super) rights: u32,
    /// SHA-256 of the secret.
    #[prost(bytes = "vec", tag = "5")]
    pub(super) hash: Vec<u8>,
    #[prost(uint64, tag = "6")]
    pub(super) created_at_ms: u64,
    #[prost(uint64, tag = "7")]
    pub(super) expires_at_ms: u64,
    /// Kept with the next change only.
    #[prost(uint64, tag = "8")]
    pub(super) used_at_ms: u64,
    #[prost(bool, tag = "9")]
    pub(super) is_session: bool,
}

impl StoredToken {
    pub(super) fn change(&self) -> Change {
        Change::Put(Kind::Token, self.id, self.encode_to_vec())
    }

    /// Without the hash.
    pub(super) fn shown(&self, user: &str) -> wire::Token {
        const DAY_MS: u64 = 24 * 3600 * 1000;
        wire::Token {
            id: self.id,
            name: self.name.clone(),
            user: user.to_owned(),
            scopes: Rights(self.rights).names(),
            created_at_ms: self.created_at_ms,
            expires_at_ms: self.expires_at_ms,
            used_at_ms: self.used_at_ms / DAY_MS * DAY_MS,
            is_session: self.is_session,
        }
    }
}

impl Books {
    /// What is stored. Records that cannot be read are left out: nobody gets in by them.
    pub(super) fn load(db: &dyn Db) -> Result<Self, Failure> {
        let mut books = Self::default();
        for (id, value) in db.all(Kind::User)? {
            if let Ok(user) = StoredUser::decode(&value[..]) {
                books.users.insert(id, user);
            }
        }
        for (id, value) in db.all(Kind::Token)? {
            let Ok(token) = StoredToken::decode(&value[..]) else { continue };
            let Ok(hash) = <[u8; 32]>::try_from(token.hash.as_slice()) else { continue };
            books.hashes.insert(hash, id);
            books.tokens.insert(id, token);
        }
        Ok(books)
    }
}

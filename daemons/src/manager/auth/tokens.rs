//! Tokens: making, listing and revoking them.

use std::time::Duration;

use df_api::failure::{Code, Failure};
use df_api::manager as wire;

use super::super::db::{Change, Kind};
use super::records::StoredToken;
use super::{Auth, Books, Caller, NAME_LIMIT, Right, Rights, TERM_LIMIT, secret};
use crate::sync::lock;

/// Tokens at most; sessions that are over make room.
const TOKEN_LIMIT: usize = 100_000;

/// How long a token holds of which nothing is said.
const TERM: Duration = Duration::from_secs(30 * 24 * 3600);

/// A token to be made.
pub(super) struct NewToken<'a> {
    pub(super) user: u64,
    pub(super) name: &'a str,
    pub(super) rights: Rights,
    pub(super) term: Duration,
    pub(super) is_session: bool,
}

impl Auth {
    pub(super) async fn add_token(&self, new: NewToken<'_>) -> Result<(String, StoredToken), Failure> {
        let (text, token, changes) = self.issue(new)?;
        self.save(changes).await?;
        Ok((text, token))
    }

    /// Makes a token that holds at once, and what is to be stored so that it holds after a restart, too.
    pub(super) fn issue(&self, new: NewToken<'_>) -> Result<(String, StoredToken, Vec<Change>), Failure> {
        let NewToken { user, name, rights, term, is_session } = new;
        let (text, hash) = secret(&self.0.env, if is_session { "dfs_" } else { "dfp_" })?;
        let now = self.now_ms();
        let (token, mut changes) = {
            let mut books = lock(&self.0.books);
            let stale = books.drop_expired(now);
            if books.tokens.len() >= TOKEN_LIMIT {
                return Err(Failure::new(Code::Busy, format!("there are {TOKEN_LIMIT} tokens")));
            }
            let id = books.tokens.last_key_value().map_or(0, |(id, _)| *id) + 1;
            let token = StoredToken {
                id,
                name: name.to_owned(),
                user,
                rights: rights.0,
                hash: hash.to_vec(),
                created_at_ms: now,
                expires_at_ms: now.saturating_add(u64::try_from(term.as_millis()).unwrap_or(u64::MAX)),
                used_at_ms: 0,
                is_session,
            };
            books.hashes.insert(hash, id);
            books.tokens.insert(id, token.clone());
            (token, stale)
        };
        changes.push(token.change());
        Ok((text, token, changes))
    }

    /// Makes a token for whoever asks.
    ///
    /// # Errors
    /// [`Code::Blocked`] for rights the caller has not.
    pub(in crate::manager) async fn create_token(
        &self,
        caller: &Caller,
        asked: wire::CreateTokenRequest,
    ) -> Result<wire::CreatedToken, Failure> {
        let rights = Rights::named(&asked.scopes)?;
        let mut own = caller.rights;
        if own.has(Right::Admin) {
            own.0 |= Rights::of(&[Right::Join]).0;
        }
        if !own.covers(rights) {
            return Err(Failure::new(Code::Blocked, "a token cannot allow more than its maker may do"));
        }
        if asked.name.is_empty() || asked.name.len() > NAME_LIMIT || asked.name.chars().any(char::is_control) {
            return Err(Failure::new(Code::Usage, format!("a token's name has 1 to {NAME_LIMIT} bytes")));
        }
        let term = if asked.ttl_ms == 0 { TERM } else { Duration::from_millis(asked.ttl_ms) };
        if term > TERM_LIMIT {
            return Err(Failure::new(Code::Usage, "a token holds for 10 years at most"));
        }
        let new = NewToken { user: caller.user_id, name: &asked.name, rights, term, is_session: false };
        let (secret, token) = self.add_token(new).await?;
        Ok(wire::CreatedToken { token: Some(token.shown(&caller.user)), secret })
    }

    /// The caller's tokens; an administrator's are all.
    pub(in crate::manager) fn tokens(&self, caller: &Caller) -> Vec<wire::Token> {
        let books = lock(&self.0.books);
        let is_shown = |token: &&StoredToken| caller.rights.has(Right::Admin) || token.user == caller.user_id;
        let name = |token: &StoredToken| books.users.get(&token.user).map_or("", |user| &user.name);
        books.tokens.values().filter(is_shown).map(|token| token.shown(name(token))).collect()
    }

    /// Makes a token worthless: one's own, or any for an administrator.
    ///
    /// # Errors
    /// [`Code::NotFound`], also for a token of somebody else.
    pub(in crate::manager) async fn revoke(&self, caller: &Caller, id: u64) -> Result<(), Failure> {
        let change = {
            let mut books = lock(&self.0.books);
            let may = |token: &StoredToken| caller.rights.has(Right::Admin) || token.user == caller.user_id;
            if !books.tokens.get(&id).is_some_and(may) {
                return Err(Failure::new(Code::NotFound, format!("there is no token {id}")));
            }
            books.drop_token(id)
        };
        self.save(vec![change]).await
    }
}

impl Books {
    pub(super) fn drop_token(&mut self, id: u64) -> Change {
        if let Some(token) = self.tokens.remove(&id)
            && let Ok(hash) = <[u8; 32]>::try_from(token.hash.as_slice())
        {
            self.hashes.remove(&hash);
        }
        Change::Remove(Kind::Token, id)
    }

    pub(super) fn drop_sessions(&mut self, user: u64, but: Option<u64>) -> Vec<Change> {
        let is_over = |token: &&StoredToken| token.user == user && token.is_session && Some(token.id) != but;
        let over: Vec<u64> = self.tokens.values().filter(is_over).map(|token| token.id).collect();
        over.into_iter().map(|id| self.drop_token(id)).collect()
    }

    fn drop_expired(&mut self, now_ms: u64) -> Vec<Change> {
        let is_over = |token: &&StoredToken| token.expires_at_ms != 0 && token.expires_at_ms <= now_ms;
        let over: Vec<u64> = self.tokens.values().filter(is_over).map(|token| token.id).collect();
        over.into_iter().map(|id| self.drop_token(id)).collect()
    }
}

//! Who may do what: users with roles, tokens with scopes, and what a request shows of them.
//!
//! A token is 256 random bits; only its SHA-256 is kept, so that it is looked up by what says nothing
//! about it. Passwords are kept as Argon2id.

mod password;
mod records;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use df_api::failure::{Code, Failure};
use df_api::manager as wire;
use df_core::time::Instant;
use sha2::{Digest, Sha256};

use super::db::{Change, Db, Kind};
use crate::env::Env;
use crate::sync::lock;
use records::{StoredToken, StoredUser};

/// How long a token from signing in holds.
const SESSION_TERM: Duration = Duration::from_secs(12 * 3600);

/// The longest term of a token, and the one if none is said.
const TERM_LIMIT: Duration = Duration::from_secs(3650 * 24 * 3600);
const TERM: Duration = Duration::from_secs(30 * 24 * 3600);

/// Users and tokens at most; sessions that are over make room.
const USER_LIMIT: usize = 10_000;
const TOKEN_LIMIT: usize = 100_000;

/// Longest name of a user or token, in bytes.
const NAME_LIMIT: usize = 63;

/// Wrong passwords for a name that cost nothing; from then on each doubles the wait.
const FREE_TRIES: u32 = 5;
const WAIT: Duration = Duration::from_secs(1);
const WAIT_LIMIT: Duration = Duration::from_secs(900);

/// Names whose wrong passwords are remembered.
const FAILURE_LIMIT: usize = 10_000;

/// What a token may be used for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(super) enum Right {
    /// Look at everything but users, others' tokens and the audit log.
    View,
    /// Isolate, release, delete.
    Operate,
    /// Create and cancel preheats.
    Preheat,
    /// Change limits, block rules and clusters.
    Configure,
    /// Users, all tokens, the audit log.
    Admin,
    /// Be a member.
    Join,
}

impl Right {
    /// All of them.
    pub(super) const ALL: [Self; 6] =
        [Self::View, Self::Operate, Self::Preheat, Self::Configure, Self::Admin, Self::Join];

    /// As it is written.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::Preheat => "preheat",
            Self::Configure => "configure",
            Self::Admin => "admin",
            Self::Join => "join",
        }
    }
}

/// Several rights.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Rights(u32);

impl Rights {
    /// Those of a list.
    pub(super) fn of(list: &[Right]) -> Self {
        Self(list.iter().fold(0, |bits, right| bits | 1 << *right as u8))
    }

    /// Those of names.
    ///
    /// # Errors
    /// [`Code::Usage`] for a name that is none, and for none at all.
    pub(super) fn named(names: &[String]) -> Result<Self, Failure> {
        let mut bits = 0;
        for name in names {
            let right = Right::ALL.into_iter().find(|right| right.name() == name);
            let right = right.ok_or_else(|| {
                Failure::new(Code::Usage, format!("{name:?} is no scope"))
                    .hint("scopes are view, operate, preheat, configure, admin and join")
            })?;
            bits |= 1 << right as u8;
        }
        match bits {
            0 => Err(Failure::new(Code::Usage, "a token needs one scope at least")),
            bits => Ok(Self(bits)),
        }
    }

    /// Whether one is among them.
    pub(super) const fn has(self, right: Right) -> bool {
        self.0 & 1 << right as u8 != 0
    }

    /// Whether all of others are among them.
    pub(super) const fn covers(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    /// As they are written.
    pub(super) fn names(self) -> Vec<String> {
        Right::ALL.into_iter().filter(|right| self.has(*right)).map(|right| right.name().to_owned()).collect()
    }

    fn of_role(role: wire::Role) -> Self {
        match role {
            wire::Role::Guest => Self::of(&[Right::View]),
            wire::Role::OperatorRole => Self::of(&[Right::View, Right::Operate, Right::Preheat, Right::Configure]),
            wire::Role::Root => {
                Self::of(&[Right::View, Right::Operate, Right::Preheat, Right::Configure, Right::Admin])
            }
        }
    }
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Caller {
    /// The user's name.
    pub(super) user: String,
    /// The user's number.
    pub(super) user_id: u64,
    /// The user's role.
    pub(super) role: wire::Role,
    /// What the token may be used for, as far as the role still allows it.
    pub(super) rights: Rights,
    /// The token's number and name.
    pub(super) token: (u64, String),
    /// When it ends, in milliseconds of wall time; 0 for never.
    pub(super) expires_at_ms: u64,
    /// Whether the user should change a password that was generated.
    pub(super) must_change_password: bool,
}

/// What was made when there were no users: shown once.
#[derive(Debug)]
pub(super) struct Bootstrap {
    /// Password of `root`.
    pub(super) password: String,
    /// A token to join with.
    pub(super) join_token: String,
}

/// Users and tokens. Cheap to clone.
#[derive(Clone)]
pub(super) struct Auth(Arc<Inner>);

struct Inner {
    env: Env,
    db: Arc<dyn Db>,
    books: Mutex<Books>,
    /// One password is hashed at a time: it takes 19 MiB.
    hashing: tokio::sync::Semaphore,
}

#[derive(Default)]
struct Books {
    users: BTreeMap<u64, StoredUser>,
    tokens: BTreeMap<u64, StoredToken>,
    /// Numbers of tokens by their hashes.
    hashes: BTreeMap<[u8; 32], u64>,
    failures: BTreeMap<String, Failures>,
}

/// Wrong passwords for one name.
#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    free_at: Instant,
}

fn unauthenticated(message: &str) -> Failure {
    Failure::new(Code::Auth, message)
}

/// A secret of 256 bits and its hash.
fn secret(prefix: &str) -> Result<(String, [u8; 32]), Failure> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).map_err(|error| Failure::new(Code::Internal, "no entropy").because(error))?;
    let text = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bits));
    let hash = hash(&text);
    Ok((text, hash))
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn check_name(name: &str) -> Result<(), Failure> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if name.is_empty() || name.len() > NAME_LIMIT || !name.chars().all(is_plain) {
        let message = format!("a name has 1 to {NAME_LIMIT} letters, digits and -_.@");
        return Err(Failure::new(Code::Usage, message));
    }
    Ok(())
}

impl Auth {
    /// Those that are stored; with none, a root user and a token to join with are made.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn open(env: Env, db: Arc<dyn Db>) -> Result<(Self, Option<Bootstrap>), Failure> {
        let store = db.clone();
        let books = env.blocking(move || Books::load(&*store)).await?;
        let is_new = books.users.is_empty();
        let hashing = tokio::sync::Semaphore::new(1);
        let auth = Self(Arc::new(Inner { env, db, books: Mutex::new(books), hashing }));
        if !is_new {
            return Ok((auth, None));
        }
        let (password, _) = secret("")?;
        let phc = auth.hash_password(password.clone()).await?;
        let now = auth.now_ms();
        let mut root = StoredUser::new(1, "root", wire::Role::Root, phc, now);
        root.must_change_password = true;
        auth.save(vec![root.change()]).await?;
        lock(&auth.0.books).users.insert(1, root);
        let (join_token, _) =
            auth.add_token(1, "first join token", Rights::of(&[Right::Join]), TERM_LIMIT, false).await?;
        Ok((auth, Some(Bootstrap { password, join_token })))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.env.clock.wall().as_millis()).unwrap_or(u64::MAX)
    }

    async fn save(&self, changes: Vec<Change>) -> Result<(), Failure> {
        let db = self.0.db.clone();
        self.0.env.blocking(move || db.apply(&changes)).await
    }

    async fn hash_password(&self, password: String) -> Result<String, Failure> {
        let _turn = self.0.hashing.acquire().await;
        self.0.env.blocking(move || password::hash(&password)).await
    }

    async fn is_password(&self, password: String, phc: String) -> bool {
        let _turn = self.0.hashing.acquire().await;
        self.0.env.blocking(move || password::matches(&password, &phc)).await
    }

    /// Who a token is, if it is worth anything now.
    ///
    /// # Errors
    /// [`Code::Auth`].
    pub(super) fn identify(&self, token: &str) -> Result<Caller, Failure> {
        let now = self.now_ms();
        let mut books = lock(&self.0.books);
        let unknown = || unauthenticated("the token is not valid").hint("sign in, or make another token");
        let number = *books.hashes.get(&hash(token)).ok_or_else(unknown)?;
        let token = books.tokens.get_mut(&number).ok_or_else(unknown)?;
        if token.expires_at_ms != 0 && token.expires_at_ms <= now {
            return Err(unauthenticated("the token has expired").hint("sign in, or make another token"));
        }
        token.used_at_ms = now;
        let token = token.clone();
        let user = books.users.get(&token.user).filter(|user| !user.is_disabled).ok_or_else(unknown)?;
        let role = user.role();
        let mut rights = Rights(token.rights);
        // A role that was taken away is taken from its tokens too; "join" is given by root alone.
        rights.0 &= Rights::of_role(role).0 | Rights::of(&[Right::Join]).0;
        Ok(Caller {
            user: user.name.clone(),
            user_id: user.id,
            role,
            rights,
            token: (number, token.name),
            expires_at_ms: token.expires_at_ms,
            must_change_password: user.must_change_password,
        })
    }

    /// Whether a token allows something.
    ///
    /// # Errors
    /// [`Code::Auth`] for a bad token, [`Code::Blocked`] for one without the right.
    pub(super) fn require(&self, token: Option<&str>, right: Option<Right>) -> Result<Caller, Failure> {
        let token =
            token.ok_or_else(|| unauthenticated("a token is needed").hint("send \"authorization: Bearer TOKEN\""))?;
        let caller = self.identify(token)?;
        match right {
            Some(right) if !caller.rights.has(right) => {
                Err(Failure::new(Code::Blocked, format!("the token has not the scope {:?}", right.name())))
            }
            _ => Ok(caller),
        }
    }

    /// Whether the token that somebody came in with still allows something.
    ///
    /// # Errors
    /// As [`Auth::require`].
    pub(super) fn recheck(&self, caller: &Caller, right: Right) -> Result<(), Failure> {
        let now = self.now_ms();
        let books = lock(&self.0.books);
        let token = books.tokens.get(&caller.token.0).filter(|token| token.user == caller.user_id);
        let user = books.users.get(&caller.user_id).filter(|user| !user.is_disabled);
        let is_valid = token.is_some_and(|token| token.expires_at_ms == 0 || token.expires_at_ms > now);
        let (Some(token), Some(user), true) = (token, user, is_valid) else {
            return Err(unauthenticated("the token is no longer valid").hint("sign in, or make another token"));
        };
        let rights = Rights(token.rights & Rights::of_role(user.role()).0);
        if rights.has(right) {
            return Ok(());
        }
        Err(Failure::new(Code::Blocked, format!("the token has not the scope {:?} any more", right.name())))
    }

    /// Exchanges a name and a password for a token.
    ///
    /// # Errors
    /// [`Code::Auth`], the same for a wrong name as for a wrong password; [`Code::Busy`] after too
    /// many.
    pub(super) async fn sign_in(&self, name: &str, password: &str) -> Result<(String, Caller), Failure> {
        let user = {
            let books = lock(&self.0.books);
            let free_at = books.failures.get(name).map_or(Instant::ZERO, |failures| failures.free_at);
            let now = self.0.env.clock.now();
            if now < free_at {
                let secs = (free_at - now).as_secs() + 1;
                return Err(Failure::new(Code::Busy, format!("too many wrong passwords; wait {secs} s")));
            }
            books.users.values().find(|user| user.name == name && !user.is_disabled).cloned()
        };
        // For nobody too, so that how long it takes says nothing about who is there.
        let phc = user.as_ref().map_or_else(|| password::NOBODY.to_owned(), |user| user.phc.clone());
        let is_right = self.is_password(password.to_owned(), phc).await;
        let Some(user) = user.filter(|_| is_right) else {
            self.note_failure(name);
            return Err(unauthenticated("the name or the password is wrong"));
        };
        lock(&self.0.books).failures.remove(name);
        let rights = Rights::of_role(user.role());
        let (token, _) = self.add_token(user.id, "signed in", rights, SESSION_TERM, true).await?;
        let now = self.now_ms();
        let user = {
            let mut books = lock(&self.0.books);
            books.users.get_mut(&user.id).map(|user| {
                user.signed_in_at_ms = now;
                user.clone()
            })
        };
        if let Some(user) = user {
            self.save(vec![user.change()]).await?;
        }
        let caller = self.identify(&token)?;
        Ok((token, caller))
    }

    fn note_failure(&self, name: &str) {
        let now = self.0.env.clock.now();
        let mut books = lock(&self.0.books);
        if books.failures.len() >= FAILURE_LIMIT && !books.failures.contains_key(name) {
            books.failures.retain(|_, failures| failures.free_at > now);
            if books.failures.len() >= FAILURE_LIMIT {
                books.failures.pop_first();
            }
        }
        let failures = books.failures.entry(name.to_owned()).or_insert(Failures { count: 0, free_at: now });
        failures.count = failures.count.saturating_add(1);
        if failures.count >= FREE_TRIES {
            let doubled = WAIT.saturating_mul(1 << (failures.count - FREE_TRIES).min(20));
            failures.free_at = now + doubled.min(WAIT_LIMIT);
        }
    }

    async fn add_token(
        &self,
        user: u64,
        name: &str,
        rights: Rights,
        term: Duration,
        is_session: bool,
    ) -> Result<(String, StoredToken), Failure> {
        let (text, hash) = secret(if is_session { "dfs_" } else { "dfp_" })?;
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
        self.save(changes).await?;
        Ok((text, token))
    }

    /// Makes a token for whoever asks.
    ///
    /// # Errors
    /// [`Code::Blocked`] for rights the caller has not.
    pub(super) async fn create_token(
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
        let (secret, token) = self.add_token(caller.user_id, &asked.name, rights, term, false).await?;
        Ok(wire::CreatedToken { token: Some(token.shown(&caller.user)), secret })
    }

    /// The caller's tokens; an administrator's are all.
    pub(super) fn tokens(&self, caller: &Caller) -> Vec<wire::Token> {
        let books = lock(&self.0.books);
        let is_shown = |token: &&StoredToken| caller.rights.has(Right::Admin) || token.user == caller.user_id;
        let name = |token: &StoredToken| books.users.get(&token.user).map_or("", |user| &user.name);
        books.tokens.values().filter(is_shown).map(|token| token.shown(name(token))).collect()
    }

    /// Makes a token worthless: one's own, or any for an administrator.
    ///
    /// # Errors
    /// [`Code::NotFound`], also for a token of somebody else.
    pub(super) async fn revoke(&self, caller: &Caller, id: u64) -> Result<(), Failure> {
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

    /// Changes the caller's own password; its other sessions end.
    ///
    /// # Errors
    /// [`Code::Auth`] for a wrong old one.
    pub(super) async fn change_password(&self, caller: &Caller, old: String, new: String) -> Result<(), Failure> {
        password::check(&new)?;
        let user = lock(&self.0.books).users.get(&caller.user_id).cloned();
        let user = user.ok_or_else(|| unauthenticated("the user is gone"))?;
        if !self.is_password(old, user.phc.clone()).await {
            return Err(unauthenticated("the old password is wrong"));
        }
        let phc = self.hash_password(new).await?;
        let changes = {
            let mut books = lock(&self.0.books);
            let Some(user) = books.users.get_mut(&caller.user_id) else { return Ok(()) };
            (user.phc, user.must_change_password) = (phc, false);
            let mut changes = vec![user.change()];
            changes.extend(books.drop_sessions(caller.user_id, Some(caller.token.0)));
            changes
        };
        self.save(changes).await
    }

    /// All users.
    pub(super) fn users(&self) -> Vec<wire::User> {
        lock(&self.0.books).users.values().map(StoredUser::shown).collect()
    }

    /// Makes a user.
    ///
    /// # Errors
    /// [`Code::Exists`] for a name that is taken.
    pub(super) async fn create_user(&self, asked: wire::CreateUserRequest) -> Result<wire::User, Failure> {
        check_name(&asked.name)?;
        password::check(&asked.password)?;
        let role = asked.role();
        let phc = self.hash_password(asked.password).await?;
        let now = self.now_ms();
        let user = {
            let mut books = lock(&self.0.books);
            if books.users.values().any(|user| user.name == asked.name) {
                return Err(Failure::new(Code::Exists, format!("there is a user {:?}", asked.name)));
            }
            if books.users.len() >= USER_LIMIT {
                return Err(Failure::new(Code::Busy, format!("there are {USER_LIMIT} users")));
            }
            let id = books.users.last_key_value().map_or(0, |(id, _)| *id) + 1;
            let user = StoredUser::new(id, &asked.name, role, phc, now);
            books.users.insert(id, user.clone());
            user
        };
        self.save(vec![user.change()]).await?;
        Ok(user.shown())
    }

    /// Changes a user. The last root that can sign in stays one.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::Usage`].
    pub(super) async fn update_user(&self, asked: wire::UpdateUserRequest) -> Result<wire::User, Failure> {
        let phc = match &asked.password {
            Some(password) => {
                password::check(password)?;
                Some(self.hash_password(password.clone()).await?)
            }
            None => None,
        };
        let (shown, changes) = {
            let mut books = lock(&self.0.books);
            let known = books.users.get(&asked.user_id).cloned();
            let mut user = known.ok_or_else(|| no_user(asked.user_id))?;
            let was = user.clone();
            if asked.role.is_some() {
                user.role = asked.role().into();
            }
            user.is_disabled = asked.is_disabled.unwrap_or(user.is_disabled);
            if let Some(phc) = phc {
                user.phc = phc;
            }
            books.check_last_root(&was, Some(&user))?;
            let is_less = user.role < was.role || user.is_disabled || user.phc != was.phc;
            let mut changes = vec![user.change()];
            if is_less {
                changes.extend(books.drop_sessions(user.id, None));
            }
            books.users.insert(user.id, user.clone());
            (user.shown(), changes)
        };
        self.save(changes).await?;
        Ok(shown)
    }

    /// Removes a user and all its tokens.
    ///
    /// # Errors
    /// [`Code::NotFound`], and [`Code::Usage`] for the last root.
    pub(super) async fn remove_user(&self, id: u64) -> Result<(), Failure> {
        let changes = {
            let mut books = lock(&self.0.books);
            let user = books.users.get(&id).cloned().ok_or_else(|| no_user(id))?;
            books.check_last_root(&user, None)?;
            books.users.remove(&id);
            let tokens: Vec<u64> =
                books.tokens.values().filter(|token| token.user == id).map(|token| token.id).collect();
            let mut changes = vec![Change::Remove(Kind::User, id)];
            changes.extend(tokens.into_iter().map(|token| books.drop_token(token)));
            changes
        };
        self.save(changes).await
    }
}

fn no_user(id: u64) -> Failure {
    Failure::new(Code::NotFound, format!("there is no user {id}"))
}

impl Books {
    fn check_last_root(&self, was: &StoredUser, will: Option<&StoredUser>) -> Result<(), Failure> {
        let is_root = |user: &StoredUser| user.role() == wire::Role::Root && !user.is_disabled;
        let others = self.users.values().filter(|user| user.id != was.id && is_root(user)).count();
        if is_root(was) && !will.is_some_and(is_root) && others == 0 {
            return Err(Failure::new(Code::Usage, "nobody else could administer this manager"));
        }
        Ok(())
    }

    fn drop_token(&mut self, id: u64) -> Change {
        if let Some(token) = self.tokens.remove(&id)
            && let Ok(hash) = <[u8; 32]>::try_from(token.hash.as_slice())
        {
            self.hashes.remove(&hash);
        }
        Change::Remove(Kind::Token, id)
    }

    fn drop_sessions(&mut self, user: u64, but: Option<u64>) -> Vec<Change> {
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

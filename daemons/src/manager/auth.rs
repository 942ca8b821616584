//! Who may do what: users with roles, tokens with scopes, and what a request shows of them.
//!
//! A token is 256 random bits; only its SHA-256 is kept, so that it is looked up by what says nothing
//! about it. Passwords are kept as Argon2id.

mod password;
mod records;
mod tokens;
mod users;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use df_api::failure::{Code, Failure};
use df_api::manager as wire;
use df_core::time::Instant;
use sha2::{Digest, Sha256};

use super::db::{Change, Db};
use crate::env::Env;
use crate::sync::lock;
use records::{StoredToken, StoredUser};
use tokens::NewToken;

/// How long a token from signing in holds.
const SESSION_TERM: Duration = Duration::from_secs(12 * 3600);

/// The longest term of a token.
const TERM_LIMIT: Duration = Duration::from_secs(3650 * 24 * 3600);

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
pub struct Bootstrap {
    /// Password of `root`.
    pub password: String,
    /// A token to join with.
    pub join_token: String,
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
fn secret(env: &Env, prefix: &str) -> Result<(String, [u8; 32]), Failure> {
    let bits = env.secret().map_err(|error| Failure::new(Code::Internal, "no entropy").because(error))?;
    let text = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bits));
    let hash = hash(&text);
    Ok((text, hash))
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl Auth {
    /// Those that are stored; with none, a root user and a token to join with are made, handed over, and only
    /// then stored, both at once: whatever ends this in between, the next start begins anew.
    ///
    /// # Errors
    /// When the store fails, or handing over.
    pub(super) async fn open(
        env: Env,
        db: Arc<dyn Db>,
        hand_over: impl FnOnce(&Bootstrap) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let store = db.clone();
        let books = env.blocking(move || Books::load(&*store)).await?;
        let is_new = books.users.is_empty();
        let hashing = tokio::sync::Semaphore::new(1);
        let auth = Self(Arc::new(Inner { env, db, books: Mutex::new(books), hashing }));
        if !is_new {
            return Ok(auth);
        }
        let (password, _) = secret(&auth.0.env, "")?;
        let phc = auth.hash_password(password.clone()).await?;
        let now = auth.now_ms();
        let mut root = StoredUser::new(1, "root", wire::Role::Root, phc, now);
        root.must_change_password = true;
        let rights = Rights::of(&[Right::Join]);
        let first = NewToken { user: 1, name: "first join token", rights, term: TERM_LIMIT, is_session: false };
        let (join_token, _, mut changes) = auth.issue(first)?;
        hand_over(&Bootstrap { password, join_token })?;
        changes.push(root.change());
        auth.save(changes).await?;
        lock(&auth.0.books).users.insert(1, root);
        Ok(auth)
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
        let new = NewToken { user: user.id, name: "signed in", rights, term: SESSION_TERM, is_session: true };
        let (token, _) = self.add_token(new).await?;
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
}

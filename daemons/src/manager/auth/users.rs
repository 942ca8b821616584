//! Users: making, changing and removing them, and their passwords.

use df_api::failure::{Code, Failure};
use df_api::manager as wire;

use super::super::db::{Change, Kind};
use super::records::StoredUser;
use super::{Auth, Books, Caller, NAME_LIMIT, password, unauthenticated};
use crate::sync::lock;

/// Users at most.
const USER_LIMIT: usize = 10_000;

fn check_name(name: &str) -> Result<(), Failure> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if name.is_empty() || name.len() > NAME_LIMIT || !name.chars().all(is_plain) {
        let message = format!("a name has 1 to {NAME_LIMIT} letters, digits and -_.@");
        return Err(Failure::new(Code::Usage, message));
    }
    Ok(())
}

fn no_user(id: u64) -> Failure {
    Failure::new(Code::NotFound, format!("there is no user {id}"))
}

impl Auth {
    /// Changes the caller's own password; its other sessions end.
    ///
    /// # Errors
    /// [`Code::Auth`] for a wrong old one.
    pub(in crate::manager) async fn change_password(
        &self,
        caller: &Caller,
        old: String,
        new: String,
    ) -> Result<(), Failure> {
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
    pub(in crate::manager) fn users(&self) -> Vec<wire::User> {
        lock(&self.0.books).users.values().map(StoredUser::shown).collect()
    }

    /// Makes a user.
    ///
    /// # Errors
    /// [`Code::Exists`] for a name that is taken.
    pub(in crate::manager) async fn create_user(&self, asked: wire::CreateUserRequest) -> Result<wire::User, Failure> {
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
    pub(in crate::manager) async fn update_user(&self, asked: wire::UpdateUserRequest) -> Result<wire::User, Failure> {
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
                // Somebody else knows it.
                (user.phc, user.must_change_password) = (phc, true);
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
    pub(in crate::manager) async fn remove_user(&self, id: u64) -> Result<(), Failure> {
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

impl Books {
    fn check_last_root(&self, was: &StoredUser, will: Option<&StoredUser>) -> Result<(), Failure> {
        let is_root = |user: &StoredUser| user.role() == wire::Role::Root && !user.is_disabled;
        let others = self.users.values().filter(|user| user.id != was.id && is_root(user)).count();
        if is_root(was) && !will.is_some_and(is_root) && others == 0 {
            return Err(Failure::new(Code::Usage, "nobody else could administer this manager"));
        }
        Ok(())
    }
}

//! `dfctl user` and `dfctl token`: who may sign in, and what with.

use df_api::failure::Failure;
use serde_json::json;

use super::flags::{RoleName, Token, User};
use super::print::Answer;
use super::{listed, named, ordered, password, seen};
use crate::list::List;
use crate::poller::Source;
use crate::request::Request;
use crate::screen::Screen;

pub(super) async fn users(source: &mut Source, user: &User) -> Result<Answer, Failure> {
    let (name, change): (&String, Box<dyn FnOnce(String) -> Request>) = match user {
        User::Ls(rows) => return listed(source, Screen::Admin, List::Users, "users", rows).await,
        User::Add { name, role, password: from } => {
            let password = password(from.password_file.as_deref(), "DFCTL_PASSWORD", "password: ")?;
            return ordered(source, Request::AddUser { name: name.clone(), role: role.name(), password }).await;
        }
        User::Passwd { password: from, new_password_file } => {
            let old = password(from.password_file.as_deref(), "DFCTL_PASSWORD", "password: ")?;
            let new = password(new_password_file.as_deref(), "DFCTL_NEW_PASSWORD", "new password: ")?;
            source.manager()?.change_password(&old, &new).await?;
            return Ok(Answer::new("the password is changed", "result", json!({ "done": "changed" })));
        }
        User::Role { name, role } => {
            let role = Some(role.name());
            (name, Box::new(|user| Request::ChangeUser { user, role, password: None }))
        }
        User::Reset { name, password: from } => {
            let new = password(from.password_file.as_deref(), "DFCTL_PASSWORD", "new password: ")?;
            (name, Box::new(|user| Request::ChangeUser { user, role: None, password: Some(new) }))
        }
        User::Disable { name } => (name, Box::new(|user| Request::EnableUser { user, is_enabled: false })),
        User::Enable { name } => (name, Box::new(|user| Request::EnableUser { user, is_enabled: true })),
    };
    let user = match source {
        Source::Demo(_) => {
            let snapshot = seen(source, Screen::Admin).await?;
            named(List::Users.rows(&snapshot), name, "user")?.key().into_owned()
        }
        Source::Live(_) => source.manager()?.user_number(name).await?,
    };
    ordered(source, change(user)).await
}

impl RoleName {
    fn name(self) -> String {
        match self {
            Self::Guest => "guest",
            Self::Operator => "operator",
            Self::Root => "root",
        }
        .to_owned()
    }
}

pub(super) async fn tokens(source: &mut Source, token: &Token) -> Result<Answer, Failure> {
    match token {
        Token::Ls(rows) => listed(source, Screen::Admin, List::Tokens, "tokens", rows).await,
        Token::Create { name, scopes, term } => {
            let (name, scopes) = (name.clone(), scopes.clone());
            ordered(source, Request::AddToken { name, scopes, seconds: Some(*term) }).await
        }
        Token::Revoke { token } => ordered(source, Request::RevokeToken { token: token.clone() }).await,
    }
}

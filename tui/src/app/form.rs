//! Forms: fields that are filled in, and the requests they make.

use super::line::Line;
use crate::format;
use crate::keymap::Command;
use crate::model::{Limits, PreheatScope, User};
use crate::request::{LimitKind, LimitScope, NewBlock, Preheat, Request};

/// What users may be.
const ROLES: [&str; 3] = ["guest", "operator", "root"];

/// Shortest password, in characters.
const PASSWORD_FLOOR: usize = 12;

/// How a field is filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// By writing.
    Text(Line),
    /// By writing what nobody should see.
    Secret(Line),
    /// By choosing.
    Choice {
        /// What there is.
        options: Vec<&'static str>,
        /// What is chosen.
        at: usize,
    },
}

/// One field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// What it is.
    pub label: &'static str,
    /// More about it: what holds now, what is possible.
    pub hint: String,
    /// What is filled in.
    pub input: Input,
}

impl Field {
    fn text(label: &'static str, value: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { label, hint: hint.into(), input: Input::Text(Line::new(value)) }
    }

    fn secret(label: &'static str, hint: &str) -> Self {
        Self { label, hint: hint.to_owned(), input: Input::Secret(Line::default()) }
    }

    fn choice(label: &'static str, options: Vec<&'static str>) -> Self {
        Self { label, hint: String::new(), input: Input::Choice { options, at: 0 } }
    }

    fn value(&self) -> &str {
        match &self.input {
            Input::Text(line) | Input::Secret(line) => line.text().trim(),
            Input::Choice { options, at } => options.get(*at).copied().unwrap_or_default(),
        }
    }
}

/// What a form is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A preheat.
    Preheat,
    /// Rate limits of somebody.
    Limits(LimitScope),
    /// Taking hosts out of use.
    Isolate(Vec<String>),
    /// A block rule.
    Block,
    /// A user.
    User,
    /// Another role or password of the user with this number, who has this role.
    ChangeUser(String, String),
    /// A token.
    Token,
}

/// A form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Form {
    /// What stands over it.
    pub title: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Its fields.
    pub fields: Vec<Field>,
    /// The field with the cursor.
    pub at: usize,
    /// What is wrong with it.
    pub error: Option<String>,
}

impl Form {
    fn new(title: impl Into<String>, purpose: Purpose, fields: Vec<Field>) -> Self {
        Self { title: title.into(), purpose, fields, at: 0, error: None }
    }

    /// The form of a preheat, with a URL filled in.
    pub fn preheat(url: &str) -> Self {
        let mut fields = vec![
            Field::choice("Type", vec!["image", "file"]),
            Field::text("URL", url, "host/name:tag, or a URL"),
            Field::text("Platform", "linux/amd64", "of an image; empty: all"),
            Field::choice("Scope", PreheatScope::ALL.map(PreheatScope::name).to_vec()),
            Field::text("Hosts", "", "12, or 30%; empty: all of the scope"),
            Field::text("Concurrency", "8", "parts at once"),
            Field::text("Timeout", "1h", "90s, 30m, 2h"),
            Field::text("Tag", "", ""),
            Field::text("User", "", "of the registry"),
            Field::secret("Password", "of the registry; kept nowhere"),
            Field::choice("Run", vec!["start", "dry run"]),
        ];
        // What is at an URL is a file unless it looks like a manifest.
        if url.contains("://")
            && !url.contains("/manifests/")
            && let Some(Field { input: Input::Choice { at, .. }, .. }) = fields.first_mut()
        {
            *at = 1;
        }
        let mut form = Self::new("Preheat", Purpose::Preheat, fields);
        form.at = 1;
        form
    }

    /// The form of rate limits, with those that hold now.
    pub fn limits(title: String, scope: LimitScope, now: &Limits) -> Self {
        let field = |kind: LimitKind| {
            let (label, limit) = match kind {
                LimitKind::Download => ("download", now.download_bytes_per_sec),
                LimitKind::Upload => ("upload", now.upload_bytes_per_sec),
                LimitKind::Source => ("source", now.source_bytes_per_sec),
                LimitKind::Task => ("per task", now.task_bytes_per_sec),
            };
            let shown = match limit {
                None => "not set".to_owned(),
                Some(0) => "none".to_owned(),
                Some(rate) => format::rate(rate),
            };
            Field::text(label, "", format!("now {shown}"))
        };
        let form = Self::new(title, Purpose::Limits(scope), LimitKind::ALL.map(field).to_vec());
        Self { error: Some("200M, 1GiB, none, or unset; empty: as it is".to_owned()), ..form }
    }

    /// The form that takes hosts out of use.
    pub fn isolate(names: &[String], hosts: Vec<String>) -> Self {
        let fields = vec![Field::text("Reason", "", ""), Field::text("For", "1h", "empty: until released")];
        Self::new(format!("Isolate {}", names.join(" ")), Purpose::Isolate(hosts), fields)
    }

    /// The form of a block rule.
    pub fn block() -> Self {
        let fields = vec![
            Field::choice("Field", vec!["application", "url", "tag", "priority"]),
            Field::text("Value", "", "of a URL: a regular expression"),
            Field::choice("Refuse", vec!["download", "upload", "both"]),
            Field::text("Reason", "", "whoever meets it is told"),
        ];
        Self::new("Block", Purpose::Block, fields)
    }

    /// The form of a user.
    pub fn user() -> Self {
        let fields = vec![
            Field::text("Name", "", ""),
            Field::choice("Role", ROLES.to_vec()),
            Field::secret("Password", "12 characters at least"),
        ];
        Self::new("User", Purpose::User, fields)
    }

    /// The form that changes a user.
    pub fn change_user(user: &User) -> Self {
        let mut role = Field::choice("Role", ROLES.to_vec());
        if let Input::Choice { options, at } = &mut role.input {
            *at = options.iter().position(|name| *name == user.role).unwrap_or_default();
        }
        let fields = vec![role, Field::secret("Password", "a new one; empty: as it is")];
        Self::new(format!("Change {}", user.name), Purpose::ChangeUser(user.id.clone(), user.role.clone()), fields)
    }

    /// The form of a token.
    pub fn token() -> Self {
        let fields = vec![
            Field::text("Name", "", ""),
            Field::text("Scopes", "view", "view operate preheat configure admin join"),
            Field::text("For", "30d", ""),
        ];
        Self::new("Token", Purpose::Token, fields)
    }

    /// Writes into the field with the cursor.
    pub fn write(&mut self, text: &str) {
        if let Some(Input::Text(line) | Input::Secret(line)) =
            self.fields.get_mut(self.at).map(|field| &mut field.input)
        {
            line.write(text);
        }
    }

    /// Carries out what a key is for.
    pub fn edit(&mut self, command: Command) {
        let count = self.fields.len().max(1);
        match (command, self.fields.get_mut(self.at).map(|field| &mut field.input)) {
            (Command::NextField, _) => self.at = (self.at + 1) % count,
            (Command::PreviousField, _) => self.at = (self.at + count - 1) % count,
            (Command::Toggle | Command::Right, Some(Input::Choice { options, at })) => {
                *at = (*at + 1) % options.len().max(1);
            }
            (Command::Left, Some(Input::Choice { options, at })) => {
                *at = (*at + options.len().saturating_sub(1)) % options.len().max(1);
            }
            (Command::Toggle, Some(Input::Text(line) | Input::Secret(line))) => line.write(" "),
            (command, Some(Input::Text(line) | Input::Secret(line))) => {
                line.edit(command);
            }
            _ => {}
        }
    }

    fn value(&self, label: &str) -> &str {
        self.fields.iter().find(|field| field.label == label).map_or("", Field::value)
    }

    /// What the form asks for.
    ///
    /// # Errors
    /// What is wrong with a field.
    pub fn requests(&self) -> Result<Vec<Request>, String> {
        match &self.purpose {
            Purpose::Preheat => Ok(vec![Request::Preheat(self.preheat_asked()?)]),
            Purpose::Limits(scope) => self.limits_asked(scope),
            Purpose::Isolate(hosts) => {
                let seconds = self.span("For")?;
                let reason = self.value("Reason").to_owned();
                let isolate = |host: &String| Request::Isolate { host: host.clone(), seconds, reason: reason.clone() };
                Ok(hosts.iter().map(isolate).collect())
            }
            Purpose::Block => {
                let refuses = self.value("Refuse");
                Ok(vec![Request::AddBlock(NewBlock {
                    kind: self.value("Field").to_owned(),
                    value: self.filled("Value")?,
                    blocks_download: refuses != "upload",
                    blocks_upload: refuses != "download",
                    reason: self.value("Reason").to_owned(),
                })])
            }
            Purpose::User => {
                let password = self.filled("Password").and_then(|_| self.password())?;
                let (name, role) = (self.filled("Name")?, self.value("Role").to_owned());
                Ok(vec![Request::AddUser { name, role, password }])
            }
            Purpose::ChangeUser(user, role_before) => {
                let role = Some(self.value("Role")).filter(|role| role != role_before).map(str::to_owned);
                let password = if self.value("Password").is_empty() { None } else { Some(self.password()?) };
                if role.is_none() && password.is_none() {
                    return Err("nothing is changed".to_owned());
                }
                Ok(vec![Request::ChangeUser { user: user.clone(), role, password }])
            }
            Purpose::Token => {
                let scopes = self.filled("Scopes")?.split_whitespace().map(str::to_owned).collect();
                Ok(vec![Request::AddToken { name: self.filled("Name")?, scopes, seconds: self.span("For")? }])
            }
        }
    }

    fn password(&self) -> Result<String, String> {
        let password = self.value("Password");
        if password.chars().count() < PASSWORD_FLOOR {
            return Err(format!("a password has {PASSWORD_FLOOR} characters at least"));
        }
        Ok(password.to_owned())
    }

    fn filled(&self, label: &str) -> Result<String, String> {
        match self.value(label) {
            "" => Err(format!("{} is empty", label.to_lowercase())),
            value => Ok(value.to_owned()),
        }
    }

    fn span(&self, label: &str) -> Result<Option<u64>, String> {
        match self.value(label) {
            "" => Ok(None),
            text => {
                format::parse_span(text).map(Some).ok_or_else(|| format!("\"{text}\" is no time: 90s, 30m, 2h, 1d"))
            }
        }
    }

    fn preheat_asked(&self) -> Result<Preheat, String> {
        let hosts = self.value("Hosts");
        let number = |text: &str| text.parse::<u32>().map_err(|_| format!("\"{text}\" is no number"));
        let (count, percentage) = match hosts.strip_suffix('%') {
            Some(per_cent) => (0, number(per_cent.trim())?),
            None if hosts.is_empty() => (0, 0),
            None => (number(hosts)?, 0),
        };
        if percentage > 100 {
            return Err("more than 100 %".to_owned());
        }
        let concurrency = match self.value("Concurrency") {
            "" => 0,
            text => number(text)?,
        };
        let is_image = self.value("Type") == "image";
        Ok(Preheat {
            is_image,
            urls: self.filled("URL")?.split_whitespace().map(str::to_owned).collect(),
            platform: if is_image { self.value("Platform").to_owned() } else { String::new() },
            scope: PreheatScope::named(self.value("Scope")).unwrap_or_default(),
            count,
            percentage,
            concurrency,
            timeout_ms: self.span("Timeout")?.unwrap_or_default().saturating_mul(1000),
            tag: self.value("Tag").to_owned(),
            username: self.value("User").to_owned(),
            password: self.value("Password").to_owned(),
            is_dry_run: self.value("Run") == "dry run",
            ..Preheat::default()
        })
    }

    fn limits_asked(&self, scope: &LimitScope) -> Result<Vec<Request>, String> {
        let mut limits = Vec::new();
        for (kind, field) in LimitKind::ALL.into_iter().zip(&self.fields) {
            if !field.value().is_empty() {
                limits.push((kind, field.value().parse()?));
            }
        }
        if limits.is_empty() {
            return Err("nothing is filled in".to_owned());
        }
        Ok(vec![Request::SetLimits { scope: scope.clone(), limits }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::LimitValue;

    fn fill(form: &mut Form, label: &str, text: &str) {
        form.at = form.fields.iter().position(|field| field.label == label).unwrap();
        form.edit(Command::RubAll);
        form.write(text);
    }

    #[test]
    fn a_preheat_is_read_from_its_form() {
        let mut form = Form::preheat("https://h/model.bin");
        fill(&mut form, "Hosts", "30%");
        let asked = form.requests().expect("it is filled in");
        let [Request::Preheat(preheat)] = &asked[..] else { panic!("{asked:?}") };
        assert!(!preheat.is_image && preheat.platform.is_empty());
        assert_eq!((preheat.percentage, preheat.count, preheat.timeout_ms), (30, 0, 3_600_000));
        for (label, text) in [("Hosts", "some"), ("Hosts", "101%"), ("Timeout", "soon"), ("URL", " ")] {
            let mut wrong = form.clone();
            fill(&mut wrong, label, text);
            assert!(wrong.requests().is_err(), "{label} {text}");
        }
    }

    #[test]
    fn limits_that_are_not_filled_in_stay() {
        let mut form = Form::limits("h".to_owned(), LimitScope::Peers, &Limits::default());
        assert!(form.requests().is_err());
        fill(&mut form, "upload", "10M");
        fill(&mut form, "per task", "none");
        fill(&mut form, "source", "unset");
        let expected = vec![
            (LimitKind::Upload, LimitValue::BytesPerSec(10 << 20)),
            (LimitKind::Source, LimitValue::Unset),
            (LimitKind::Task, LimitValue::Unlimited),
        ];
        assert_eq!(form.requests(), Ok(vec![Request::SetLimits { scope: LimitScope::Peers, limits: expected }]));
        fill(&mut form, "upload", "fast");
        assert!(form.requests().is_err());
    }

    #[test]
    fn choices_go_round() {
        let mut form = Form::block();
        form.edit(Command::Left);
        assert_eq!(form.value("Field"), "priority");
        form.edit(Command::Toggle);
        assert_eq!(form.value("Field"), "application");
        form.edit(Command::PreviousField);
        assert_eq!(form.at, 3);
        form.edit(Command::NextField);
        assert_eq!(form.at, 0);
    }

    #[test]
    fn short_passwords_are_not_sent() {
        let mut form = Form::user();
        fill(&mut form, "Name", "ops");
        fill(&mut form, "Password", "short");
        assert!(form.requests().is_err());
    }

    #[test]
    fn of_a_user_is_sent_what_was_changed() {
        let user = User { id: "2".to_owned(), role: "operator".to_owned(), ..User::default() };
        let form = Form::change_user(&user);
        assert!(form.requests().is_err(), "nothing was changed");
        let asked = |role: Option<&str>, password: Option<&str>| {
            let (role, password) = (role.map(str::to_owned), password.map(str::to_owned));
            Ok(vec![Request::ChangeUser { user: "2".to_owned(), role, password }])
        };
        let mut demoted = form.clone();
        demoted.edit(Command::Left);
        assert_eq!(demoted.requests(), asked(Some("guest"), None));
        let mut reset = form;
        fill(&mut reset, "Password", "short");
        assert!(reset.requests().is_err());
        fill(&mut reset, "Password", "correct horse battery");
        assert_eq!(reset.requests(), asked(None, Some("correct horse battery")));
    }
}

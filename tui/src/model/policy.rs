//! What operators decide and are told: limits, isolation, block list, users, tokens, audit.

use std::fmt;

use serde::Serialize;

use super::{Limits, State};
use crate::format;

/// Who does not use an isolated host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Nobody.
    #[default]
    Global,
    /// Those that met failures.
    Local,
    /// It keeps itself back.
    Own,
    /// Nobody, as an operator said.
    Operator,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "global",
            Self::Local => "local",
            Self::Own => "self",
            Self::Operator => "operator",
        })
    }
}

/// A host that is not used: on the blacklist, isolated by an operator, or by itself.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Isolated {
    /// The host's id.
    pub host: String,
    /// The host's name.
    pub hostname: String,
    /// Who does not use it.
    pub scope: Scope,
    /// Since when.
    pub since_s: u64,
    /// Strikes against it.
    pub strikes: u32,
    /// Strikes at which it is listed.
    pub strike_limit: u32,
    /// Who said so.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it is used again; `None` when it has to prove itself or be released.
    pub expires_s: Option<u64>,
    /// Whether it is tried again with little.
    pub is_on_parole: bool,
}

/// What holds in a cluster by its operators' word.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Policy {
    /// The number of the cluster.
    pub cluster: String,
    /// Rises with each change.
    pub version: u64,
    /// Limits on each peer.
    pub peer: Limits,
    /// Limits on each seed peer.
    pub seed: Limits,
    /// Limits on single hosts: id, name, limits.
    pub overrides: Vec<(String, String, Limits)>,
    /// What is forbidden.
    pub blocks: Vec<Block>,
    /// Members that have this version in force.
    pub members_in_force: u32,
    /// Members that should.
    pub members: u32,
}

/// One line of the operator's block list.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Block {
    /// Its number.
    pub id: String,
    /// What is compared: `application`, `url`, `tag`, `priority`.
    pub kind: String,
    /// With what.
    pub value: String,
    /// What is refused: `download`, `upload`, `both`.
    pub direction: String,
    /// Whom it holds for: `peers`, `seeds`, `all`.
    pub hosts: String,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// When.
    pub created_at: u64,
}

/// Somebody who may sign in.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct User {
    /// The number.
    pub id: String,
    /// The name.
    pub name: String,
    /// What the user may do.
    pub role: String,
    /// Whether the user may.
    pub state: State,
    /// Since when there is this user.
    pub created_at: u64,
    /// When the user signed in last.
    pub seen_at: Option<u64>,
}

/// A personal access token. What it is itself, nobody is shown.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Token {
    /// Its number.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// Whose it is.
    pub user: String,
    /// What it is good for.
    pub scopes: Vec<String>,
    /// Whether it is good.
    pub state: State,
    /// Since when.
    pub created_at: u64,
    /// Until when.
    pub expires_at: Option<u64>,
    /// When it was used last, by day.
    pub used_at: Option<u64>,
}

/// One change, and who made it.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct AuditEntry {
    /// Grows by one with each.
    pub number: u64,
    /// When.
    pub happened_at: u64,
    /// Who.
    pub user: String,
    /// What was asked.
    pub action: String,
    /// Of what.
    pub target: String,
    /// What changed.
    pub detail: String,
    /// From where.
    pub ip: String,
    /// What came of it.
    pub state: State,
}

/// One value of the dynamic configuration.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Setting {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub value: String,
    /// Whom it holds for.
    pub scope: String,
}

/// Limits by their names.
fn limits(scope: &str, limits: &Limits) -> Vec<Setting> {
    let rates = [
        ("download rate", limits.download_bytes_per_sec),
        ("upload rate", limits.upload_bytes_per_sec),
        ("source rate", limits.source_bytes_per_sec),
        ("rate of one task", limits.task_bytes_per_sec),
    ];
    let slots = [("upload slots", limits.upload_slots), ("download slots", limits.download_slots)];
    let rates =
        rates.into_iter().filter_map(|(name, rate)| Some((name, format::limit(Some(rate?).filter(|it| *it > 0)))));
    let slots = slots.into_iter().filter_map(|(name, slots)| Some((name, slots?.to_string())));
    let setting = |(name, value): (&str, String)| Setting { name: name.to_owned(), value, scope: scope.to_owned() };
    rates.chain(slots).map(setting).collect()
}

impl Policy {
    /// The limits that are set, one by one, and how far they are in force.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = limits("each peer", &self.peer);
        settings.extend(limits("each seed peer", &self.seed));
        for (_, hostname, own) in &self.overrides {
            settings.extend(limits(hostname, own));
        }
        settings.push(Setting {
            name: "version in force".to_owned(),
            value: format!("{} on {}/{} members", self.version, self.members_in_force, self.members),
            scope: "cluster".to_owned(),
        });
        settings
    }
}

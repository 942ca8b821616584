//! What can be asked of the cluster: by a key, a command, a form, or `dfctl`.

use std::str::FromStr;

use serde::Serialize;

use crate::format;
use crate::model::PreheatScope;

/// A preheat that is asked for.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Preheat {
    /// A container image, not a file.
    pub is_image: bool,
    /// Where from: URLs, or an image as `host/name:tag`.
    pub urls: Vec<String>,
    /// `os/architecture`; empty for every platform.
    pub platform: String,
    /// Where to.
    pub scope: PreheatScope,
    /// So many hosts of the scope; 0 for all.
    pub count: u32,
    /// So many per cent of them; 0 for all.
    pub percentage: u32,
    /// These hosts of the scope.
    pub ips: Vec<String>,
    /// Parts at once; 0 for what the manager thinks best.
    pub concurrency: u32,
    /// Milliseconds; 0 for an hour.
    pub timeout_ms: u64,
    /// Sets versions of a URL apart.
    pub tag: String,
    /// Who it is for.
    pub application: String,
    /// Bytes; 0 for the default rule.
    pub piece_length: u64,
    /// Sent to the source; shown nowhere.
    #[serde(skip)]
    pub headers: Vec<(String, String)>,
    /// For the registry.
    pub username: String,
    /// For the registry; shown nowhere.
    #[serde(skip)]
    pub password: String,
    /// Say what would be done, and do nothing.
    pub is_dry_run: bool,
}

/// Whom a limit holds for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitScope {
    /// Each peer of the cluster.
    Peers,
    /// Each seed peer of the cluster.
    Seeds,
    /// One host, by its id.
    Host(String),
}

/// A limit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitKind {
    /// From hosts and sources together.
    Download,
    /// To other hosts.
    Upload,
    /// From sources.
    Source,
    /// From hosts and sources, for one task.
    Task,
}

impl LimitKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Download, Self::Upload, Self::Source, Self::Task];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Upload => "upload",
            Self::Source => "source",
            Self::Task => "task",
        }
    }

    /// The kind with this name; `total` is what operators of Dragonfly call the one on downloads.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "total" => Some(Self::Download),
            name => Self::ALL.into_iter().find(|kind| kind.name() == name),
        }
    }
}

/// What a limit is to become.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitValue {
    /// Bytes per second.
    BytesPerSec(u64),
    /// Without limit, whatever the host itself says.
    Unlimited,
    /// Left to the host, or for a host to its cluster.
    Unset,
}

impl FromStr for LimitValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unset" {
            return Ok(Self::Unset);
        }
        let limit =
            format::parse_limit(text).ok_or_else(|| format!("\"{text}\" is no rate: 200M, 1GiB, none, unset"))?;
        Ok(limit.map_or(Self::Unlimited, Self::BytesPerSec))
    }
}

/// A block rule that is asked for.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct NewBlock {
    /// `application`, `url`, `tag` or `priority`.
    pub kind: String,
    /// What it is compared with; of a URL a regular expression.
    pub value: String,
    /// Refuse downloads.
    pub blocks_download: bool,
    /// Refuse uploads.
    pub blocks_upload: bool,
    /// Why.
    pub reason: String,
}

/// Something to be done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Bring contents to hosts before anybody asks.
    Preheat(Preheat),
    /// Stop a job.
    CancelJob {
        /// Its number.
        job: String,
    },
    /// Make every host drop a content.
    DeleteTask {
        /// Its id.
        task: String,
    },
    /// Drop a content cached on this node, here alone.
    DropContent {
        /// Its name.
        cid: String,
        /// The name's tag.
        tag: String,
    },
    /// Take a host out of use.
    Isolate {
        /// Its id.
        host: String,
        /// For so long; `None` until it is released.
        seconds: Option<u64>,
        /// Why.
        reason: String,
    },
    /// Put a host to use again.
    Release {
        /// Its id.
        host: String,
    },
    /// Change rate limits.
    SetLimits {
        /// For whom.
        scope: LimitScope,
        /// To what; limits that are not named stay.
        limits: Vec<(LimitKind, LimitValue)>,
    },
    /// Forbid something.
    AddBlock(NewBlock),
    /// Allow it again.
    RemoveBlock {
        /// The rule's number.
        rule: String,
    },
    /// Forget a member that is lost.
    RemoveMember {
        /// Its number.
        member: String,
    },
    /// Let somebody in.
    AddUser {
        /// The name.
        name: String,
        /// `guest`, `operator` or `root`.
        role: String,
        /// Shown nowhere.
        #[serde(skip)]
        password: String,
    },
    /// Change what a user may do, or give the user another password.
    ChangeUser {
        /// The number.
        user: String,
        /// `guest`, `operator` or `root`; `None` as it is.
        role: Option<String>,
        /// The new password; `None` for the old one. Shown nowhere.
        #[serde(skip)]
        password: Option<String>,
    },
    /// Let a user in no more, or again.
    EnableUser {
        /// The number.
        user: String,
        /// Whether the user may sign in.
        is_enabled: bool,
    },
    /// Make a personal access token.
    AddToken {
        /// What it is called.
        name: String,
        /// What it is good for.
        scopes: Vec<String>,
        /// For how long; `None` for 30 days.
        seconds: Option<u64>,
    },
    /// End a token.
    RevokeToken {
        /// Its number.
        token: String,
    },
}

impl Request {
    /// Whether it concerns the whole cluster, so that its name has to be typed.
    pub fn is_cluster_wide(&self) -> bool {
        match self {
            Self::DeleteTask { .. } | Self::AddBlock(_) => true,
            Self::SetLimits { scope, .. } => !matches!(scope, LimitScope::Host(_)),
            _ => false,
        }
    }

    /// Whether the manager is asked, not the daemon of this node.
    pub const fn is_for_manager(&self) -> bool {
        !matches!(self, Self::DropContent { .. })
    }
}

//! How anything fails: one type that becomes an exit code, a JSON object, a gRPC status and three
//! lines on a terminal.

use std::fmt;

/// What kind of failure, in the vocabulary of the command line's exit codes.
///
/// 0 to 8 follow wget, 9, 13 and 32 aria2, 28 curl; 10 to 15 are our own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Code {
    /// Anything else: a bug.
    Internal = 1,
    /// Bad flag, URL or configuration.
    Usage = 2,
    /// A local file cannot be created, written or renamed.
    LocalIo = 3,
    /// DNS, connect or reset; every peer and the source failed.
    Network = 4,
    /// A certificate was refused.
    Tls = 5,
    /// 401, 403, 407 or a bad token.
    Auth = 6,
    /// A malformed answer, a source that changed during the transfer, no Range where it is needed.
    Protocol = 7,
    /// The source answered with another 4xx or 5xx.
    OriginStatus = 8,
    /// The disk or a quota is full.
    NoSpace = 9,
    /// Not in the cache; task unknown.
    NotFound = 10,
    /// The daemon's socket is refused and doing without it is forbidden.
    DaemonDown = 11,
    /// No scheduler and no peer, and back to source is disabled.
    NoScheduler = 12,
    /// The output or the content id exists already.
    Exists = 13,
    /// Refused by policy, block list or isolation.
    Blocked = 14,
    /// Rate limited or a queue is full; worth another try.
    Busy = 15,
    /// A deadline passed or the minimum rate was missed.
    Timeout = 28,
    /// A checksum did not match.
    Digest = 32,
    /// The caller went away or pressed ^C.
    Cancelled = 130,
}

impl Code {
    /// Every code, for tables and tests.
    pub const ALL: [Self; 18] = [
        Self::Internal,
        Self::Usage,
        Self::LocalIo,
        Self::Network,
        Self::Tls,
        Self::Auth,
        Self::Protocol,
        Self::OriginStatus,
        Self::NoSpace,
        Self::NotFound,
        Self::DaemonDown,
        Self::NoScheduler,
        Self::Exists,
        Self::Blocked,
        Self::Busy,
        Self::Timeout,
        Self::Digest,
        Self::Cancelled,
    ];

    /// The process exit code.
    pub const fn exit(self) -> u8 {
        self as u8
    }

    /// The name in JSON and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Internal => "INTERNAL",
            Self::Usage => "USAGE",
            Self::LocalIo => "LOCAL_IO",
            Self::Network => "NETWORK",
            Self::Tls => "TLS",
            Self::Auth => "AUTH",
            Self::Protocol => "PROTOCOL",
            Self::OriginStatus => "ORIGIN_STATUS",
            Self::NoSpace => "NO_SPACE",
            Self::NotFound => "NOT_FOUND",
            Self::DaemonDown => "DAEMON_DOWN",
            Self::NoScheduler => "NO_SCHEDULER",
            Self::Exists => "EXISTS",
            Self::Blocked => "BLOCKED",
            Self::Busy => "BUSY",
            Self::Timeout => "TIMEOUT",
            Self::Digest => "DIGEST",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The code with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Network | Self::Busy | Self::Timeout)
    }
}

/// A failure as a person or a script is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The kind.
    pub code: Code,
    /// One line: what failed.
    pub message: String,
    /// One line: why, if it is known.
    pub cause: Option<String>,
    /// One line: what to do about it, if anything.
    pub hint: Option<String>,
    /// The source's HTTP status, if it answered one.
    pub http_status: Option<u16>,
}

impl Failure {
    /// A failure of a kind, with the line that says what failed.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), cause: None, hint: None, http_status: None }
    }

    /// With the line that says why.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// With the line that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the status a source answered.
    #[must_use]
    pub fn http_status(mut self, status: u16) -> Self {
        self.http_status = Some(status);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.cause.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_distinct_names_and_exits() {
        for (at, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(Code::from_name(code.name()), Some(code));
            assert!(Code::ALL[at + 1..].iter().all(|other| other.exit() != code.exit()));
        }
        assert_eq!(Code::from_name("NO_SUCH"), None);
    }
}

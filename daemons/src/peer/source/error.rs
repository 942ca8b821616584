//! Why a source could not be read, without ever naming a secret.

use std::fmt;
use std::time::Duration;

use df_api::failure::{Code, Failure};
use http::StatusCode;
use url::Url;

/// Characters of a URL that a message shows.
const URL_SHOWN_LIMIT: usize = 300;

/// What kind of failure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SourceErrorKind {
    /// The request itself is wrong: its URL, a header, the configuration.
    Usage,
    /// The egress rules refuse the address.
    Blocked,
    /// The source cannot be reached: no such name, refused, no answer to a connect.
    Connect,
    /// The connection broke.
    Reset,
    /// The other end failed to prove who it is, or speaks no TLS that we do.
    Tls,
    /// No answer, or no further byte, within its limit.
    Timeout,
    /// 401, 403 or 407.
    Auth,
    /// Another status that is no success.
    Status,
    /// The bytes asked for are not there (416).
    Range,
    /// The content is no longer the version that was pinned.
    Changed,
    /// The body ended before its promised end.
    Truncated,
    /// An answer that HTTP does not allow, or that contradicts itself.
    Protocol,
}

/// Why a source could not be read. Shows no credentials and no query of a URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceError {
    /// What kind of failure.
    pub kind: SourceErrorKind,
    /// One line: why.
    pub cause: String,
    /// The status the source answered, if the failure is about it.
    pub http_status: Option<u16>,
    /// How long the source asks us to stay away.
    pub retry_after: Option<Duration>,
    /// How it wants to be shown who asks (WWW-Authenticate), if that is what it refused.
    pub challenge: Option<String>,
    url: String,
}

impl SourceError {
    /// A failure that does not know its URL yet, see [`SourceError::at`].
    pub(crate) fn new(kind: SourceErrorKind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into(), http_status: None, retry_after: None, challenge: None, url: String::new() }
    }

    /// With the URL that was asked.
    pub(super) fn at(mut self, url: &Url) -> Self {
        self.url = redacted(url);
        self
    }

    /// With the status of the answer.
    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.http_status = Some(status.as_u16());
        self
    }

    /// One line: what failed, with the URL but for its secrets.
    pub fn message(&self) -> String {
        if self.url.is_empty() { "cannot fetch from the source".into() } else { format!("cannot fetch {}", self.url) }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            SourceErrorKind::Connect
            | SourceErrorKind::Reset
            | SourceErrorKind::Timeout
            | SourceErrorKind::Truncated => true,
            SourceErrorKind::Status => matches!(self.http_status, Some(429 | 500 | 502 | 503 | 504)),
            _ => false,
        }
    }

    /// What a user can do about it.
    fn hint(&self) -> Option<String> {
        let text = match (self.kind, self.http_status) {
            (SourceErrorKind::Usage, _) => return None,
            (SourceErrorKind::Blocked, _) => {
                "requests from the network may not reach this address; an operator can allow it in the egress rules"
            }
            (SourceErrorKind::Connect, _) => "check the host name, the port and the proxy settings",
            (SourceErrorKind::Reset | SourceErrorKind::Truncated, _) => "try again; what was received is kept",
            (SourceErrorKind::Tls, _) => {
                "check the clock and the certificate; a private authority can be added as an extra CA file"
            }
            (SourceErrorKind::Timeout, _) => "the source is slow or hangs; try again later",
            (SourceErrorKind::Auth, Some(407)) => "put the proxy's user and password into the proxy URL",
            (SourceErrorKind::Auth, _) => "check the credentials sent as headers or in the URL",
            (SourceErrorKind::Status, Some(404 | 410)) => "check the URL",
            (SourceErrorKind::Status, Some(429)) => "the source limits its clients; try again later",
            (SourceErrorKind::Status, Some(500..)) => "the source has a fault of its own; try again later",
            (SourceErrorKind::Status, _) => "check the URL and the headers",
            (SourceErrorKind::Range, _) => "the content is shorter than the range asked for",
            (SourceErrorKind::Changed, _) => "the content was replaced at the source; start the download afresh",
            (SourceErrorKind::Protocol, _) => "the source, or something between, does not keep to HTTP",
        };
        Some(match self.retry_after {
            Some(pause) => format!("the source asks to wait {} s before the next try", pause.as_secs()),
            None => text.into(),
        })
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message(), self.cause)
    }
}

impl std::error::Error for SourceError {}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let code = match error.kind {
            SourceErrorKind::Usage => Code::Usage,
            SourceErrorKind::Blocked => Code::Blocked,
            SourceErrorKind::Connect | SourceErrorKind::Reset => Code::Network,
            SourceErrorKind::Tls => Code::Tls,
            SourceErrorKind::Timeout => Code::Timeout,
            SourceErrorKind::Auth => Code::Auth,
            SourceErrorKind::Status => Code::OriginStatus,
            SourceErrorKind::Range
            | SourceErrorKind::Changed
            | SourceErrorKind::Truncated
            | SourceErrorKind::Protocol => Code::Protocol,
        };
        let mut failure = Self::new(code, error.message()).because(&error.cause);
        failure.hint = error.hint();
        failure.http_status = error.http_status;
        failure
    }
}

/// A URL as messages show it: without user, password, fragment and the values of its query.
pub(super) fn redacted(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = if url.query().is_some() { "?…" } else { "" };
    let mut path = url.path();
    let mut cut = "";
    if path.len() > URL_SHOWN_LIMIT {
        // A parsed URL is ASCII, yet nothing is lost by not relying on it.
        path = path.get(..URL_SHOWN_LIMIT).unwrap_or_default();
        cut = "…";
    }
    format!("{}://{host}{port}{path}{cut}{query}", url.scheme())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_url_without_its_secrets() {
        let url = Url::parse("https://me:secret@h:8443/a/b?X-Amz-Signature=secret#secret").unwrap();
        let error = SourceError::new(SourceErrorKind::Status, "the source answered 404 Not Found")
            .at(&url)
            .status(StatusCode::NOT_FOUND);
        assert_eq!(error.to_string(), "cannot fetch https://h:8443/a/b?…: the source answered 404 Not Found");
        assert!(!format!("{error:?}").contains("secret"));
        let failure = Failure::from(error);
        assert_eq!((failure.code, failure.http_status), (Code::OriginStatus, Some(404)));
        assert_eq!(failure.hint.as_deref(), Some("check the URL"));
        assert!(redacted(&Url::parse(&format!("http://h/{}", "x".repeat(9000))).unwrap()).len() < 400);
    }

    #[test]
    fn each_kind_has_its_code() {
        let table = [
            (SourceErrorKind::Usage, Code::Usage),
            (SourceErrorKind::Blocked, Code::Blocked),
            (SourceErrorKind::Connect, Code::Network),
            (SourceErrorKind::Reset, Code::Network),
            (SourceErrorKind::Tls, Code::Tls),
            (SourceErrorKind::Timeout, Code::Timeout),
            (SourceErrorKind::Auth, Code::Auth),
            (SourceErrorKind::Status, Code::OriginStatus),
            (SourceErrorKind::Range, Code::Protocol),
            (SourceErrorKind::Changed, Code::Protocol),
            (SourceErrorKind::Truncated, Code::Protocol),
            (SourceErrorKind::Protocol, Code::Protocol),
        ];
        for (kind, code) in table {
            assert_eq!(Failure::from(SourceError::new(kind, "x")).code, code, "{kind:?}");
        }
    }
}

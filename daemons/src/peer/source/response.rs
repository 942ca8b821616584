//! What a source answers: its head read strictly, its body counted.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use df_core::planted::{Bug, is_planted};
use http::header::{self, HeaderMap, HeaderName};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use url::Url;

use super::error::{SourceError, SourceErrorKind, redacted};
use super::request::SourceRange;

/// Longest validator (ETag or Last-Modified) that is believed, in bytes.
const VALIDATOR_LEN_LIMIT: usize = 512;

/// What tells one version of a content from another.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Version {
    /// Length of the whole content in bytes.
    pub content_len: Option<u64>,
    /// The ETag as the source wrote it, quotes and `W/` included.
    pub etag: Option<String>,
    /// The Last-Modified date as the source wrote it.
    pub last_modified: Option<String>,
}

impl Version {
    /// The ETag if it vouches for every byte (RFC 9110, 8.8.3).
    pub fn strong_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|tag| !tag.starts_with("W/"))
    }

    /// A hash of the validators, by which hosts tell versions apart; 0 without any.
    pub fn hash(&self) -> u64 {
        if (self.etag.is_none() && self.last_modified.is_none()) || is_planted(Bug::VersionIgnored) {
            return 0;
        }
        let mut hash = blake3::Hasher::new();
        for part in [&self.etag, &self.last_modified] {
            let text = part.as_deref().unwrap_or_default();
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash.finalize().as_bytes()[..8]);
        u64::from_le_bytes(bytes).max(1)
    }

    /// Whether a change of the content would show even if its length stayed the same.
    pub fn is_verifiable(&self) -> bool {
        self.strong_etag().is_some() || self.last_modified.is_some()
    }

    /// How `now` shows that it is another version, if it does. A validator that was there and is
    /// gone counts as a change if nothing else vouches for the bytes.
    fn contradiction(&self, now: &Self) -> Option<String> {
        if let (Some(was), Some(is)) = (self.content_len, now.content_len)
            && was != is
        {
            return Some(format!("it is {is} bytes long now, not {was}"));
        }
        match (self.strong_etag(), now.strong_etag()) {
            (Some(was), Some(is)) if was != is => return Some(format!("its ETag is {is:?} now, not {was:?}")),
            (Some(was), None) => return Some(format!("it has no strong ETag any more, it was {was:?}")),
            _ => {}
        }
        match (&self.last_modified, &now.last_modified) {
            (Some(was), Some(is)) if was != is => Some(format!("it was modified {is:?}, not {was:?}")),
            (Some(was), None) if self.strong_etag().is_none() => {
                Some(format!("it has no date of modification any more, it was {was:?}"))
            }
            _ => None,
        }
    }

    fn of(headers: &HeaderMap, content_len: Option<u64>) -> Self {
        let validator = |name: HeaderName| {
            let text = headers.get(name)?.to_str().ok()?;
            (!text.is_empty() && text.len() <= VALIDATOR_LEN_LIMIT).then(|| text.to_owned())
        };
        Self { content_len, etag: validator(header::ETAG), last_modified: validator(header::LAST_MODIFIED) }
    }
}

/// The bytes a source sends, and what it said about them.
pub struct SourceResponse {
    /// The version the bytes belong to, as far as the source tells.
    pub version: Version,
    /// Whether parts of the content can be asked for. A source may know ranges without saying so:
    /// only an answer to a range proves it.
    pub accepts_ranges: bool,
    /// Offset in the content of the body's first byte: 0 when the source ignored the range, so
    /// that the caller has to skip.
    pub start: u64,
    /// Bytes in the body, if known.
    pub len: Option<u64>,
    /// Where the content was found after all redirects, without user and password; its query may
    /// be a secret.
    pub url: Url,
    incoming: Incoming,
    received: u64,
    /// Whether `len` is only what the pinned version promised.
    len_is_pinned: bool,
    stall_limit: Duration,
    is_over: bool,
}

impl fmt::Debug for SourceResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceResponse")
            .field("url", &redacted(&self.url))
            .field("version", &self.version)
            .field("accepts_ranges", &self.accepts_ranges)
            .field("start", &self.start)
            .field("len", &self.len)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl SourceResponse {
    /// Reads the head of an answer to a request for `range` in the version `pinned`.
    pub(super) fn new(
        response: Response<Incoming>,
        url: Url,
        range: Option<SourceRange>,
        pinned: Option<&Version>,
        stall_limit: Duration,
    ) -> Result<Self, SourceError> {
        let (parts, incoming) = response.into_parts();
        let body_len = incoming.size_hint().exact();
        let head = Head::read(parts.status, &parts.headers, body_len, range, pinned).map_err(|error| error.at(&url))?;
        Ok(Self {
            len_is_pinned: head.len.is_none(),
            len: head.len.or(head.version.content_len.map(|total| total.saturating_sub(head.start))),
            version: head.version,
            accepts_ranges: head.accepts_ranges,
            start: head.start,
            url,
            incoming,
            received: 0,
            stall_limit,
            is_over: head.len == Some(0),
        })
    }

    /// The next bytes of the body, none at its end. Never an empty chunk. A call that is dropped
    /// before it ends loses nothing.
    ///
    /// # Errors
    /// [`SourceErrorKind::Timeout`] if nothing came for the stall limit, [`SourceErrorKind::Reset`]
    /// if the connection broke, [`SourceErrorKind::Truncated`] if the body ended early, and
    /// [`SourceErrorKind::Changed`] or [`SourceErrorKind::Protocol`] if it is too long. After an
    /// error there are no more bytes.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        if self.is_over {
            return Ok(None);
        }
        let next = self.next_chunk().await;
        self.is_over = !matches!(next, Ok(Some(_)));
        next.map_err(|error| error.at(&self.url))
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            let frame = match tokio::time::timeout(self.stall_limit, self.incoming.frame()).await {
                Ok(Some(frame)) => frame.map_err(|error| self.broken(&error))?,
                Ok(None) => return self.end(),
                Err(_) => {
                    let cause = format!("no byte came for {:?}, after {} bytes", self.stall_limit, self.received);
                    return Err(SourceError::new(SourceErrorKind::Timeout, cause));
                }
            };
            // Trailers tell nothing that the head did not.
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            self.received = self.received.saturating_add(data.len() as u64);
            if let Some(len) = self.len
                && self.received > len
            {
                let kind = if self.len_is_pinned { SourceErrorKind::Changed } else { SourceErrorKind::Protocol };
                return Err(SourceError::new(kind, format!("the source sent more than the {len} bytes expected")));
            }
            return Ok(Some(data));
        }
    }

    fn end(&self) -> Result<Option<Bytes>, SourceError> {
        match self.len {
            Some(len) if self.received < len => Err(self.truncated()),
            _ => Ok(None),
        }
    }

    fn truncated(&self) -> SourceError {
        let promised = self.len.map(|len| format!(" of {len}")).unwrap_or_default();
        let cause = format!("the body ended after {}{promised} bytes", self.received);
        SourceError::new(SourceErrorKind::Truncated, cause)
    }

    fn broken(&self, error: &hyper::Error) -> SourceError {
        let io_kind = std::error::Error::source(error)
            .and_then(|cause| cause.downcast_ref::<std::io::Error>())
            .map(std::io::Error::kind);
        match io_kind {
            Some(std::io::ErrorKind::UnexpectedEof) => self.truncated(),
            Some(std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput) => {
                SourceError::new(SourceErrorKind::Protocol, "the body's framing is malformed")
            }
            _ => {
                let cause = format!("the connection broke after {} bytes of the body", self.received);
                SourceError::new(SourceErrorKind::Reset, cause)
            }
        }
    }
}

/// Why a status is no answer to work with, if it is none.
pub(super) fn refusal(status: StatusCode, is_pinned: bool) -> Option<SourceError> {
    let kind = match status.as_u16() {
        200 | 203 | 206 | 301 | 302 | 303 | 307 | 308 | 416 => return None,
        401 | 403 | 407 => SourceErrorKind::Auth,
        // Only a pinned request has a condition that can fail.
        412 if is_pinned => SourceErrorKind::Changed,
        _ => SourceErrorKind::Status,
    };
    let reason = status.canonical_reason().map(|reason| format!(" {reason}")).unwrap_or_default();
    Some(SourceError::new(kind, format!("the source answered {}{reason}", status.as_str())).status(status))
}

/// What the head of an answer says about the body.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Head {
    version: Version,
    accepts_ranges: bool,
    start: u64,
    /// Bytes of the body, if the head tells.
    len: Option<u64>,
}

impl Head {
    fn read(
        status: StatusCode,
        headers: &HeaderMap,
        body_len: Option<u64>,
        range: Option<SourceRange>,
        pinned: Option<&Version>,
    ) -> Result<Self, SourceError> {
        let mut head = match (status, range) {
            (StatusCode::PARTIAL_CONTENT, Some(range)) => Self::partial(headers, body_len, range)?,
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(range)) => return Self::past_the_end(headers, range, pinned),
            (StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION, range) => Self {
                version: Version::of(headers, body_len),
                accepts_ranges: range.is_none() && says_bytes(headers),
                start: 0,
                len: body_len,
            },
            (status, _) => {
                let cause = format!("the source answered {} to a request without a range", status.as_str());
                return Err(SourceError::new(SourceErrorKind::Protocol, cause).status(status));
            }
        };
        if let Some(pinned) = pinned {
            if let Some(how) = pinned.contradiction(&head.version) {
                return Err(SourceError::new(SourceErrorKind::Changed, format!("the content changed: {how}")));
            }
            head.version.content_len = head.version.content_len.or(pinned.content_len);
        }
        let end = head.len.map(|len| head.start.saturating_add(len));
        if let (Some(end), Some(total)) = (end, head.version.content_len)
            && end > total
        {
            let cause = format!("the content changed: it has a byte {} now, beyond {total} bytes", end - 1);
            return Err(SourceError::new(SourceErrorKind::Changed, cause));
        }
        Ok(head)
    }

    /// 206: exactly the range that was asked for, cut only by the end of the content.
    fn partial(headers: &HeaderMap, body_len: Option<u64>, range: SourceRange) -> Result<Self, SourceError> {
        let protocol = |cause: String| SourceError::new(SourceErrorKind::Protocol, cause);
        if header_text(headers, header::CONTENT_TYPE)
            .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("multipart/byteranges"))
        {
            return Err(protocol("the source answered several parts to one range".into()));
        }
        let text = header_text(headers, header::CONTENT_RANGE)
            .ok_or_else(|| protocol("the source answered 206 without one Content-Range".into()))?;
        let Some(ContentRange { bytes: Some((first, last)), total }) = ContentRange::parse(text) else {
            return Err(protocol(format!("the Content-Range {} is malformed", shown(text))));
        };
        let is_whole = match (range.last(), total) {
            (Some(asked), _) if last == asked => true,
            (Some(asked), _) if last > asked => false,
            (_, Some(total)) => last == total - 1,
            // Nothing tells where the content ends: it may be there.
            (_, None) => true,
        };
        if first != range.first() || !is_whole {
            return Err(protocol(format!("the Content-Range {} is not the range {range} asked for", shown(text))));
        }
        let len = last - first + 1;
        if let Some(body_len) = body_len
            && body_len != len
        {
            return Err(protocol(format!("{body_len} bytes of body contradict the Content-Range {}", shown(text))));
        }
        Ok(Self { version: Version::of(headers, total), accepts_ranges: true, start: first, len: Some(len) })
    }

    /// 416: no bytes there. Right behind the last byte that is a fine answer with nothing in it,
    /// as whoever resumes a complete download finds out.
    fn past_the_end(headers: &HeaderMap, range: SourceRange, pinned: Option<&Version>) -> Result<Self, SourceError> {
        let total = header_text(headers, header::CONTENT_RANGE).and_then(ContentRange::parse).and_then(|r| r.total);
        if let (Some(was), Some(is)) = (pinned.and_then(|pinned| pinned.content_len), total)
            && was != is
        {
            let cause = format!("the content changed: it is {is} bytes long now, not {was}");
            return Err(SourceError::new(SourceErrorKind::Changed, cause));
        }
        if total == Some(range.first()) {
            // The head describes an error page: only the length is about the content.
            let version = pinned.cloned().unwrap_or_default();
            let version = Version { content_len: total, ..version };
            return Ok(Self { version, accepts_ranges: true, start: range.first(), len: Some(0) });
        }
        let total = total.map(|total| format!(", the content has {total} bytes")).unwrap_or_default();
        Err(SourceError::new(SourceErrorKind::Range, format!("the source has no {range}{total}"))
            .status(StatusCode::RANGE_NOT_SATISFIABLE))
    }
}

/// A Content-Range (RFC 9110, 14.4): the bytes that are there, none for 416, and the whole length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ContentRange {
    bytes: Option<(u64, u64)>,
    total: Option<u64>,
}

impl ContentRange {
    /// Reads `bytes 0-9/100`, `bytes 0-9/*` or `bytes */100` if it makes sense.
    fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.trim().split_once(' ')?;
        let (bytes, total) = rest.trim().split_once('/')?;
        let bytes = match bytes {
            "*" => None,
            pair => {
                let (first, last) = pair.split_once('-')?;
                Some((number(first)?, number(last)?))
            }
        };
        let total = if total == "*" { None } else { Some(number(total)?) };
        let makes_sense = match (bytes, total) {
            (Some((first, last)), Some(total)) => first <= last && last < total,
            // The length, last - first + 1, has to be a number.
            (Some((first, last)), None) => first <= last && last < u64::MAX,
            (None, total) => total.is_some(),
        };
        (unit.eq_ignore_ascii_case("bytes") && makes_sense).then_some(Self { bytes, total })
    }
}

/// A number of digits alone: `str::parse` would take a sign.
pub(super) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The value of a header that is there exactly once and is text.
fn header_text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

fn says_bytes(headers: &HeaderMap) -> bool {
    header_text(headers, header::ACCEPT_RANGES)
        .is_some_and(|units| units.split(',').any(|unit| unit.trim().eq_ignore_ascii_case("bytes")))
}

/// A header's value as a message shows it.
fn shown(text: &str) -> String {
    text.chars().take(80).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests;

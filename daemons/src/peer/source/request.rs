//! What is asked of a source, checked before anything is sent.

use std::fmt;

use base64::Engine;
use df_core::piece::plan::ByteRange;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::egress::Trust;
use super::error::{SourceError, SourceErrorKind, redacted};
use super::response::Version;

/// Longest URL, in bytes. Signed URLs of object stores stay below 4 KiB.
const URL_LEN_LIMIT: usize = 16 << 10;

/// Most headers a caller may add.
const HEADER_COUNT_LIMIT: usize = 64;

/// Most bytes of all headers a caller may add.
const HEADER_BYTES_LIMIT: usize = 32 << 10;

/// Headers that are ours to send or that speak about one connection (RFC 9110, 7.6.1). A caller
/// who sets them would change what an answer means, or where one request ends and the next begins.
const REFUSED_HEADERS: [HeaderName; 20] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Parts of the names of headers that carry secrets: they stay with the origin they were meant for.
const SECRET_NAME_PARTS: [&str; 9] =
    ["auth", "cookie", "token", "secret", "key", "passw", "credential", "session", "signature"];

/// Bytes of the content: from `first` to `last`, both included, or to the content's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceRange {
    first: u64,
    last: Option<u64>,
}

impl SourceRange {
    /// Everything from the byte at offset `first` on.
    pub const fn starting_at(first: u64) -> Self {
        Self { first, last: None }
    }

    /// From the byte at offset `first` to the one at `last`, both included; none if `last` comes
    /// before `first`.
    pub const fn between(first: u64, last: u64) -> Option<Self> {
        if last < first { None } else { Some(Self { first, last: Some(last) }) }
    }

    /// The bytes of a piece or of several; none if there are none, for HTTP cannot ask for nothing.
    pub fn of(range: ByteRange) -> Option<Self> {
        let last = range.start.checked_add(range.len.checked_sub(1)?)?;
        Self::between(range.start, last)
    }

    /// Offset of the first byte.
    pub const fn first(self) -> u64 {
        self.first
    }

    /// Offset of the last byte, none for the content's end.
    pub const fn last(self) -> Option<u64> {
        self.last
    }
}

impl fmt::Display for SourceRange {
    /// As the value of a Range header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes={}-", self.first)?;
        self.last.iter().try_for_each(|last| write!(f, "{last}"))
    }
}

/// One request to a source. Unless told otherwise it asks for the whole content, in whatever
/// version, on behalf of the network, and insists on valid certificates.
#[derive(Clone)]
pub struct SourceRequest {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) range: Option<SourceRange>,
    pub(super) pinned: Option<Version>,
    pub(super) trust: Trust,
    pub(super) insecure: bool,
}

impl SourceRequest {
    /// A request for what is at `url`, with the headers its user gave. A user and password in the
    /// URL become an Authorization header (unless one was given) and leave the URL.
    ///
    /// # Errors
    /// [`SourceErrorKind::Usage`] for a URL that is malformed, too long or neither http nor https,
    /// and for headers that are malformed, too many, or not the user's to set.
    pub fn new(url: &str, headers: &[(String, String)]) -> Result<Self, SourceError> {
        let mut url = source_url(url)?;
        let mut headers = checked_headers(headers).map_err(|error| error.at(&url))?;
        if let Some(basic) = basic_auth(&url)
            && !headers.contains_key(header::AUTHORIZATION)
        {
            headers.insert(header::AUTHORIZATION, basic);
        }
        strip(&mut url);
        Ok(Self { url, headers, range: None, pinned: None, trust: Trust::Network, insecure: false })
    }

    /// Asks for some bytes instead of all.
    #[must_use]
    pub fn range(mut self, range: SourceRange) -> Self {
        self.range = Some(range);
        self
    }

    /// Accepts no other version of the content than this.
    #[must_use]
    pub fn pinned(mut self, version: Version) -> Self {
        self.pinned = Some(version);
        self
    }

    /// On whose behalf: [`Trust::Local`] lifts the egress rules.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Accepts any certificate.
    #[must_use]
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// What is asked for, without user and password; its query may be a secret.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Debug for SourceRequest {
    /// Shows the names of headers, not their values, and no query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceRequest")
            .field("url", &redacted(&self.url))
            .field("headers", &self.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>())
            .field("range", &self.range)
            .field("pinned", &self.pinned)
            .field("trust", &self.trust)
            .field("insecure", &self.insecure)
            .finish()
    }
}

/// Whether a header stays with the origin it was meant for when a redirect leads elsewhere. `Host`
/// carries no secret, but names the first origin.
pub(super) fn stays_behind(name: &HeaderName) -> bool {
    *name == header::HOST || is_secret(name)
}

fn is_secret(name: &HeaderName) -> bool {
    SECRET_NAME_PARTS.iter().any(|part| name.as_str().contains(part))
}

/// Parses a URL of a scheme that this client speaks.
pub(super) fn source_url(text: &str) -> Result<Url, SourceError> {
    if text.len() > URL_LEN_LIMIT {
        return Err(usage(format!("the URL is longer than {URL_LEN_LIMIT} bytes")));
    }
    let url = Url::parse(text).map_err(|why| usage(format!("the URL is not valid: {why}")))?;
    check_scheme(&url)?;
    Ok(url)
}

/// Refuses schemes that this client does not speak.
pub(super) fn check_scheme(url: &Url) -> Result<(), SourceError> {
    if matches!(url.scheme(), "http" | "https") {
        return Ok(());
    }
    Err(usage(format!("the scheme {:?} is not supported here, only http and https are", url.scheme())))
}

/// Takes the parts out of a URL that are not sent as part of it.
pub(super) fn strip(url: &mut Url) {
    url.set_fragment(None);
    // Both fail only for URLs without a host, which http and https do not have.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

fn checked_headers(given: &[(String, String)]) -> Result<HeaderMap, SourceError> {
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if given.len() > HEADER_COUNT_LIMIT || bytes > HEADER_BYTES_LIMIT {
        return Err(usage(format!("more than {HEADER_COUNT_LIMIT} headers or {HEADER_BYTES_LIMIT} bytes of headers")));
    }
    let mut headers = HeaderMap::with_capacity(given.len());
    for (number, (name, value)) in (1..).zip(given) {
        let name: HeaderName =
            name.trim().parse().map_err(|_| usage(format!("the name of header {number} is not valid")))?;
        if REFUSED_HEADERS.contains(&name) {
            return Err(usage(format!("the header {name} is not the caller's to set")));
        }
        let mut value = HeaderValue::from_bytes(value.trim().as_bytes())
            .map_err(|_| usage(format!("the value of the header {name} is not valid")))?;
        value.set_sensitive(is_secret(&name));
        headers.append(name, value);
    }
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err(usage("more than one Host header"));
    }
    Ok(headers)
}

fn usage(cause: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Usage, cause)
}

/// The user and password of a URL as Basic credentials (RFC 7617).
fn basic_auth(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair = percent_decoded(url.username());
    pair.push(b':');
    pair.extend(percent_decoded(url.password().unwrap_or_default()));
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Undoes percent-encoding (RFC 3986, 2.1); a `%` that starts no escape stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let hex = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        decoded.push(match after {
            [high, low, tail @ ..] if byte == b'%' => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = tail;
                    high << 4 | low
                }
                _ => byte,
            },
            _ => byte,
        });
    }
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_headers(headers: &[(&str, &str)]) -> Result<SourceRequest, SourceError> {
        let owned: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        SourceRequest::new("http://h/", &owned)
    }

    #[test]
    fn user_and_password_leave_the_url_and_become_basic_credentials() {
        let request = SourceRequest::new("https://Aladdin:open%20sesame@h/f?q=1#part", &[]).unwrap();
        assert_eq!(request.url.as_str(), "https://h/f?q=1");
        assert_eq!(request.headers[header::AUTHORIZATION], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let debug = format!("{request:?}");
        assert!(!debug.contains("sesame") && !debug.contains("QWxh") && !debug.contains("q=1"), "{debug}");

        let own = [("authorization".to_string(), "Bearer x".to_string())];
        let request = SourceRequest::new("https://a:b@h/", &own).unwrap();
        assert_eq!(request.headers.get_all(header::AUTHORIZATION).iter().collect::<Vec<_>>(), ["Bearer x"]);
    }

    #[test]
    fn urls_that_are_not_http_are_refused_with_what_is_supported() {
        for url in ["ftp://h/f", "file:///etc/passwd", "gopher://h", "s3://bucket/key", "data:,x"] {
            let error = SourceRequest::new(url, &[]).unwrap_err();
            assert_eq!(error.kind, SourceErrorKind::Usage);
            assert!(error.cause.contains("only http and https"), "{error}");
        }
        let long = format!("http://h/{}", "x".repeat(URL_LEN_LIMIT));
        for url in ["", "h/f", "http://", "http://[::1", "http://h:99999/", "http://a b/", &long] {
            assert_eq!(SourceRequest::new(url, &[]).unwrap_err().kind, SourceErrorKind::Usage, "{url:?}");
        }
    }

    #[test]
    fn odd_spellings_of_an_address_are_read_as_the_address() {
        for url in
            ["http://2130706433/", "http://0x7f.1/", "http://017700000001/", "http://127.1/", "http://127.0.0.1./"]
        {
            assert_eq!(SourceRequest::new(url, &[]).unwrap().url.host_str(), Some("127.0.0.1"), "{url}");
        }
    }

    #[test]
    fn headers_that_are_not_the_callers_are_refused() {
        for name in ["Range", "if-range", "If-Match", "accept-encoding", "Connection", "Content-Length", "TE"] {
            let error = with_headers(&[(name, "x")]).unwrap_err();
            assert!(error.cause.contains(&name.to_lowercase()), "{error}");
        }
        assert!(with_headers(&[("Host", "a"), ("User-Agent", "x"), ("X-Own", "y"), ("x-own", "z")]).is_ok());
        assert!(with_headers(&[("Host", "a"), ("host", "b")]).is_err());
    }

    #[test]
    fn headers_cannot_inject_other_headers() {
        let bad =
            [("a", "x\r\nb: y"), ("a", "x\ny"), ("a\r\nb", "x"), ("a:b", "x"), ("", "x"), ("a b", "x"), ("a", "\0")];
        for (name, value) in bad {
            assert_eq!(with_headers(&[(name, value)]).unwrap_err().kind, SourceErrorKind::Usage, "{name:?}: {value:?}");
        }
        let padded = with_headers(&[(" a ", " x\r\n")]).unwrap();
        assert_eq!(padded.headers["a"], "x");
        assert!(with_headers(&[("a", "x"); HEADER_COUNT_LIMIT + 1]).is_err());
        assert!(with_headers(&[("a", &"x".repeat(HEADER_BYTES_LIMIT))]).is_err());
    }

    #[test]
    fn a_refused_secret_is_not_repeated() {
        let error = with_headers(&[("Authorization", "Bearer s3cr3t\r\n\r\nx")]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cr3t"));
    }

    #[test]
    fn secret_headers_are_told_by_their_names() {
        let stays = |name: &str| stays_behind(&name.parse().unwrap());
        for name in ["Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "Private-Token", "X-Auth", "Host"] {
            assert!(stays(name), "{name}");
        }
        for name in ["Accept", "User-Agent", "X-Trace", "Accept-Language"] {
            assert!(!stays(name), "{name}");
        }
    }

    #[test]
    fn values_of_secret_headers_are_marked_as_such() {
        let request = with_headers(&[("X-Api-Key", "x"), ("X-Trace", "x")]).unwrap();
        assert!(request.headers["x-api-key"].is_sensitive() && !request.headers["x-trace"].is_sensitive());
    }

    #[test]
    fn percent_signs_that_start_no_escape_stand_for_themselves() {
        for (text, decoded) in [("a%20b", "a b"), ("%", "%"), ("%2", "%2"), ("%zz", "%zz"), ("%25%32", "%2"), ("", "")]
        {
            assert_eq!(percent_decoded(text), decoded.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn ranges_name_their_first_and_last_byte() {
        let of = |start, len| SourceRange::of(ByteRange { start, len }).map(|range| range.to_string());
        assert_eq!(of(0, 1).as_deref(), Some("bytes=0-0"));
        assert_eq!(of(10, 5).as_deref(), Some("bytes=10-14"));
        assert_eq!(of(10, 0), None);
        assert_eq!(of(u64::MAX, 1), Some(format!("bytes={0}-{0}", u64::MAX)));
        assert_eq!(of(u64::MAX, 2), None);
        assert_eq!(SourceRange::starting_at(7).to_string(), "bytes=7-");
        assert_eq!(SourceRange::between(2, 1), None);
    }

    proptest! {
        #[test]
        fn any_url_and_header_is_refused_or_safe(url: String, name: String, value: String) {
            for url in [url.clone(), format!("http://{url}"), format!("https://h/{url}")] {
                if let Ok(request) = SourceRequest::new(&url, &[(name.clone(), value.clone())]) {
                    prop_assert!(request.url.username().is_empty() && request.url.password().is_none());
                    for (_, value) in &request.headers {
                        prop_assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                    }
                }
            }
        }
    }
}

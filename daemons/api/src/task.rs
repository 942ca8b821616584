//! What is asked for, and the id that names it.

use df_core::id::TaskId;
use url::Url;

use crate::base::UrlMeta;
use crate::failure::{Code, Failure};

/// Longest URL accepted, in bytes.
pub const URL_LIMIT: usize = 16 * 1024;
/// Most request headers accepted.
pub const HEADER_LIMIT: usize = 128;
/// Most bytes of request headers accepted, names and values together.
pub const HEADER_BYTES_LIMIT: usize = 64 * 1024;
/// Longest tag, application, filter, range or digest accepted, in bytes.
pub const LABEL_LIMIT: usize = 4 * 1024;

/// A content somebody asks for, checked.
#[derive(Clone, PartialEq)]
pub struct TaskRequest {
    /// Where it is to be had.
    pub url: Url,
    /// What tells it apart from other contents of the same URL, and how to ask for it.
    pub meta: UrlMeta,
    /// Explicit piece length in bytes; 0 for the default rule.
    pub piece_len: u64,
    /// The name of a cached content: it has no source, and its URL is only for show.
    pub cid: Option<String>,
}

/// What may be done for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leave {
    /// Whether who asks may go to the source.
    pub may_fetch_source: bool,
    /// Whether a seed peer may be woken to.
    pub wakes_seeds: bool,
}

/// Algorithms of which a content id of the form `algorithm:hex` is checked against the bytes.
const CID_ALGORITHMS: [&str; 2] = ["sha256", "blake3"];

/// Hexadecimal digits of such a content id.
const CID_HEX_LEN: usize = 64;

/// Headers that identify the client, not the content.
const NEUTRAL_HEADERS: [&str; 1] = ["user-agent"];

/// The header that shows who asks.
const AUTHORIZATION: &str = "authorization";

impl TaskRequest {
    /// Checks a request's parts.
    ///
    /// # Errors
    /// [`Code::Usage`] with what is wrong.
    pub fn new(url: &str, meta: UrlMeta, piece_len: u64) -> Result<Self, Failure> {
        let usage = |message: String| Failure::new(Code::Usage, message);
        if url.len() > URL_LIMIT {
            return Err(usage(format!("the URL has {} bytes; at most {URL_LIMIT} are accepted", url.len())));
        }
        let url = Url::parse(url).map_err(|error| {
            usage(format!("{url:?} is not a URL")).because(error).hint("give it with its scheme, such as https://")
        })?;
        let bytes: usize = meta.header.iter().map(|(name, value)| name.len() + value.len()).sum();
        if meta.header.len() > HEADER_LIMIT || bytes > HEADER_BYTES_LIMIT {
            return Err(usage(format!("more than {HEADER_LIMIT} headers or {HEADER_BYTES_LIMIT} bytes of headers")));
        }
        let labels = [&meta.tag, &meta.application, &meta.filter, &meta.range, &meta.digest];
        if labels.iter().any(|label| label.len() > LABEL_LIMIT) {
            return Err(usage(format!(
                "a tag, application, filter, range or digest has more than {LABEL_LIMIT} bytes"
            )));
        }
        if piece_len > df_core::piece::plan::PIECE_LEN_LIMIT {
            return Err(usage(format!("a piece length of {piece_len} bytes is too long")));
        }
        Ok(Self { url, meta, piece_len, cid: None })
    }

    /// The content that was put into the cache under a name and a tag. A name that is a digest
    /// (`sha256:` or `blake3:` and 64 hexadecimal digits, in either case) is one that the bytes have
    /// to match; any other is opaque, and none is ever a path. The URL that Dragonfly v1's dfcache makes
    /// of a name (`d7y:/…`) stands for the name.
    ///
    /// # Errors
    /// [`Code::Usage`] for a name or a tag that is empty, too long or not printable.
    pub fn cached(cid: &str, tag: &str) -> Result<Self, Failure> {
        let usage = |message: String| Failure::new(Code::Usage, message);
        let named = crate::v1::cid_of(cid);
        let cid = named.as_deref().unwrap_or(cid);
        if cid.is_empty() {
            return Err(usage("the content id is empty".to_owned()));
        }
        for (what, label) in [("content id", cid), ("tag", tag)] {
            if label.len() > LABEL_LIMIT {
                return Err(usage(format!("the {what} has {} bytes; at most {LABEL_LIMIT} are accepted", label.len())));
            }
            if label.chars().any(char::is_control) {
                return Err(usage(format!("the {what} has a character that is not printable")));
            }
        }
        let digest = cid_digest(cid);
        let cid = digest.clone().unwrap_or_else(|| cid.to_owned());
        // Dragonfly's own form; dots too, or a URL would take them for steps in a path.
        let shown: String = url::form_urlencoded::byte_serialize(cid.as_bytes()).collect();
        let url = Url::parse(&format!("d7y:/{}", shown.replace('.', "%2E")));
        let url = url.map_err(|error| usage(format!("the content id makes no URL: {error}")))?;
        let meta = UrlMeta { tag: tag.to_owned(), digest: digest.unwrap_or_default(), ..UrlMeta::default() };
        Ok(Self { url, meta, piece_len: 0, cid: Some(cid) })
    }

    /// What its priority lets be done for it. The levels are Dragonfly's: 1 is refused, 2 takes what other hosts
    /// have, 3 asks the source without the seed peers' help, all others have it.
    ///
    /// # Errors
    /// [`Code::Blocked`] for level 1, [`Code::Usage`] for one that there is not.
    pub fn leave(&self) -> Result<Leave, Failure> {
        match self.meta.priority {
            0 | 4..=6 => Ok(Leave { may_fetch_source: true, wakes_seeds: true }),
            3 => Ok(Leave { may_fetch_source: true, wakes_seeds: false }),
            2 => Ok(Leave { may_fetch_source: false, wakes_seeds: false }),
            1 => Err(Failure::new(Code::Blocked, "requests of priority 1 are not served")),
            other => Err(Failure::new(Code::Usage, format!("{other} is no priority")).hint("they go from 0 to 6")),
        }
    }

    /// How it is called where people see it: without secrets.
    pub fn shown(&self) -> String {
        self.cid.clone().unwrap_or_else(|| redacted(&self.url))
    }

    /// The task's native id. Of a cached content: BLAKE3 over a version label, the content id and the
    /// tag, each behind its length. Else BLAKE3 over all that identifies the content, each part behind its
    /// length (8 bytes, little-endian), so that no two different requests have the same id.
    ///
    /// The parts: a version label; the URL without user, fragment and filtered query parameters; the
    /// URL's user and password; tag; application; digest; range; piece length in decimal; then name
    /// and value of every header but `User-Agent`, sorted. Headers take part because what a source
    /// gives to one credential it must not give to another by way of a cache. Where a digest says what
    /// the content is, the value of `Authorization` does not, so that one who was given another token of
    /// the same registry finds it; a daemon hands it out only after the source has accepted the caller's
    /// (see [`TaskRequest::shares_credentials`]). That there is one does take part: who shows none meets
    /// nothing that was fetched with one.
    pub fn id(&self) -> TaskId {
        let mut hash = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        if let Some(cid) = &self.cid {
            part(b"damselfly cache 1");
            part(cid.as_bytes());
            part(self.meta.tag.as_bytes());
            return TaskId::from_bytes(*hash.finalize().as_bytes());
        }
        part(b"damselfly task 1");
        part(self.public_url().as_str().as_bytes());
        part(self.url.username().as_bytes());
        part(self.url.password().unwrap_or_default().as_bytes());
        part(self.meta.tag.as_bytes());
        part(self.meta.application.as_bytes());
        part(self.meta.digest.to_ascii_lowercase().as_bytes());
        part(self.meta.range.as_bytes());
        part(self.piece_len.to_string().as_bytes());
        let mut headers: Vec<(String, &String)> =
            self.meta.header.iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        headers.sort_unstable();
        for (name, value) in headers.iter().filter(|(name, _)| !NEUTRAL_HEADERS.contains(&name.as_str())) {
            part(name.as_bytes());
            part(if self.meta.digest.is_empty() || name != AUTHORIZATION { value.as_bytes() } else { b"" });
        }
        TaskId::from_bytes(*hash.finalize().as_bytes())
    }

    /// Whether those who show different credentials ask for one and the same task: then having it is not
    /// yet a reason to hand it out.
    pub fn shares_credentials(&self) -> bool {
        let has_token = || self.meta.header.keys().any(|name| name.eq_ignore_ascii_case(AUTHORIZATION));
        self.cid.is_none() && !self.meta.digest.is_empty() && has_token()
    }

    /// The URL without user, fragment and filtered query parameters.
    fn public_url(&self) -> Url {
        let mut url = self.url.clone();
        url.set_fragment(None);
        // These fail only for URLs that can have neither.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let filtered: Vec<&str> = self.meta.filter.split('&').filter(|name| !name.is_empty()).collect();
        if let (Some(query), false) = (self.url.query(), filtered.is_empty()) {
            let is_kept = |pair: &&str| !filtered.contains(&pair.split('=').next().unwrap_or_default());
            let kept: Vec<&str> = query.split('&').filter(is_kept).collect();
            url.set_query((!kept.is_empty()).then(|| kept.join("&")).as_deref());
        }
        url
    }
}

/// A content id that is a digest, in its canonical form.
fn cid_digest(cid: &str) -> Option<String> {
    let (algorithm, hex) = cid.split_once(':')?;
    let is_digest = CID_ALGORITHMS.contains(&algorithm)
        && hex.len() == CID_HEX_LEN
        && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_digest.then(|| cid.to_ascii_lowercase())
}

/// A URL as it may be shown and logged: without user, password, query and fragment.
pub fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    if shown.query().is_some() {
        shown.set_query(Some("…"));
    }
    let text = shown.to_string();
    if shown.query().is_some() { text.replace("%E2%80%A6", "…") } else { text }
}

impl std::fmt::Debug for TaskRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskRequest").field("url", &redacted(&self.url)).field("tag", &self.meta.tag).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str, change: impl FnOnce(&mut UrlMeta)) -> TaskRequest {
        let mut meta = UrlMeta::default();
        change(&mut meta);
        TaskRequest::new(url, meta, 0).unwrap()
    }

    fn id(url: &str, change: impl FnOnce(&mut UrlMeta)) -> TaskId {
        request(url, change).id()
    }

    /// Frozen, and computed once more outside: nodes of different versions have to agree.
    #[test]
    fn golden_id() {
        let id = id("http://origin.example:8080/a/b?x=1&y=2#z", |meta| meta.tag = "t".to_owned());
        assert_eq!(id.to_string(), "9c8afa23e2e4c2b8de3ed162b10d0a5d149ebdae7e0e1102640a64b0b4789224");
    }

    #[test]
    fn cached_contents_are_named_by_cid_and_tag_alone() {
        let id = |cid: &str, tag: &str| TaskRequest::cached(cid, tag).unwrap().id();
        // Frozen, and computed once more outside.
        assert_eq!(
            id("testid", "testtag").to_string(),
            "45d2ff2b3680222594908a8f1fbeaebe74cdc7bf266393c10069385a1dc1ec56"
        );
        let names = [("a", ""), ("a", "b"), ("ab", ""), ("b", "a"), ("..", ""), (".", ""), ("/", ""), ("../a", "")];
        for (at, (cid, tag)) in names.iter().enumerate() {
            assert!(names[at + 1..].iter().all(|(c, t)| id(cid, tag) != id(c, t)), "{cid} {tag}");
        }
        let hex = "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08";
        let upper = TaskRequest::cached(&format!("sha256:{hex}"), "").unwrap();
        assert_eq!(upper.id(), id(&format!("sha256:{}", hex.to_lowercase()), ""));
        assert_eq!(upper.meta.digest, format!("sha256:{}", hex.to_lowercase()));
        assert_eq!(id("d7y:/a+b", "t"), id("a b", "t"));
        for opaque in ["sha256:xxxxxx", "md5:25f9e794323b453885f5181f1b624d0b", "SHA256:9F"] {
            assert_eq!(TaskRequest::cached(opaque, "").unwrap().meta.digest, "", "{opaque}");
        }
    }

    #[test]
    fn bad_names_are_refused_and_odd_ones_are_not() {
        for cid in ["", "a\0b", "a\nb", &"x".repeat(LABEL_LIMIT + 1)] {
            assert_eq!(TaskRequest::cached(cid, "").unwrap_err().code, Code::Usage, "{cid:.20?}");
        }
        assert!(TaskRequest::cached("a", "t\0").is_err());
        for cid in ["../../etc/passwd", "/", "..", "größe 大", &"x".repeat(LABEL_LIMIT)] {
            assert_eq!(TaskRequest::cached(cid, "").unwrap().cid.as_deref(), Some(cid));
        }
    }

    #[test]
    fn what_tells_contents_apart_tells_ids_apart() {
        let url = "https://h/f?a=1";
        let ids = [
            id(url, |_| {}),
            id("https://h/f?a=2", |_| {}),
            id("http://h/f?a=1", |_| {}),
            id("https://u@h/f?a=1", |_| {}),
            id("https://u:p@h/f?a=1", |_| {}),
            id(url, |meta| meta.tag = "ab".to_owned()),
            id(url, |meta| meta.application = "ab".to_owned()),
            id(url, |meta| meta.digest = "ab".to_owned()),
            id(url, |meta| meta.range = "ab".to_owned()),
            id(url, |meta| (meta.tag, meta.application) = ("a".to_owned(), "b".to_owned())),
            id(url, |meta| drop(meta.header.insert("Authorization".to_owned(), "A".to_owned()))),
            id(url, |meta| drop(meta.header.insert("Authorization".to_owned(), "B".to_owned()))),
            TaskRequest::new(url, UrlMeta::default(), 1 << 20).unwrap().id(),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[at + 1..].contains(id), "{at}");
        }
    }

    #[test]
    fn what_does_not_matter_does_not_change_the_id() {
        let plain = id("https://h/f?a=1", |_| {});
        assert_eq!(id("https://h:443/f?a=1#part", |_| {}), plain);
        let agent = |meta: &mut UrlMeta| drop(meta.header.insert("user-AGENT".to_owned(), "x".to_owned()));
        assert_eq!(id("https://h/f?a=1", agent), plain);
        let filter = |meta: &mut UrlMeta| meta.filter = "sig&expires".to_owned();
        assert_eq!(id("https://h/f?sig=9&a=1&expires=3", filter), plain);
        assert_eq!(id("https://h/f?sig=9", filter), id("https://h/f", |_| {}));
    }

    #[test]
    fn a_digest_is_found_with_any_token_but_not_with_none() {
        let of = |digest: &str, headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            request("https://h/f", |meta| (meta.digest, meta.header) = (digest.to_owned(), headers))
        };
        let with = |digest: &str, token: &str| of(digest, &[("Authorization", token)]);
        assert_eq!(with("sha256:ab", "A").id(), with("sha256:ab", "B").id());
        assert_eq!(with("sha256:ab", "A").id(), of("sha256:ab", &[("AUTHORIZATION", "C")]).id());
        assert_ne!(with("sha256:ab", "A").id(), of("sha256:ab", &[]).id());
        assert_ne!(with("sha256:ab", "A").id(), with("sha256:cd", "A").id());
        assert_ne!(of("sha256:ab", &[("Cookie", "A")]).id(), of("sha256:ab", &[("Cookie", "B")]).id());
        assert!(with("sha256:ab", "A").shares_credentials());
        assert!(!with("", "A").shares_credentials() && !of("sha256:ab", &[]).shares_credentials());
    }

    #[test]
    fn bad_requests_are_refused() {
        for url in ["", "no-scheme", "http://", "http://h:99999/", &format!("http://h/{}", "x".repeat(URL_LIMIT))] {
            assert_eq!(TaskRequest::new(url, UrlMeta::default(), 0).unwrap_err().code, Code::Usage, "{url:.40}");
        }
        let long = UrlMeta { tag: "x".repeat(LABEL_LIMIT + 1), ..UrlMeta::default() };
        assert!(TaskRequest::new("http://h/", long, 0).is_err());
        assert!(TaskRequest::new("http://h/", UrlMeta::default(), u64::MAX).is_err());
        let header = (0..=HEADER_LIMIT).map(|n| (n.to_string(), String::new())).collect();
        assert!(TaskRequest::new("http://h/", UrlMeta { header, ..UrlMeta::default() }, 0).is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", request("https://user:pass@h/f?token=abc#frag", |_| {}));
        assert!(!["user:", "pass", "abc", "frag"].iter().any(|secret| shown.contains(secret)), "{shown}");
        assert_eq!(redacted(&Url::parse("http://h/f").unwrap()), "http://h/f");
    }
}

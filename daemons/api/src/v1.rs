//! What Dragonfly v1 says in its own way: ids, piece numbers that mean something else, codes.

use df_core::scheduler::{PieceFailure, TaskFailure};
use sha2::{Digest, Sha256};
use url::Url;
use url::form_urlencoded::byte_serialize;

use crate::base::{Code, UrlMeta};
use crate::convert::Malformed;

/// The piece number that begins a stream of reports.
pub const BEGIN_OF_PIECE: i32 = -1;

/// The piece number that ends it.
pub const END_OF_PIECE: i32 = 1 << 30;

/// Longest peer id accepted, in bytes.
const PEER_ID_LIMIT: usize = 256;

/// How a v1 peer is called: both parts are safe to put in a URL's path and query.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct V1Name {
    task: String,
    peer: String,
}

impl V1Name {
    /// A peer's name in a task.
    ///
    /// # Errors
    /// A task id that is not 64 hexadecimal digits; a peer id that is empty, too long or has other
    /// characters than ASCII letters, digits and `-_.:`.
    pub fn new(task: &str, peer: &str) -> Result<Self, Malformed> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if task.len() != 64 || !task.bytes().all(is_hex) {
            return Err(Malformed("task id that is not 64 lower-case hexadecimal digits".to_owned()));
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if peer.is_empty() || peer.len() > PEER_ID_LIMIT || !peer.bytes().all(is_plain) {
            return Err(Malformed("peer id that is empty, too long, or not letters, digits and -_.:".to_owned()));
        }
        Ok(Self { task: task.to_owned(), peer: peer.to_owned() })
    }

    /// The task's id.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// The peer's id.
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

/// A task's id as v1 clients compute it: SHA-256 of filtered URL, digest, range, tag and (in later
/// versions) application, one behind the other with nothing between, so that different requests may
/// share one. Good for talking to v1 clients and for nothing else.
pub fn task_id(url: &str, meta: &UrlMeta) -> String {
    let mut hash = Sha256::new();
    hash.update(filtered(url, &meta.filter));
    for part in [&meta.digest, &meta.range, &meta.tag, &meta.application] {
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The URL without filtered parameters, whose names v1 compares without case. With a filter the query
/// is sorted and encoded anew as Go does; without one not a byte changes.
fn filtered(url: &str, filter: &str) -> String {
    if filter.is_empty() {
        return url.to_owned();
    }
    let Ok(mut parsed) = Url::parse(url) else { return String::new() };
    let is_kept = |name: &str| !filter.split('&').any(|dropped| dropped.eq_ignore_ascii_case(name));
    let mut pairs: Vec<(String, String)> =
        parsed.query_pairs().into_owned().filter(|(name, _)| is_kept(name)).collect();
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    let query: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    parsed.set_query((!query.is_empty()).then(|| query.join("&")).as_deref());
    parsed.to_string()
}

/// Text in a query as Go writes it (`url.QueryEscape`).
fn escaped(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect::<String>().replace('*', "%2A").replace("%7E", "~")
}

/// What the URL of a cached content begins with.
const CACHE_PREFIX: &str = "d7y:/";

/// The URL v1's dfcache makes of a content id.
pub fn cache_url(cid: &str) -> String {
    format!("{CACHE_PREFIX}{}", escaped(cid))
}

/// The content id of such a URL; `None` for any other, and for one that v1 would not make.
pub fn cid_of(url: &str) -> Option<String> {
    let text = url.strip_prefix(CACHE_PREFIX)?;
    let decoded = url::form_urlencoded::parse(text.as_bytes()).next()?.0.into_owned();
    (escaped(&decoded) == text).then_some(decoded)
}

/// The id by which v1 clients know a cached content.
pub fn cache_task_id(cid: &str, tag: &str) -> String {
    task_id(&cache_url(cid), &UrlMeta { tag: tag.to_owned(), ..UrlMeta::default() })
}

/// What a report of a piece that did not come means.
pub const fn piece_failure(code: Code) -> PieceFailure {
    match code {
        Code::ClientPieceNotFound | Code::PeerTaskNotFound => PieceFailure::NotFound,
        Code::ClientContextCanceled | Code::ClientRequestLimitFail | Code::ClientBackSourceError => PieceFailure::Local,
        Code::ClientWaitPieceReady | Code::RequestTimeOut => PieceFailure::Stalled,
        _ => PieceFailure::Disconnected,
    }
}

/// How a v1 peer is told that it cannot go on.
pub const fn failure_code(why: TaskFailure) -> Code {
    match why {
        TaskFailure::Source => Code::CdnTaskRegistryFail,
        TaskFailure::SourceChanged => Code::SchedTaskStatusError,
        TaskFailure::NoSource => Code::PeerTaskNotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(digest: &str, tag: &str, filter: &str) -> UrlMeta {
        UrlMeta { digest: digest.to_owned(), tag: tag.to_owned(), filter: filter.to_owned(), ..UrlMeta::default() }
    }

    #[test]
    fn ids_are_hashes_of_the_parts_one_behind_the_other() {
        // printf 'http://h/f?b=1&a=2md5:xt' | sha256sum
        let id = task_id("http://h/f?b=1&a=2", &meta("md5:x", "t", ""));
        assert_eq!(id, "49f665a9f8cf2a731d1bbe497eca0158a86a47a580894f4a62c556fdf07e2085");
        assert_eq!(task_id("http://h/", &meta("a", "b", "")), task_id("http://h/", &meta("ab", "", "")));
    }

    #[test]
    fn a_filter_drops_names_in_any_case_and_sorts_the_rest() {
        assert_eq!(filtered("http://h/f?b=1&Sig=9&a=x%20y", "sig&time"), "http://h/f?a=x+y&b=1");
        assert_eq!(filtered("http://h/f?b=1&a=2", ""), "http://h/f?b=1&a=2");
        assert_eq!(filtered("http://h/f?sig=1", "sig"), "http://h/f");
        assert_eq!(filtered("no url", "sig"), "");
    }

    #[test]
    fn content_ids_become_urls_and_back() {
        for (cid, url) in [
            ("testid", "d7y:/testid"),
            ("sha256:xxxxxx", "d7y:/sha256%3Axxxxxx"),
            ("a b/../*~ü", "d7y:/a+b%2F..%2F%2A~%C3%BC"),
            ("=&%", "d7y:/%3D%26%25"),
        ] {
            assert_eq!((cache_url(cid).as_str(), cid_of(url).as_deref()), (url, Some(cid)));
        }
        for other in ["testid", "d7y:/", "d7y:/a/b", "d7y:/a%2f", "d7y:/%FF", "d7y:/a&b", "http://h/d7y:/x"] {
            assert_eq!(cid_of(other), None, "{other}");
        }
        // printf 'd7y:/testidtesttag' | sha256sum
        let id = "47a4e3c36a319b979b7fbf2b07dc312ccecbc6a22fb67f10b075914b653ea5f7";
        assert_eq!(cache_task_id("testid", "testtag"), id);
    }

    #[test]
    fn names_that_could_leave_their_place_in_a_url_are_refused() {
        let task = "a".repeat(64);
        assert!(V1Name::new(&task, "192.168.0.1-77-1b9d_Seed").is_ok());
        assert!(V1Name::new(&task, "fe80::1-77-1b9d").is_ok());
        for peer in ["", "a b", "a/b", "a?b", "a\r\nb", "é", &"x".repeat(PEER_ID_LIMIT + 1)] {
            assert!(V1Name::new(&task, peer).is_err(), "{peer:?}");
        }
        for task in ["", "abc", &"A".repeat(64), "../../../../etc/passwd"] {
            assert!(V1Name::new(task, "peer").is_err(), "{task:?}");
        }
    }
}

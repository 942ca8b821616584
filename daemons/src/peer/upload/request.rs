//! What a child asks for on the piece port: parsed strictly, refused with a 4xx.

use df_core::id::{PeerId, TaskId};
use df_core::piece::ByteRange;

/// Longest request head.
pub(super) const HEAD_LIMIT: usize = 8 * 1024;

/// Headers looked at.
const HEADER_LIMIT: usize = 64;

/// A request, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) target: Target,
    /// HEAD: the same answer without the body.
    pub(super) is_head: bool,
    pub(super) is_kept: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Health,
    Content {
        task: TaskId,
        /// The name this host has in the task, if it was called by one: a Dragonfly v1 child has no
        /// other id in common with it.
        name: Option<PeerId>,
        range: Option<Wanted>,
    },
}

/// A range of bytes as asked for: `first..=last`, or to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    first: u64,
    last: Option<u64>,
}

/// A refusal: status and a word why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refusal(pub(super) u16, pub(super) &'static str);

impl Wanted {
    /// The bytes meant in a content of this length; `None` if it has none of them.
    pub(super) fn within(self, content_len: Option<u64>) -> Option<ByteRange> {
        let last = match (self.last, content_len.map(|len| len.checked_sub(1))) {
            (_, Some(None)) | (None, None) => return None,
            (Some(last), Some(Some(end))) => last.min(end),
            (Some(last), None) => last,
            (None, Some(Some(end))) => end,
        };
        (self.first <= last).then(|| ByteRange { start: self.first, len: last - self.first + 1 })
    }
}

/// Parses a request head. `Ok(None)` while it is not all there; then the request and its length.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADER_LIMIT];
    let mut request = httparse::Request::new(&mut headers);
    let end = match request.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) if bytes.len() >= HEAD_LIMIT => return Err(Refusal(431, "head too long")),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal(431, "too many headers")),
        Err(_) => return Err(Refusal(400, "not HTTP/1.1")),
    };
    let is_head = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err(Refusal(405, "only GET and HEAD")),
    };
    let values = |name: &str| {
        let name = name.to_owned();
        request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(&name)).map(|header| header.value)
    };
    if values("transfer-encoding").next().is_some() || values("content-length").any(|value| value != b"0") {
        return Err(Refusal(400, "a body is not expected"));
    }
    let mut ranges = values("range");
    let range = match (ranges.next(), ranges.next()) {
        (None, _) => None,
        (Some(value), None) => Some(self::range(value)?),
        _ => return Err(Refusal(400, "more than one Range header")),
    };
    let is_kept = request.version == Some(1) && !values("connection").any(|v| v.eq_ignore_ascii_case(b"close"));
    let target = target(request.path.unwrap_or_default(), range)?;
    Ok(Some((Request { target, is_head, is_kept }, end)))
}

fn target(path: &str, range: Option<Wanted>) -> Result<Target, Refusal> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if matches!(path, "/healthy" | "/healthz" | "/") {
        return Ok(Target::Health);
    }
    let parts: Vec<&str> = path.split('/').collect();
    let ["", "download", prefix, id] = parts[..] else { return Err(Refusal(404, "no such path")) };
    let task: TaskId = id.parse().map_err(|_| Refusal(400, "not a task id"))?;
    if id.get(..3) != Some(prefix) {
        return Err(Refusal(400, "the prefix is not the id's"));
    }
    let name = query.split('&').find_map(|pair| pair.strip_prefix("peerId=")).and_then(|name| name.parse().ok());
    Ok(Target::Content { task, name, range })
}

/// One range: `bytes=first-last` or `bytes=first-`.
fn range(value: &[u8]) -> Result<Wanted, Refusal> {
    let text = std::str::from_utf8(value).map_err(|_| Refusal(400, "a range that is not text"))?;
    let malformed = Refusal(400, "malformed range");
    let spec = text.trim().strip_prefix("bytes=").ok_or(malformed)?;
    if spec.contains(',') {
        return Err(Refusal(416, "one range at a time"));
    }
    let (first, last) = spec.split_once('-').ok_or(malformed)?;
    if first.is_empty() && !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal(416, "no suffix ranges"));
    }
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { digits.parse::<u64>().map_err(|_| Refusal(416, "beyond any content")) } else { Err(malformed) }
    };
    let wanted = Wanted { first: number(first)?, last: if last.is_empty() { None } else { Some(number(last)?) } };
    if wanted.last.is_some_and(|last| last < wanted.first || last == u64::MAX) {
        return Err(Refusal(416, "an empty or endless range"));
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789";

    fn ask(path: &str, headers: &str) -> Result<Request, u16> {
        let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let parsed = parse(text.as_bytes()).map_err(|refusal| refusal.0)?;
        let (request, end) = parsed.expect("a whole request");
        assert_eq!(end, text.len());
        Ok(request)
    }

    fn ranged(value: &str) -> Result<Option<Wanted>, u16> {
        let request = ask(&format!("/download/abc/{ID}?peerId=x"), &format!("Range: {value}\r\n"))?;
        match request.target {
            Target::Content { range, .. } => Ok(range),
            Target::Health => panic!("not a content"),
        }
    }

    #[test]
    fn ranges() {
        let wanted = |first, last| Ok(Some(Wanted { first, last }));
        assert_eq!(ranged("bytes=0-99"), wanted(0, Some(99)));
        assert_eq!(ranged("bytes=5-"), wanted(5, None));
        assert_eq!(ranged("bytes=18446744073709551614-"), wanted(u64::MAX - 1, None));
        for bad in [
            "bytes=",
            "sebytes=1-2",
            "bytes 1-2",
            "bytes=a-b",
            "bytes=1",
            "bytes=--",
            "bytes=-",
            "",
            "1-2",
            "bytes=+1-2",
            "bytes=1-2x",
            "bytes=0x1-2",
            "bytes=1 -2",
        ] {
            assert_eq!(ranged(bad), Err(400), "{bad}");
        }
        for unsatisfiable in [
            "bytes=-5",
            "bytes=0-1,3-4",
            "bytes=9-1",
            "bytes=0-99999999999999999999999",
            "bytes=0-18446744073709551615",
        ] {
            assert_eq!(ranged(unsatisfiable), Err(416), "{unsatisfiable}");
        }
    }

    #[test]
    fn ranges_within_a_content() {
        let within = |first, last, len| Wanted { first, last }.within(len).map(|range| (range.start, range.len));
        assert_eq!(within(0, Some(99), Some(50)), Some((0, 50)));
        assert_eq!(within(10, None, Some(50)), Some((10, 40)));
        assert_eq!(within(50, None, Some(50)), None);
        assert_eq!(within(0, None, Some(0)), None);
        assert_eq!(within(3, Some(4), None), Some((3, 2)));
        assert_eq!(within(3, None, None), None);
    }

    #[test]
    fn paths() {
        assert!(ask(&format!("/download/abc/{ID}"), "").is_ok());
        assert_eq!(ask("/healthy", "").map(|request| request.target), Ok(Target::Health));
        for (path, status) in [
            ("/download/abc/", 400),
            ("/download/ab/abc", 400),
            ("/download/xyz/abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789", 400),
            ("/download/abc/../../etc/passwd", 404),
            ("/download/abc/%2e%2e", 400),
            ("/download", 404),
            ("/etc/passwd", 404),
        ] {
            assert_eq!(ask(path, ""), Err(status), "{path}");
        }
    }

    #[test]
    fn other_methods_bodies_and_long_heads_are_refused() {
        let status = |text: &[u8]| parse(text).unwrap_err().0;
        assert_eq!(status(b"POST / HTTP/1.1\r\n\r\n"), 405);
        assert_eq!(status(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"), 400);
        assert_eq!(status(b"\x16\x03\x01\x02\x00"), 400);
        let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; HEAD_LIMIT]].concat();
        assert_eq!(status(&endless), 431);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADER_LIMIT + 1));
        assert_eq!(status(many.as_bytes()), 431);
        let two = b"GET / HTTP/1.1\r\nRange: bytes=0-1\r\nRange: bytes=0-1\r\n\r\n";
        assert_eq!(status(two), 400);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_range_makes_it_panic_or_leave_the_content(value in "bytes=[0-9-]{0,40}", len in any::<u64>()) {
            if let Ok(wanted) = range(value.as_bytes())
                && let Some(range) = wanted.within(Some(len))
            {
                prop_assert!(range.end() <= len && range.len > 0);
            }
        }
    }
}

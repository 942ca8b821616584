//! What a test origin answers: first rightly, then with the faults put in.

use std::time::Duration;

use bytes::Bytes;

use super::{Content, Fault, PATH, Seen, State};

/// What is sent, and what happens to the connection then.
pub(super) struct Answer {
    pub(super) head: String,
    pub(super) body: Bytes,
    pub(super) is_chunked: bool,
    pub(super) slow: Option<(usize, Duration)>,
    /// Bytes of the body after which `then` comes.
    pub(super) stop: usize,
    pub(super) then: Then,
}

impl Answer {
    /// These bytes alone.
    fn raw(body: Bytes, then: Then) -> Self {
        Self { head: String::new(), body, is_chunked: false, slow: None, stop: usize::MAX, then }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Then {
    Next,
    Reset,
    Close,
    Stall,
}

/// Decides what to answer, and counts the request.
pub(super) fn answer(state: &mut State, seen: Seen) -> Answer {
    state.stats.requests += 1;
    state.seen.push(seen.clone());
    match state.replacement.take() {
        Some((0, content)) => {
            state.content.insert(PATH.into(), content);
        }
        later => state.replacement = later.map(|(requests, content)| (requests - 1, content)),
    }
    let path = seen.target.split_once("://").map_or(seen.target.as_str(), |(_, rest)| &rest[rest.find('/').unwrap()..]);
    let path = path.split('?').next().unwrap_or_default();
    let mut faults = Vec::new();
    for (fault, left) in &mut state.faults {
        let applies = !matches!(fault, Fault::Redirect { path: from, .. } if *from != path) && *left != Some(0);
        if applies {
            faults.push(fault.clone());
            *left = left.map(|left| left - 1);
        }
    }
    let content = state.content.get(path).cloned();
    let mut answer = honest(&seen, content.as_ref(), &faults);
    for fault in faults {
        spoil(&mut answer, fault);
    }
    if seen.method == "HEAD" {
        answer.body = Bytes::new();
        answer.is_chunked = false;
    }
    answer
}

/// The right answer, but for faults that change what is right.
fn honest(seen: &Seen, content: Option<&Content>, faults: &[Fault]) -> Answer {
    let has = |wanted: fn(&Fault) -> bool| faults.iter().any(wanted);
    let status = faults.iter().find_map(|fault| match fault {
        Fault::Status(status) | Fault::Redirect { status, .. } => Some(*status),
        _ => None,
    });
    let mut head = String::new();
    let mut body = Bytes::from_static(b"an error page");
    let mut line = |line: String| head.push_str(&format!("{line}\r\n"));
    let differs = |name, now: &Option<String>| seen.header(name).is_some_and(|was| Some(was) != now.as_deref());
    match (status, content) {
        (Some(status), _) => line(format!("HTTP/1.1 {status} x")),
        (None, None) => line("HTTP/1.1 404 x".into()),
        (None, Some(content))
            if !has(|fault| matches!(fault, Fault::IgnoreConditions))
                && (differs("if-match", &content.etag) || differs("if-unmodified-since", &content.last_modified)) =>
        {
            line("HTTP/1.1 412 x".into());
        }
        (None, Some(content)) => {
            let len = content.bytes.len();
            let knows_ranges = !has(|fault| matches!(fault, Fault::NoRanges | Fault::IgnoreRange));
            match seen.header("range").filter(|_| knows_ranges).map(|range| requested(range, len)) {
                None => {
                    line("HTTP/1.1 200 OK".into());
                    body = content.bytes.clone();
                }
                Some(Some((first, end))) => {
                    line("HTTP/1.1 206 x".into());
                    if !has(|fault| matches!(fault, Fault::ContentRange(_))) {
                        line(format!("Content-Range: bytes {first}-{}/{len}", end - 1));
                    }
                    body = content.bytes.slice(first..end);
                }
                Some(None) => {
                    line("HTTP/1.1 416 x".into());
                    line(format!("Content-Range: bytes */{len}"));
                }
            }
            content.etag.iter().for_each(|etag| line(format!("ETag: {etag}")));
            content.last_modified.iter().for_each(|date| line(format!("Last-Modified: {date}")));
            if !has(|fault| matches!(fault, Fault::NoRanges)) {
                line("Accept-Ranges: bytes".into());
            }
        }
    }
    let is_chunked = has(|fault| matches!(fault, Fault::Chunked));
    let is_until_close = has(|fault| matches!(fault, Fault::UntilClose));
    let off = faults.iter().find_map(|fault| if let Fault::LengthOff(off) = fault { Some(*off) } else { None });
    match (is_chunked, is_until_close) {
        (true, _) => line("Transfer-Encoding: chunked".into()),
        (false, true) => line("Connection: close".into()),
        (false, false) => line(format!("Content-Length: {}", body.len() as i64 + off.unwrap_or(0))),
    }
    let then = if is_until_close || off.is_some() { Then::Close } else { Then::Next };
    Answer { head: head + "\r\n", body, is_chunked, slow: None, stop: usize::MAX, then }
}

/// The bytes that a Range header asks for, end excluded; none if they are not there.
fn requested(range: &str, len: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    let end = last.parse().map_or(len, |last: usize| len.min(last.saturating_add(1)));
    (first < end).then_some((first, end))
}

/// Makes an answer wrong.
fn spoil(answer: &mut Answer, fault: Fault) {
    match fault {
        Fault::Header(name, value) => add_header(&mut answer.head, name, &value),
        Fault::Redirect { to, .. } => add_header(&mut answer.head, "Location", &to),
        Fault::ContentRange(value) => add_header(&mut answer.head, "Content-Range", &value),
        Fault::ResetAt(at) => (answer.stop, answer.then) = (at, Then::Reset),
        Fault::CloseAt(at) => (answer.stop, answer.then) = (at, Then::Close),
        Fault::StallAt(at) => (answer.stop, answer.then) = (at, Then::Stall),
        Fault::Slow { bytes, pause } => answer.slow = Some((bytes, pause)),
        Fault::StallHead => *answer = Answer::raw(Bytes::new(), Then::Stall),
        Fault::CloseHead => *answer = Answer::raw(Bytes::new(), Then::Close),
        Fault::Raw(bytes) => *answer = Answer::raw(bytes.into(), Then::Close),
        // These had their say when the answer was made.
        Fault::NoRanges
        | Fault::IgnoreRange
        | Fault::IgnoreConditions
        | Fault::Status(_)
        | Fault::LengthOff(_)
        | Fault::Chunked
        | Fault::UntilClose => {}
    }
}

fn add_header(head: &mut String, name: &str, value: &str) {
    // Before the empty line.
    head.insert_str(head.len() - 2, &format!("{name}: {value}\r\n"));
}

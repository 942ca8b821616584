//! Tables of heads and what they mean.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    map
}

fn version(content_len: u64, etag: &str, last_modified: &str) -> Version {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Version { content_len: Some(content_len), etag: text(etag), last_modified: text(last_modified) }
}

fn partial(content_range: &str, body_len: Option<u64>, range: SourceRange) -> Result<Head, SourceErrorKind> {
    let headers = headers(&[("content-range", content_range)]);
    Head::read(StatusCode::PARTIAL_CONTENT, &headers, body_len, Some(range), None).map_err(|error| error.kind)
}

#[test]
fn a_content_range_is_read_strictly() {
    let table = [
        ("bytes 0-9/100", Some((Some((0, 9)), Some(100)))),
        ("Bytes 0-0/1", Some((Some((0, 0)), Some(1)))),
        ("bytes 5-9/*", Some((Some((5, 9)), None))),
        ("bytes */100", Some((None, Some(100)))),
        ("bytes */0", Some((None, Some(0)))),
        ("bytes */*", None),
        ("bytes 0-9/9", None),
        ("bytes 9-0/100", None),
        ("bytes 0-9", None),
        ("bytes=0-9/100", None),
        ("sebytes 0-9/100", None),
        ("items 0-9/100", None),
        ("bytes +0-9/100", None),
        ("bytes 0--9/100", None),
        ("bytes -9/100", None),
        ("bytes 0-/100", None),
        ("bytes 0-9/", None),
        ("bytes 0-9/-1", None),
        ("bytes 0-18446744073709551615/*", None),
        ("bytes 0-18446744073709551616/*", None),
        ("bytes 0-9/99999999999999999999999", None),
        ("", None),
    ];
    for (text, expected) in table {
        let read = ContentRange::parse(text).map(|range| (range.bytes, range.total));
        assert_eq!(read, expected, "{text:?}");
    }
}

#[test]
fn a_partial_answer_is_what_was_asked_for_or_refused() {
    let asked = SourceRange::between(10, 19).unwrap();
    let ok = |text: &str, body_len| partial(text, body_len, asked).map(|head| (head.start, head.len));
    assert_eq!(ok("bytes 10-19/100", Some(10)), Ok((10, Some(10))));
    assert_eq!(ok("bytes 10-19/100", None), Ok((10, Some(10))));
    assert_eq!(ok("bytes 10-19/*", Some(10)), Ok((10, Some(10))));
    assert_eq!(ok("bytes 10-14/15", Some(5)), Ok((10, Some(5))));
    assert_eq!(ok("bytes 10-14/*", Some(5)), Ok((10, Some(5))));
    for wrong in [
        "bytes 10-14/100",
        "bytes 9-19/100",
        "bytes 11-19/100",
        "bytes 10-20/100",
        "bytes 0-99/100",
        "bytes */100",
        "x",
    ] {
        assert_eq!(ok(wrong, None), Err(SourceErrorKind::Protocol), "{wrong}");
    }
    assert_eq!(ok("bytes 10-19/100", Some(11)), Err(SourceErrorKind::Protocol));

    let open = SourceRange::starting_at(10);
    assert_eq!(partial("bytes 10-99/100", None, open).unwrap().len, Some(90));
    assert_eq!(partial("bytes 10-98/100", None, open), Err(SourceErrorKind::Protocol));
    assert_eq!(partial("bytes 10-98/*", None, open).unwrap().version.content_len, None);
}

#[test]
fn several_parts_and_unasked_parts_are_refused() {
    let range = SourceRange::between(0, 9);
    let read = |pairs: &[(&'static str, &str)], range| {
        Head::read(StatusCode::PARTIAL_CONTENT, &headers(pairs), None, range, None).map_err(|error| error.kind)
    };
    let good = ("content-range", "bytes 0-9/100");
    assert!(read(&[good], range).is_ok());
    assert_eq!(read(&[good], None), Err(SourceErrorKind::Protocol));
    assert_eq!(read(&[], range), Err(SourceErrorKind::Protocol));
    assert_eq!(read(&[good, good], range), Err(SourceErrorKind::Protocol));
    let parts = ("content-type", "Multipart/ByteRanges; boundary=x");
    assert_eq!(read(&[good, parts], range), Err(SourceErrorKind::Protocol));
}

#[test]
fn a_whole_answer_starts_at_the_beginning_and_shows_whether_ranges_are_known() {
    let read = |pairs: &[(&'static str, &str)], range| {
        Head::read(StatusCode::OK, &headers(pairs), Some(100), range, None).unwrap()
    };
    let says = [("accept-ranges", "bytes"), ("etag", "\"a\"")];
    let head = read(&says, None);
    assert_eq!((head.start, head.len, head.accepts_ranges), (0, Some(100), true));
    assert_eq!(head.version, version(100, "\"a\"", ""));
    assert!(!read(&[("accept-ranges", "none")], None).accepts_ranges);
    assert!(!read(&[], None).accepts_ranges);
    let ignored = read(&says, Some(SourceRange::starting_at(50)));
    assert_eq!((ignored.start, ignored.len, ignored.accepts_ranges), (0, Some(100), false));
}

#[test]
fn a_range_behind_the_end_is_empty_at_the_end_and_an_error_beyond() {
    let read = |content_range: &str, first, pinned: Option<&Version>| {
        let headers = headers(&[("content-range", content_range), ("etag", "\"error page\"")]);
        let range = Some(SourceRange::starting_at(first));
        Head::read(StatusCode::RANGE_NOT_SATISFIABLE, &headers, Some(9), range, pinned).map_err(|error| error.kind)
    };
    let pinned = version(100, "\"a\"", "");
    let at_end = read("bytes */100", 100, Some(&pinned)).unwrap();
    assert_eq!((at_end.start, at_end.len, at_end.version), (100, Some(0), pinned.clone()));
    assert_eq!(read("bytes */0", 0, None).unwrap().version, version(0, "", ""));
    assert_eq!(read("bytes */100", 101, Some(&pinned)), Err(SourceErrorKind::Range));
    assert_eq!(read("bytes */99", 100, Some(&pinned)), Err(SourceErrorKind::Changed));
    assert_eq!(read("bytes */99", 99, Some(&pinned)), Err(SourceErrorKind::Changed));
    assert_eq!(read("garbage", 100, Some(&pinned)), Err(SourceErrorKind::Range));
}

#[test]
fn another_version_is_told_by_length_etag_or_date() {
    let table = [
        (version(9, "\"a\"", "x"), version(9, "\"a\"", "x"), false),
        (version(9, "\"a\"", "x"), version(8, "\"a\"", "x"), true),
        (version(9, "\"a\"", "x"), version(9, "\"b\"", "x"), true),
        (version(9, "\"a\"", "x"), version(9, "\"a\"", "y"), true),
        (version(9, "\"a\"", "x"), version(9, "\"a\"", ""), false),
        (version(9, "\"a\"", "x"), version(9, "", "x"), true),
        (version(9, "\"a\"", ""), version(9, "W/\"a\"", ""), true),
        (version(9, "W/\"a\"", ""), version(9, "W/\"b\"", ""), false),
        (version(9, "W/\"a\"", "x"), version(9, "W/\"a\"", "y"), true),
        (version(9, "", "x"), version(9, "", "y"), true),
        (version(9, "", "x"), version(9, "", ""), true),
        (version(9, "", "x"), version(9, "\"a\"", "x"), false),
        (version(9, "", ""), version(9, "\"a\"", "x"), false),
        (Version::default(), version(9, "\"a\"", "x"), false),
    ];
    for (was, is, differs) in table {
        assert_eq!(was.contradiction(&is).is_some(), differs, "{was:?} {is:?}");
    }
}

#[test]
fn a_pinned_length_holds_where_the_answer_tells_none() {
    let pinned = version(100, "", "");
    let read = |text: &str, range| {
        let headers = headers(&[("content-range", text)]);
        Head::read(StatusCode::PARTIAL_CONTENT, &headers, None, Some(range), Some(&pinned)).map_err(|error| error.kind)
    };
    let range = SourceRange::between(90, 109).unwrap();
    assert_eq!(read("bytes 90-99/*", range).unwrap().version, pinned);
    assert_eq!(read("bytes 90-109/*", range), Err(SourceErrorKind::Changed));
    let whole = Head::read(StatusCode::OK, &HeaderMap::new(), None, None, Some(&pinned)).unwrap();
    assert_eq!((whole.len, whole.version.content_len), (None, Some(100)));
}

#[test]
fn statuses_have_their_kinds() {
    let kind = |status, is_pinned| refusal(StatusCode::from_u16(status).unwrap(), is_pinned).map(|error| error.kind);
    for (status, expected) in [
        (200, None),
        (206, None),
        (302, None),
        (416, None),
        (204, Some(SourceErrorKind::Status)),
        (300, Some(SourceErrorKind::Status)),
        (304, Some(SourceErrorKind::Status)),
        (401, Some(SourceErrorKind::Auth)),
        (403, Some(SourceErrorKind::Auth)),
        (407, Some(SourceErrorKind::Auth)),
        (404, Some(SourceErrorKind::Status)),
        (412, Some(SourceErrorKind::Status)),
        (500, Some(SourceErrorKind::Status)),
        (799, Some(SourceErrorKind::Status)),
    ] {
        assert_eq!(kind(status, false), expected, "{status}");
    }
    assert_eq!(kind(412, true), Some(SourceErrorKind::Changed));
}

proptest! {
    #[test]
    fn what_a_good_source_answers_is_accepted(first in 0u64..1000, len in 1u64..1000, total in 1u64..1500) {
        let range = SourceRange::of(df_core::piece::plan::ByteRange { start: first, len }).unwrap();
        let last = (first + len - 1).min(total - 1);
        if first < total {
            let head = partial(&format!("bytes {first}-{last}/{total}"), None, range).unwrap();
            prop_assert_eq!((head.start, head.len), (first, Some(last - first + 1)));
            prop_assert_eq!(head.version.content_len, Some(total));
        }
    }

    #[test]
    fn any_content_range_is_refused_or_consistent(text in "(bytes|Bytes|x)? ?[0-9*]{0,21}-?[0-9*+]{0,21}/?[0-9*]{0,21}") {
        if let Some(range) = ContentRange::parse(&text) {
            let (first, last) = range.bytes.unwrap_or((0, 0));
            prop_assert!(first <= last && last < u64::MAX);
            prop_assert!(range.bytes.is_none() || range.total.is_none_or(|total| last < total));
            prop_assert!(range.bytes.is_some() || range.total.is_some());
        }
    }

    #[test]
    fn any_partial_answer_lies_inside_what_was_asked(a: u16, b: u16, c: u16, x: u16, y: u16) {
        let asked = SourceRange::between(a.min(b).into(), a.max(b).into()).unwrap();
        if let Ok(head) = partial(&format!("bytes {x}-{y}/{c}"), None, asked) {
            prop_assert_eq!(head.start, asked.first());
            prop_assert!(head.start + head.len.unwrap() <= asked.last().unwrap() + 1);
        }
    }
}

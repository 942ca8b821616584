//! What comes back from an origin that keeps to HTTP, with and without ranges.

use super::*;

#[tokio::test]
async fn a_whole_content_arrives_with_its_version() {
    let origin = Origin::start(Content::random(1, 3 << 20)).await;
    let (response, bytes) = fetch(&client(quick()), &get(&origin.url())).await.unwrap();
    assert!(bytes == origin.bytes());
    assert_eq!((response.start, response.len, response.accepts_ranges), (0, Some(3 << 20), true));
    assert_eq!(response.url.as_str(), origin.url());
    let version = Version {
        content_len: Some(3 << 20),
        etag: Some("\"1-3145728\"".into()),
        last_modified: Some("Sun, 06 Nov 1994 08:49:37 GMT".into()),
    };
    assert_eq!(response.version, version);
    assert!(version.is_verifiable());
}

#[tokio::test]
async fn ranges_arrive_over_one_connection() {
    let origin = Origin::start(Content::random(2, 1000)).await;
    let client = client(quick());
    let all = origin.bytes();
    let cases = [
        (between(0, 0), 0..1),
        (between(0, 999), 0..1000),
        (between(999, 999), 999..1000),
        (between(990, 5000), 990..1000),
        (SourceRange::starting_at(0), 0..1000),
        (SourceRange::starting_at(400), 400..1000),
    ];
    for (range, expected) in cases.clone() {
        let (response, bytes) = fetch(&client, &get(&origin.url()).range(range)).await.unwrap();
        assert_eq!(bytes, all[expected.clone()]);
        assert_eq!((response.start, response.len), (expected.start as u64, Some(expected.len() as u64)));
        assert_eq!((response.accepts_ranges, response.version.content_len), (true, Some(1000)));
    }
    assert_eq!(
        origin.stats(),
        Stats { connections: 1, requests: cases.len(), body_bytes: 1 + 1000 + 1 + 10 + 1000 + 600 }
    );
}

#[tokio::test]
async fn an_origin_without_ranges_answers_from_the_start() {
    let origin = Origin::start(Content::random(3, 1000)).await;
    let client = client(quick());
    for fault in [Fault::IgnoreRange, Fault::NoRanges] {
        origin.inject_once(fault);
        let (response, bytes) = fetch(&client, &get(&origin.url()).range(between(100, 199))).await.unwrap();
        assert_eq!((response.start, response.len, response.accepts_ranges), (0, Some(1000), false));
        assert_eq!(bytes, origin.bytes());
    }
    origin.inject_once(Fault::NoRanges);
    assert!(!fetch(&client, &get(&origin.url())).await.unwrap().0.accepts_ranges);
}

#[tokio::test]
async fn an_empty_content_is_a_content() {
    let origin = Origin::start(Content::random(4, 0)).await;
    let client = client(quick());
    for request in [get(&origin.url()), get(&origin.url()).range(SourceRange::starting_at(0))] {
        let (response, bytes) = fetch(&client, &request).await.unwrap();
        assert_eq!((bytes.len(), response.start, response.version.content_len), (0, 0, Some(0)));
    }
}

#[tokio::test]
async fn whoever_resumes_a_complete_download_gets_nothing_more() {
    let origin = Origin::start(Content::random(5, 1000)).await;
    let client = client(quick());
    let version = fetch(&client, &get(&origin.url())).await.unwrap().0.version;
    let rest = get(&origin.url()).pinned(version.clone()).range(SourceRange::starting_at(1000));
    let (response, bytes) = fetch(&client, &rest).await.unwrap();
    assert_eq!((bytes.len(), response.start, response.version), (0, 1000, version));

    let error = failure(&client, &get(&origin.url()).range(SourceRange::starting_at(1001))).await;
    assert_eq!((error.kind, error.http_status), (SourceErrorKind::Range, Some(416)));
    assert!(error.cause.contains("1000 bytes"), "{error}");
}

#[tokio::test]
async fn a_body_without_a_length_arrives() {
    let origin = Origin::start(Content::random(6, 300_000)).await;
    let client = client(quick());
    for fault in [Fault::Chunked, Fault::UntilClose] {
        origin.inject_once(fault);
        let (response, bytes) = fetch(&client, &get(&origin.url())).await.unwrap();
        assert!(bytes == origin.bytes());
        assert_eq!((response.len, response.version.content_len), (None, None));
    }
    origin.inject_once(Fault::Chunked);
    let (response, bytes) = fetch(&client, &get(&origin.url()).range(between(5, 99_999))).await.unwrap();
    assert!(bytes == origin.bytes()[5..100_000]);
    assert_eq!((response.len, response.version.content_len), (Some(99_995), Some(300_000)));
}

#[tokio::test]
async fn a_slow_origin_is_waited_for() {
    let origin = Origin::start(Content::random(7, 1000)).await;
    origin.inject(Fault::Slow { bytes: 100, pause: Duration::from_millis(1) });
    let (_, bytes) = fetch(&client(quick()), &get(&origin.url())).await.unwrap();
    assert_eq!(bytes, origin.bytes());
}

#[tokio::test]
async fn the_request_is_what_an_origin_expects() {
    let origin = Origin::start(Content::random(8, 10)).await;
    let headers = [("X-Own", "a"), ("User-Agent", "mine/1"), ("Host", "virtual.test")];
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_string()));
    let url = origin.url().replace("http://", "http://me:p%40ss@") + "?sig=1&x=%2F#part";
    let request = SourceRequest::new(&url, &headers).unwrap().trust(Trust::Local).range(between(1, 2));
    let client = client(quick());
    fetch(&client, &request).await.unwrap();
    fetch(&client, &get(&origin.url())).await.unwrap();
    let [seen, plain] = &origin.seen()[..] else { panic!("two requests") };
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/dir/file.bin?sig=1&x=%2F"));
    let expected = [
        ("accept-encoding", "identity"),
        ("authorization", "Basic bWU6cEBzcw=="),
        ("x-own", "a"),
        ("user-agent", "mine/1"),
        ("host", "virtual.test"),
        ("range", "bytes=1-2"),
        ("accept", "*/*"),
    ];
    for (name, value) in expected {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert_eq!(plain.header("host"), Some(origin.address().to_string().as_str()));
    assert!(plain.header("user-agent").unwrap().starts_with("damselfly/"));
    for absent in ["range", "if-match", "if-unmodified-since", "authorization"] {
        assert_eq!(plain.header(absent), None);
    }
}

#[tokio::test]
async fn a_response_dropped_half_way_leaves_the_client_usable() {
    let origin = Origin::start(Content::random(9, 8 << 20)).await;
    let client = client(quick());
    let mut response = client.open(&get(&origin.url())).await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    let (_, bytes) = fetch(&client, &get(&origin.url()).range(between(0, 9))).await.unwrap();
    assert_eq!(bytes, origin.bytes()[..10]);
}

#[tokio::test]
async fn compressed_bodies_are_passed_on_as_they_are() {
    let origin = Origin::start(Content::random(10, 500)).await;
    origin.inject(Fault::Header("Content-Encoding", "gzip".into()));
    let (_, bytes) = fetch(&client(quick()), &get(&origin.url())).await.unwrap();
    assert_eq!(bytes, origin.bytes());
}

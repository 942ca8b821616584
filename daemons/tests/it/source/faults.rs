//! Origins that fail: what is tried again, what is told at once, and as what.

use df_api::failure::{Code, Failure};

use super::*;

#[tokio::test]
async fn a_lasting_refusal_is_told_at_once() {
    let table = [
        (404, SourceErrorKind::Status, Code::OriginStatus),
        (410, SourceErrorKind::Status, Code::OriginStatus),
        (401, SourceErrorKind::Auth, Code::Auth),
        (403, SourceErrorKind::Auth, Code::Auth),
        (501, SourceErrorKind::Status, Code::OriginStatus),
        (204, SourceErrorKind::Status, Code::OriginStatus),
        (304, SourceErrorKind::Status, Code::OriginStatus),
    ];
    for (status, kind, code) in table {
        let origin = Origin::start(Content::random(1, 10)).await;
        origin.inject(Fault::Status(status));
        let url = origin.url().replace("http://", "http://me:secret@") + "?token=secret";
        let error = failure(&client(quick()), &get(&url)).await;
        assert_eq!((error.kind, error.http_status, error.is_retryable()), (kind, Some(status), false));
        assert_eq!(origin.stats().requests, 1, "{status}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        assert_eq!(error.message(), format!("cannot fetch {}?…", origin.url()));
        let failure = Failure::from(error);
        assert_eq!((failure.code, failure.http_status), (code, Some(status)));
        assert!(failure.hint.is_some());
    }
}

#[tokio::test]
async fn passing_faults_are_tried_again_as_often_as_allowed() {
    for status in [429, 500, 502, 503, 504] {
        let origin = Origin::start(Content::random(2, 10)).await;
        let client = client(quick());
        origin.inject_times(3, Fault::Status(status));
        assert_eq!(fetch(&client, &get(&origin.url())).await.unwrap().1, origin.bytes());
        assert_eq!(origin.stats().requests, 4);

        origin.inject(Fault::Status(status));
        let error = failure(&client, &get(&origin.url())).await;
        assert_eq!((error.http_status, error.is_retryable()), (Some(status), true));
        assert_eq!(origin.stats().requests, 8);
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_tried_again() {
    let origin = Origin::start(Content::random(3, 10)).await;
    let client = client(quick());
    origin.inject_times(2, Fault::CloseHead);
    assert_eq!(fetch(&client, &get(&origin.url())).await.unwrap().1, origin.bytes());
    origin.inject(Fault::CloseHead);
    let error = failure(&client, &get(&origin.url())).await;
    assert_eq!((error.kind, origin.stats().requests), (SourceErrorKind::Reset, 7));
}

#[tokio::test]
async fn an_origin_that_is_not_there_is_a_network_failure() {
    let gone = Origin::start(Content::random(4, 10)).await;
    let url = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    drop(gone);
    let error = failure(&client(quick()), &get(&url)).await;
    assert_eq!((error.kind, error.is_retryable()), (SourceErrorKind::Connect, true));
    assert_eq!(Failure::from(error).code, Code::Network);
}

#[tokio::test]
async fn an_origin_that_asks_for_a_long_pause_is_not_waited_for() {
    let origin = Origin::start(Content::random(5, 10)).await;
    origin.inject(Fault::Status(429)).inject(Fault::Header("Retry-After", "3600".into()));
    let error = failure(&client(quick()), &get(&origin.url())).await;
    assert_eq!((error.retry_after, origin.stats().requests), (Some(Duration::from_secs(3600)), 1));
    assert!(Failure::from(error).hint.unwrap().contains("3600 s"));
}

#[tokio::test]
async fn a_body_that_ends_early_is_truncated_however_it_ends() {
    let origin = Origin::start(Content::random(6, 200_000)).await;
    let client = client(quick());
    let faults = [
        vec![Fault::LengthOff(1)],
        vec![Fault::CloseAt(100_000)],
        vec![Fault::CloseAt(0)],
        vec![Fault::Chunked, Fault::CloseAt(100_000)],
    ];
    for faults in faults {
        for fault in &faults {
            origin.inject(fault.clone());
        }
        let mut response = client.open(&get(&origin.url())).await.unwrap();
        let (bytes, error) = drain(&mut response).await;
        assert_eq!(error, Some(SourceErrorKind::Truncated), "{faults:?}");
        assert!(origin.bytes().starts_with(&bytes) && bytes.len() <= 200_000);
        origin.heal();
    }
}

#[tokio::test]
async fn a_range_in_chunks_that_is_too_short_or_too_long_shows() {
    let origin = Origin::start(Content::random(7, 1000)).await;
    let client = client(quick());
    for (claim, expected) in
        [("bytes 0-999/1000", SourceErrorKind::Truncated), ("bytes 0-99/1000", SourceErrorKind::Protocol)]
    {
        // The origin sends 0-499, but says otherwise.
        let (asked, last) = if expected == SourceErrorKind::Truncated { (999, 499) } else { (99, 499) };
        origin.heal();
        origin.inject(Fault::Raw(
            [
                format!("HTTP/1.1 206 x\r\nContent-Range: {claim}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes(),
                format!("{:x}\r\n", last + 1).into_bytes(),
                origin.bytes()[..=last].to_vec(),
                b"\r\n0\r\n\r\n".to_vec(),
            ]
            .concat(),
        ));
        let mut response = client.open(&get(&origin.url()).range(between(0, asked))).await.unwrap();
        assert_eq!(drain(&mut response).await.1, Some(expected), "{claim}");
    }
}

#[tokio::test]
async fn a_reset_in_the_body_is_a_network_failure() {
    let origin = Origin::start(Content::random(8, 8 << 20)).await;
    origin.inject(Fault::ResetAt(4 << 20));
    let mut response = client(quick()).open(&get(&origin.url())).await.unwrap();
    let (bytes, error) = drain(&mut response).await;
    assert_eq!(error, Some(SourceErrorKind::Reset));
    assert!(bytes.len() <= 4 << 20 && origin.bytes().starts_with(&bytes));
    assert_eq!(origin.stats().requests, 1, "a body is not tried again");
}

#[tokio::test]
async fn an_origin_that_stalls_is_left() {
    let origin = Origin::start(Content::random(9, 1000)).await;
    let config = SourceConfig { stall_limit: Duration::from_millis(20), ..quick() };
    origin.inject(Fault::StallAt(500));
    let mut response = client(config).open(&get(&origin.url())).await.unwrap();
    let (bytes, error) = drain(&mut response).await;
    assert_eq!(error, Some(SourceErrorKind::Timeout));
    assert!(bytes.len() <= 500);
}

#[tokio::test]
async fn answers_that_are_no_http_are_protocol_failures() {
    let huge = format!("HTTP/1.1 200 x\r\n{}", "a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".repeat(40_000));
    let table = [
        "garbage\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 206 x\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 206 x\r\nContent-Length: 2\r\nContent-Range: bytes 0-0/1\r\n\r\nxx",
        "HTTP/1.1 206 x\r\nContent-Length: 1\r\nContent-Range: bytes 1-1/2\r\n\r\nx",
        "HTTP/1.1 206 x\r\nContent-Range: bytes 0-0/1\r\nContent-Type: multipart/byteranges\r\n\r\nx",
        "HTTP/1.1 302 x\r\n\r\n",
        "HTTP/1.1 302 x\r\nLocation: file:///etc/passwd\r\n\r\n",
        &huge,
    ];
    for raw in table {
        let origin = Origin::start(Content::random(10, 1)).await;
        origin.inject(Fault::Raw(raw.into()));
        let error = failure(&client(quick()), &get(&origin.url()).range(between(0, 0))).await;
        assert_eq!(error.kind, SourceErrorKind::Protocol, "{raw:.100} {error}");
        assert_eq!(origin.stats().requests, 1);
        assert_eq!(Failure::from(error).code, Code::Protocol);
    }
}

#[tokio::test]
async fn wrong_ranges_are_protocol_failures() {
    let origin = Origin::start(Content::random(11, 1000)).await;
    let client = client(quick());
    for claim in ["bytes 0-99/1000", "bytes 101-200/1000", "bytes 100-198/1000", "bytes 199-100/1000", "lies"] {
        origin.heal();
        origin.inject(Fault::ContentRange(claim.into()));
        let error = failure(&client, &get(&origin.url()).range(between(100, 199))).await;
        assert_eq!(error.kind, SourceErrorKind::Protocol, "{claim}");
    }
    origin.heal();
    origin.inject(Fault::ContentRange("bytes 100-199/*".into()));
    let (response, bytes) = fetch(&client, &get(&origin.url()).range(between(100, 199))).await.unwrap();
    assert_eq!((bytes, response.version.content_len), (origin.bytes()[100..200].to_vec(), None));
}

#[tokio::test]
async fn a_malformed_chunk_is_a_protocol_failure() {
    let origin = Origin::start(Content::random(12, 1)).await;
    origin.inject(Fault::Raw(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n".to_vec()));
    let mut response = client(quick()).open(&get(&origin.url())).await.unwrap();
    assert_eq!(drain(&mut response).await, (b"hello".to_vec(), Some(SourceErrorKind::Protocol)));
}

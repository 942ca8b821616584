//! Contents that change under a download: versions are never mixed.

use super::*;

/// A client, an origin and the version that a first request learned.
async fn learned(content: Content) -> (SourceClient, Origin, Version) {
    let origin = Origin::start(content).await;
    let client = client(quick());
    let version = fetch(&client, &get(&origin.url()).range(between(0, 99))).await.unwrap().0.version;
    (client, origin, version)
}

/// How asking for the second hundred bytes of a pinned version ends.
async fn second_part(client: &SourceClient, origin: &Origin, pinned: Version) -> Result<Vec<u8>, SourceErrorKind> {
    let request = get(&origin.url()).range(between(100, 199)).pinned(pinned);
    fetch(client, &request).await.map(|(_, bytes)| bytes).map_err(|error| error.kind)
}

#[tokio::test]
async fn the_pinned_version_is_served_on() {
    let (client, origin, version) = learned(Content::random(1, 1000)).await;
    assert_eq!(second_part(&client, &origin, version).await, Ok(origin.bytes()[100..200].to_vec()));
    let last = origin.seen().pop().unwrap();
    assert_eq!((last.header("if-match"), last.header("if-unmodified-since")), (Some("\"1-1000\""), None));
}

#[tokio::test]
async fn a_changed_content_is_refused_whether_or_not_the_origin_helps() {
    let (date, other_date) = (Some("Sun, 06 Nov 1994 08:49:37 GMT"), Some("Mon, 07 Nov 1994 08:49:37 GMT"));
    let table = [
        (Content::random(1, 1000), Content::random(2, 1000)),
        (Content::random(1, 1000).etag(None), Content::random(2, 1000).etag(None).last_modified(other_date)),
        (Content::random(1, 1000), Content::random(2, 1000).etag(None).last_modified(date)),
        (Content::random(1, 1000), Content::random(2, 1000).etag(Some("\"1-1000\"")).last_modified(other_date)),
        (Content::random(1, 1000).etag(Some("W/\"a\"")), Content::random(2, 1001).etag(Some("W/\"a\""))),
        (Content::random(1, 1000).etag(None).last_modified(None), Content::random(2, 999).etag(None)),
    ];
    for (was, is) in table {
        for helps in [true, false] {
            let (client, origin, version) = learned(was.clone()).await;
            origin.replace(is.clone());
            if !helps {
                origin.inject(Fault::IgnoreConditions);
            }
            let end = second_part(&client, &origin, version).await;
            assert_eq!(end, Err(SourceErrorKind::Changed), "{:?} {:?} {helps}", was.etag, is.etag);
        }
    }
}

#[tokio::test]
async fn a_content_that_changes_after_some_requests_is_noticed_then() {
    let origin = Origin::start(Content::random(1, 1000)).await;
    origin.replace_after(2, Content::random(2, 1000));
    let client = client(quick());
    let first = fetch(&client, &get(&origin.url()).range(between(0, 99))).await.unwrap();
    let request = get(&origin.url()).pinned(first.0.version);
    assert!(fetch(&client, &request.clone().range(between(100, 199))).await.is_ok());
    let error = failure(&client, &request.range(between(200, 299))).await;
    assert_eq!((error.kind, error.is_retryable()), (SourceErrorKind::Changed, false));
}

#[tokio::test]
async fn a_whole_body_without_a_length_is_held_to_the_pinned_one() {
    let (client, origin, _) = learned(Content::random(1, 1000)).await;
    let pinned = |content_len| Version { content_len: Some(content_len), ..Version::default() };
    origin.inject(Fault::Chunked);
    for (len, expected) in
        [(1000, None), (999, Some(SourceErrorKind::Changed)), (1001, Some(SourceErrorKind::Truncated))]
    {
        let mut response = client.open(&get(&origin.url()).pinned(pinned(len))).await.unwrap();
        assert_eq!(response.len, Some(len));
        assert_eq!(drain(&mut response).await.1, expected, "{len}");
    }
}

#[tokio::test]
async fn a_shorter_length_than_pinned_is_a_change() {
    let (client, origin, version) = learned(Content::random(1, 1000)).await;
    origin.inject(Fault::LengthOff(-1));
    let error = failure(&client, &get(&origin.url()).pinned(version)).await;
    assert_eq!(error.kind, SourceErrorKind::Changed);
}

#[tokio::test]
async fn validators_of_a_stranger_cannot_break_the_request() {
    let origin = Origin::start(Content::random(1, 1000)).await;
    let evil = Version { content_len: None, etag: Some("\"a\"\r\nX-Evil: 1".into()), last_modified: None };
    let error = failure(&client(quick()), &get(&origin.url()).pinned(evil)).await;
    assert_eq!(error.kind, SourceErrorKind::Changed);
    assert!(origin.seen().iter().all(|seen| seen.header("x-evil").is_none()));
}

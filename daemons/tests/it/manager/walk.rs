//! Every call and every route with no token, wrong ones, an expired one, and those of other scopes.
//!
//! The list of calls is the descriptor's: a call that is added and forgets its gate fails here.

use bytes::Bytes;
use df_api::generated::DESCRIPTOR;
use df_daemons::manager::rest::ROUTES;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use prost::Message;
use prost_types::FileDescriptorSet;
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::{Manager, channel, with};

/// What each call needs; `""` any token, and the one that needs none is left out.
const CALLS: [(&str, &str); 42] = [
    ("Manager/GetSeedPeer", "join"),
    ("Manager/UpdateSeedPeer", "join"),
    ("Manager/GetScheduler", "join"),
    ("Manager/UpdateScheduler", "join"),
    ("Manager/ListSchedulers", "join"),
    ("Manager/KeepAlive", "join"),
    ("Manager/Join", "join"),
    ("Manager/Poll", "join"),
    ("Console/SignOut", ""),
    ("Console/WhoAmI", ""),
    ("Console/WatchOverview", "view"),
    ("Console/WatchTasks", "view"),
    ("Console/WatchHosts", "view"),
    ("Console/WatchTask", "view"),
    ("Console/WatchBlacklist", "view"),
    ("Console/WatchMembers", "view"),
    ("Console/WatchJobs", "view"),
    ("Console/WatchJob", "view"),
    ("Console/WatchEvents", "view"),
    ("Console/ListClusters", "view"),
    ("Console/GetSettings", "view"),
    ("Console/IsolateHost", "operate"),
    ("Console/ReleaseHost", "operate"),
    ("Console/DeleteTask", "operate"),
    ("Console/RemoveMember", "operate"),
    ("Console/CreatePreheat", "preheat"),
    ("Console/CancelJob", "preheat"),
    ("Console/SetLimits", "configure"),
    ("Console/AddBlockRule", "configure"),
    ("Console/RemoveBlockRule", "configure"),
    ("Console/PutCluster", "configure"),
    ("Console/RemoveCluster", "configure"),
    ("Console/ListTokens", ""),
    ("Console/CreateToken", ""),
    ("Console/RevokeToken", ""),
    ("Console/ChangePassword", ""),
    ("Console/ListUsers", "admin"),
    ("Console/CreateUser", "admin"),
    ("Console/UpdateUser", "admin"),
    ("Console/RemoveUser", "admin"),
    ("Console/ListAudit", "admin"),
    ("Console/SignIn", "nothing"),
];

const SCOPES: [&str; 6] = ["view", "operate", "preheat", "configure", "admin", "join"];

/// Calls something with an empty message, whatever its type, and answers what came first.
async fn call(manager: &Manager, path: &str, token: Option<&str>) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel(manager.grpc));
    client.ready().await.unwrap();
    let path = format!("/manager.{path}").parse().unwrap();
    let request = match token {
        Some(token) => with(token, tokio_stream::once(())),
        None => tonic::Request::new(tokio_stream::once(())),
    };
    // Every message is one without fields.
    let codec: ProstCodec<(), ()> = ProstCodec::default();
    let mut answers = client.streaming(request, path, codec).await?.into_inner();
    let first = tokio::time::timeout(crate::cluster::LIMIT, answers.message()).await.expect("an answer");
    first.map(drop)
}

#[test]
fn the_walk_knows_every_call() {
    let descriptor = FileDescriptorSet::decode(DESCRIPTOR).unwrap();
    let mut there: Vec<String> = Vec::new();
    for file in descriptor.file.iter().filter(|file| file.package() == "manager") {
        for service in &file.service {
            there.extend(service.method.iter().map(|method| format!("{}/{}", service.name(), method.name())));
        }
    }
    let mut known: Vec<&str> = CALLS.iter().map(|(path, _)| *path).collect();
    known.sort_unstable();
    there.sort_unstable();
    assert_eq!(known, there);
}

/// CVE-2025-59345, CVE-2026-24124, CVE-2026-49254: calls that asked for no token.
#[tokio::test(flavor = "multi_thread")]
async fn cve_2025_59345_cve_2026_24124_cve_2026_49254_no_call_is_answered_without_its_token() {
    let manager = Manager::start().await;
    let mut tokens = Vec::new();
    for scope in SCOPES {
        tokens.push((scope, manager.token(&[scope], 0).await));
    }
    let expired = manager.token(&SCOPES, 1).await;
    let right = tokens[0].1.clone();
    let (head, tail) = right.split_at(right.len() / 2);
    let other = if tail.starts_with('A') { 'B' } else { 'A' };
    let nearly = format!("{head}{other}{}", &tail[1..]);
    let bad = [None, Some(""), Some("dragonfly"), Some(nearly.as_str()), Some(expired.as_str())];
    for (path, scope) in CALLS.into_iter().filter(|(_, scope)| *scope != "nothing") {
        for token in bad {
            let refused = call(&manager, path, token).await.expect_err(path);
            assert_eq!(refused.code(), Code::Unauthenticated, "{path} with {token:?}: {refused}");
        }
        for (other, token) in tokens.iter().filter(|(other, _)| !scope.is_empty() && *other != scope) {
            let refused = call(&manager, path, Some(token)).await.expect_err(path);
            assert_eq!(refused.code(), Code::PermissionDenied, "{path} with {other}: {refused}");
        }
    }
    let open = call(&manager, "Console/WhoAmI", Some(&right)).await;
    assert!(open.is_ok(), "the walk could succeed: {open:?}");
}

/// One request to the REST port: its status and its body.
pub(super) async fn rest(
    manager: &Manager,
    (method, path): (&str, &str),
    authorization: Option<&str>,
    body: &str,
) -> (u16, String) {
    let stream = TcpStream::connect(manager.rest).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path).header("host", manager.rest.to_string());
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_is_answered_without_its_token() {
    let manager = Manager::start().await;
    let expired = format!("Bearer {}", manager.token(&SCOPES, 1).await);
    let mut tokens = Vec::new();
    for scope in SCOPES {
        tokens.push((scope, format!("Bearer {}", manager.token(&[scope], 0).await)));
    }
    for (method, route, scope) in ROUTES {
        let path = route.replace("{id}", "1");
        let Some(scope) = scope else {
            assert_eq!(rest(&manager, (method, &path), None, "").await.0, 200, "{path}");
            continue;
        };
        for bad in [None, Some("Bearer "), Some("Bearer dragonfly"), Some("Basic eDp5"), Some(expired.as_str())] {
            let (status, body) = rest(&manager, (method, &path), bad, "{}").await;
            assert_eq!(status, 401, "{method} {path} with {bad:?}: {body}");
            assert!(body.contains("\"message\""), "{body}");
        }
        for (other, token) in tokens.iter().filter(|(other, _)| *other != scope) {
            let (status, body) = rest(&manager, (method, &path), Some(token), "{}").await;
            assert_eq!(status, 403, "{method} {path} with {other}: {body}");
        }
        let token = &tokens.iter().find(|(known, _)| *known == scope).unwrap().1;
        let (status, body) = rest(&manager, (method, &path), Some(token), "{}").await;
        assert!(![401, 403].contains(&status), "{method} {path}: {status} {body}");
    }
    assert_eq!(rest(&manager, ("GET", "/api/v1/jobs"), None, "").await.0, 404);
}

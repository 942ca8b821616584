//! Preheats of images: a registry of the test's own that wants a token, and a real one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use df_api::base::UrlMeta;
use df_api::failure::Code;
use df_api::manager as wire;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::{Town, until};
use crate::cluster::Wish;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// An image of two platforms: what it is made of, by digest, and the digest of its index.
struct Image {
    manifests: BTreeMap<String, (&'static str, Vec<u8>)>,
    blobs: BTreeMap<String, Vec<u8>>,
    index: String,
}

impl Image {
    fn new() -> Self {
        let (mut manifests, mut blobs, mut entries) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (at, architecture) in ["amd64", "arm64"].into_iter().enumerate() {
            let own: Vec<u8> = (0..200_000_usize).map(|byte| (byte * (at + 3)) as u8).collect();
            let config = json!({ "architecture": architecture, "os": "linux" }).to_string().into_bytes();
            let describe =
                |bytes: &[u8], media: &str| json!({ "mediaType": media, "digest": digest(bytes), "size": bytes.len() });
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": describe(&config, "application/vnd.oci.image.config.v1+json"),
                "layers": [describe(&own, "application/vnd.oci.image.layer.v1.tar"),
                    describe(b"shared", "application/vnd.oci.image.layer.v1.tar")],
            });
            let manifest = manifest.to_string().into_bytes();
            let mut entry = describe(&manifest, MANIFEST);
            entry["platform"] = json!({ "os": "linux", "architecture": architecture });
            entries.push(entry);
            for blob in [own, config, b"shared".to_vec()] {
                blobs.insert(digest(&blob), blob);
            }
            manifests.insert(digest(&manifest), (MANIFEST, manifest));
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string().into_bytes();
        let name = digest(&index);
        manifests.insert(name.clone(), (INDEX, index));
        Self { manifests, blobs, index: name }
    }
}

/// A registry that gives nothing without a token, and a token for a name and a password alone.
#[derive(Clone)]
struct Registry {
    image: Arc<Image>,
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

const BASIC: &str = "Basic dXNlcjpwYXNz"; // user:pass

impl Registry {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Self { image: Arc::new(Image::new()), address, asked: Arc::default() };
        let routes = axum::Router::new()
            .route("/token", get(token))
            .route("/v2/lib/app/{kind}/{reference}", get(fetch))
            .with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        registry
    }
}

async fn token(
    State(registry): State<Registry>,
    Query(asked): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    registry.asked.lock().unwrap().push(format!("{} {}", asked["service"], asked["scope"]));
    match headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        Some(BASIC) => axum::Json(json!({ "access_token": "pull", "expires_in": 300 })).into_response(),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn fetch(
    State(registry): State<Registry>,
    Path((kind, reference)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if headers.get(header::AUTHORIZATION).is_none_or(|value| value != "Bearer pull" && value != "Bearer another") {
        let at = registry.address;
        let challenge =
            format!(r#"Bearer realm="http://{at}/token",service="test registry",scope="repository:lib/app:pull""#);
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
    }
    let image = &registry.image;
    let reference = if reference == "v1" { image.index.clone() } else { reference };
    let found = match kind.as_str() {
        "manifests" => image.manifests.get(&reference).map(|(media, bytes)| (*media, bytes.clone())),
        _ => image.blobs.get(&reference).map(|bytes| ("application/octet-stream", bytes.clone())),
    };
    let Some((media, bytes)) = found else { return StatusCode::NOT_FOUND.into_response() };
    let len = bytes.len();
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let range = range.and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = range else { return ([(header::CONTENT_TYPE, media)], bytes).into_response() };
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(len - 1).min(len - 1);
    let said = format!("bytes {first}-{last}/{len}");
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, said)], bytes[first..=last].to_vec()).into_response()
}

fn image(url: String, platform: &str) -> wire::PreheatRequest {
    wire::PreheatRequest {
        r#type: wire::PreheatType::Image.into(),
        urls: vec![url],
        platform: platform.to_owned(),
        scope: wire::PreheatScope::AllPeers.into(),
        ..wire::PreheatRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_registry_that_wants_a_token_comes_for_its_platform() {
    let town = Town::start(1, 1).await;
    let registry = Registry::start().await;
    let url = format!("http://{}/v2/lib/app/manifests/v1", registry.address);
    let anonymous = town.preheat(image(url.clone(), "linux/arm64")).await;
    assert_eq!(anonymous.state(), wire::JobState::JobFailed);
    assert!(anonymous.failure.contains("401"), "{anonymous:?}");

    let request = wire::PreheatRequest {
        username: "user".to_owned(),
        password: "pass".to_owned(),
        ..image(url.clone(), "linux/arm64")
    };
    let job = town.preheat(request.clone()).await;
    assert_eq!(job.state(), wire::JobState::Succeeded, "{job:?}");
    let digests: Vec<&str> = job.parts.iter().map(|part| part.digest.as_str()).collect();
    assert_eq!(digests.len(), 3, "its configuration and two layers: {digests:?}");
    assert!(job.parts.iter().all(|part| part.finished_targets == 2), "{job:?}");
    assert_eq!(registry.asked.lock().unwrap().last().unwrap(), "test registry repository:lib/app:pull");
    let text = format!("{job:?}");
    assert!(!text.contains("pull\"") && !text.contains("pass"), "no secrets: {text}");

    let all = town.preheat(wire::PreheatRequest { platform: String::new(), ..request.clone() }).await;
    assert_eq!(all.parts.len(), 5, "both platforms, and what they share once: {all:?}");
    let none = town.preheat(wire::PreheatRequest { platform: "linux/s390x".to_owned(), ..request }).await;
    assert!(none.failure.contains("platform"), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_preheated_is_found_with_another_token_and_not_with_a_wrong_one() {
    let town = Town::start(1, 1).await;
    let registry = Registry::start().await;
    let request = wire::PreheatRequest {
        username: "user".to_owned(),
        password: "pass".to_owned(),
        scope: wire::PreheatScope::AllSeedPeers.into(),
        ..image(format!("http://{}/v2/lib/app/manifests/v1", registry.address), "linux/arm64")
    };
    let job = town.preheat(request).await;
    assert_eq!(job.state(), wire::JobState::Succeeded, "{job:?}");
    let is_layer = |digest: &&String| registry.image.blobs[*digest].len() == 200_000;
    let digest = job.parts.iter().map(|part| &part.digest).find(is_layer).expect("the layer of its platform").clone();
    let blob = &registry.image.blobs[&digest];
    let url = format!("http://{}/v2/lib/app/blobs/{digest}", registry.address);
    let wish = |token: Option<&str>| {
        let header = token.map(|token| ("Authorization".to_owned(), token.to_owned())).into_iter().collect();
        let meta = UrlMeta { digest: digest.clone(), header, ..Default::default() };
        Wish { meta, ..Wish::default() }
    };
    let peer = town.cluster.daemons.len() - 1;
    for token in [Some("Bearer wrong"), None] {
        let refused = town.daemon(peer).download(&url, wish(token)).await.unwrap_err();
        assert_eq!(refused.code, Code::Auth, "{token:?}: {refused:?}");
    }
    let downloaded = town.daemon(peer).download(&url, wish(Some("Bearer another"))).await.unwrap();
    assert!(downloaded.bytes == *blob);
    let tally = downloaded.last.tally.unwrap();
    assert_eq!((tally.origin_bytes, tally.seed_bytes), (0, blob.len() as u64), "from the seed that was preheated");
    // It is here now, and still not for everybody.
    let refused = town.daemon(peer).download(&url, wish(Some("Bearer wrong"))).await.unwrap_err();
    assert_eq!(refused.code, Code::Auth, "{refused:?}");
}

/// Debian's docker-registry, on loopback.
struct Real {
    _child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Real {
    /// `None` if it is not installed.
    async fn start() -> Option<Self> {
        // It cannot be given port 0 and say which it got.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = json!({
            "version": 0.1,
            "storage": { "filesystem": { "rootdirectory": dir.path().join("data") } },
            "http": { "addr": address.to_string() },
            "log": { "level": "error" },
        });
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().ok()?;
        until("docker-registry listens", || async { TcpStream::connect(address).await.ok() }).await;
        Some(Self { _child: child, address, _dir: dir })
    }

    async fn send(&self, method: &str, path: &str, media: &str, body: &[u8]) -> (StatusCode, HeaderMap) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("content-type", media)
            .body(Full::new(Bytes::copy_from_slice(body)))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        response.into_body().collect().await.unwrap();
        (status, headers)
    }

    /// Puts an image there, as `docker push` does.
    async fn push(&self, image: &Image) {
        for (digest, bytes) in &image.blobs {
            let (status, headers) = self.send("POST", "/v2/lib/app/blobs/uploads/", "", b"").await;
            assert_eq!(status, StatusCode::ACCEPTED);
            let location = headers[header::LOCATION].to_str().unwrap().to_owned();
            let path = location.split_once(&self.address.to_string()).map_or(location.as_str(), |(_, path)| path);
            let joint = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{joint}digest={digest}");
            let (status, _) = self.send("PUT", &path, "application/octet-stream", bytes).await;
            assert_eq!(status, StatusCode::CREATED);
        }
        let plain = image.manifests.iter().filter(|(name, _)| **name != image.index);
        for (reference, (media, bytes)) in plain.map(|(name, value)| (name.as_str(), value)) {
            let (status, _) = self.send("PUT", &format!("/v2/lib/app/manifests/{reference}"), media, bytes).await;
            assert_eq!(status, StatusCode::CREATED);
        }
        let (media, bytes) = &image.manifests[&image.index];
        assert_eq!(self.send("PUT", "/v2/lib/app/manifests/v1", media, bytes).await.0, StatusCode::CREATED);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_real_registry_is_preheated_and_its_layers_come_from_the_swarm() {
    let Some(registry) = Real::start().await else {
        eprintln!("skipped: docker-registry is not installed (apt install docker-registry)");
        return;
    };
    let image_there = Image::new();
    registry.push(&image_there).await;
    let town = Town::start(1, 1).await;
    let token = format!("Bearer {}", town.manager.token(&["preheat"], 0).await);
    // As Harbor asks for it.
    let body = json!({
        "type": "preheat",
        "args": { "type": "image", "url": format!("http://{}/v2/lib/app/manifests/v1", registry.address),
            "platform": "linux/amd64", "headers": {}, "scope": "all_peers" },
        "scheduler_cluster_ids": null,
    });
    let answer = super::walk::rest(&town.manager, ("POST", "/oapi/v1/jobs"), Some(&token), &body.to_string()).await;
    let id = serde_json::from_str::<Value>(&answer.1).unwrap()["id"].as_u64().unwrap();
    let job = town.finished(id).await;
    assert_eq!((job.state(), job.parts.len()), (wire::JobState::Succeeded, 3), "{job:?}");
    drop(registry);

    // With the registry gone, a layer is still to be had: as the task that the preheat made.
    let layer = job.parts.iter().max_by_key(|part| part.content_length).unwrap();
    let meta = UrlMeta { digest: layer.digest.clone(), ..UrlMeta::default() };
    let wish = Wish { meta, disable_back_source: true, ..Wish::default() };
    let downloaded = town.daemon(1).download(&layer.url, wish).await.unwrap();
    assert_eq!(digest(&downloaded.bytes), layer.digest);
    assert_eq!(downloaded.last.tally.unwrap().local_bytes, 200_000);
    until("the job is listed", || async {
        let view = format!("Bearer {}", town.manager.token(&["view"], 0).await);
        let listed = super::walk::rest(&town.manager, ("GET", "/oapi/v1/jobs?state=SUCCESS"), Some(&view), "").await;
        (serde_json::from_str::<Value>(&listed.1).unwrap()[0]["id"] == id).then_some(())
    })
    .await;
}

//! How an origin is reached: redirects, TLS, proxies, and what the egress rules refuse.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use df_daemons::env::Clock;
use df_daemons::env::disk::RealDisk;
use df_daemons::env::net::{BoxFuture, Conn, Listener, Net};
use df_daemons::peer::source::Egress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

fn with_headers(url: &str, headers: &[(&str, &str)]) -> SourceRequest {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    SourceRequest::new(url, &headers).unwrap().trust(Trust::Local)
}

#[tokio::test]
async fn redirects_are_followed_and_secrets_stay_with_their_origin() {
    let far = Origin::start(Content::random(1, 1000)).await;
    let near = Origin::start(Content::random(2, 10)).await;
    near.inject(Fault::Redirect { path: "/a", status: 302, to: "b?x=1#y".into() });
    near.inject(Fault::Redirect { path: "/b", status: 307, to: far.url() });
    let headers = [
        ("Authorization", "Bearer secret"),
        ("Cookie", "secret"),
        ("X-Api-Key", "secret"),
        ("Private-Token", "secret"),
        ("Host", "virtual.test"),
        ("X-Own", "kept"),
    ];
    let request = with_headers(&near.at("/a"), &headers).range(between(10, 19));
    let (response, bytes) = fetch(&client(quick()), &request).await.unwrap();
    assert_eq!((bytes, response.url.as_str()), (far.bytes()[10..20].to_vec(), far.url().as_str()));

    let [first, second] = &near.seen()[..] else { panic!("two requests") };
    assert_eq!((first.target.as_str(), second.target.as_str()), ("/a", "/b?x=1"));
    assert!(headers.iter().all(|(name, value)| second.header(&name.to_lowercase()) == Some(value)));
    let [third] = &far.seen()[..] else { panic!("one request") };
    assert_eq!((third.header("x-own"), third.header("range")), (Some("kept"), Some("bytes=10-19")));
    assert_eq!(third.header("host"), Some(far.address().to_string().as_str()));
    assert!(third.headers.iter().all(|(_, value)| value != "secret"));
}

#[tokio::test]
async fn a_redirect_loop_ends() {
    let origin = Origin::start(Content::random(3, 10)).await;
    origin.inject(Fault::Redirect { path: "/a", status: 301, to: "/a".into() });
    let error = failure(&client(quick()), &get(&origin.at("/a"))).await;
    assert_eq!((error.kind, origin.stats().requests), (SourceErrorKind::Protocol, 11));
}

#[tokio::test]
async fn certificates_are_checked_unless_told_otherwise() {
    let origin = Origin::start_tls(Content::random(4, 100_000), "localhost").await;
    let strict = client(quick());
    let lax = get(&origin.url()).insecure(true);
    assert_eq!(failure(&strict, &get(&origin.url())).await.kind, SourceErrorKind::Tls);
    assert!(fetch(&strict, &lax).await.unwrap().1 == origin.bytes());
    // The unchecked connection waits in its pool, and is not for those who want it checked.
    assert_eq!(failure(&strict, &get(&origin.url())).await.kind, SourceErrorKind::Tls);

    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, origin.ca_pem()).unwrap();
    let trusting = client(SourceConfig { ca_file: Some(ca_file.clone()), ..quick() });
    assert!(fetch(&trusting, &get(&origin.url())).await.unwrap().1 == origin.bytes());
    let by_address = origin.url().replace("localhost", "127.0.0.1");
    assert_eq!(failure(&trusting, &get(&by_address)).await.kind, SourceErrorKind::Tls);

    for bad in ["", "-----BEGIN CERTIFICATE-----\nAAAA"] {
        std::fs::write(&ca_file, bad).unwrap();
        let refused =
            SourceClient::new(Env::real(None).unwrap(), SourceConfig { ca_file: Some(ca_file.clone()), ..quick() });
        assert_eq!(refused.err().map(|error| error.kind), Some(SourceErrorKind::Usage), "{bad:?}");
    }
}

#[tokio::test]
async fn an_origin_without_tls_is_told_as_such() {
    let origin = Origin::start(Content::random(5, 10)).await;
    let url = origin.url().replace("http:", "https:");
    assert_eq!(failure(&client(quick()), &get(&url).insecure(true)).await.kind, SourceErrorKind::Tls);
}

#[tokio::test]
async fn requests_from_the_network_do_not_reach_loopback_in_any_spelling() {
    let origin = Origin::start(Content::random(6, 10)).await;
    let client = client(quick());
    let port = origin.address().port();
    // A local user's connection waits in its pool, and is not for the network.
    fetch(&client, &get(&origin.url())).await.unwrap();
    for host in
        ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0", "localhost"]
    {
        let url = format!("http://{host}:{port}/dir/file.bin");
        let error = failure(&client, &get(&url).trust(Trust::Network)).await;
        assert_eq!(error.kind, SourceErrorKind::Blocked, "{host}");
    }
    assert_eq!(origin.stats().requests, 1);

    let egress = Egress { allow: vec!["127.0.0.0/8".parse().unwrap()], deny: Vec::new() };
    let allowed = super::client(SourceConfig { egress, ..quick() });
    assert_eq!(fetch(&allowed, &get(&origin.url()).trust(Trust::Network)).await.unwrap().1, origin.bytes());
}

/// A network in which every address leads to one origin, without sockets.
struct Town {
    origin: Origin,
    /// Each look-up of a name takes the next answer; the last one stays.
    names: Mutex<BTreeMap<String, Vec<Vec<SocketAddr>>>>,
    dialled: Mutex<Vec<SocketAddr>>,
    /// Never answers a connect.
    deaf: &'static str,
}

impl Town {
    fn new(origin: Origin, names: &[(&str, &[&[&str]])]) -> Self {
        let answer = |addresses: &&[&str]| addresses.iter().map(|a| SocketAddr::new(a.parse().unwrap(), 80)).collect();
        let names = names.iter().map(|(name, answers)| (name.to_string(), answers.iter().map(answer).collect()));
        Self { origin, names: Mutex::new(names.collect()), dialled: Mutex::default(), deaf: "" }
    }

    fn client(self: &Arc<Self>, config: SourceConfig) -> SourceClient {
        let env = Env::simulated(self.clone(), Arc::new(RealDisk), Clock::with_wall(Duration::ZERO), 1);
        SourceClient::new(env, config).unwrap()
    }

    fn dialled(&self) -> Vec<String> {
        self.dialled.lock().unwrap().iter().map(|address| address.ip().to_string()).collect()
    }
}

impl Net for Town {
    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Listener>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Conn>> {
        self.dialled.lock().unwrap().push(address);
        Box::pin(async move {
            if address.ip().to_string() == self.deaf {
                std::future::pending::<()>().await;
            }
            Ok(Conn::Other(Box::new(self.origin.connect())))
        })
    }

    fn resolve<'a>(&'a self, host: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let mut names = self.names.lock().unwrap();
        let found =
            names.get_mut(host).map(|answers| if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() });
        Box::pin(async move { found.ok_or_else(|| io::Error::other("no such name")) })
    }
}

#[tokio::test]
async fn the_checked_address_is_the_connected_one() {
    let names: [(&str, &[&[&str]]); 1] = [("rebind.test", &[&["10.0.0.1"], &["127.0.0.1"]])];
    let origin = Origin::detached(Content::random(7, 10));
    origin.inject(Fault::CloseHead);
    let town = Arc::new(Town::new(origin, &names));
    let client = town.client(SourceConfig { retry_limit: 1, ..quick() });
    // The second try finds the name pointing elsewhere, and stops there.
    let error = failure(&client, &get("http://rebind.test/").trust(Trust::Network)).await;
    assert_eq!((error.kind, town.dialled()), (SourceErrorKind::Blocked, vec!["10.0.0.1".to_string()]));
}

#[tokio::test]
async fn a_name_with_a_refused_address_is_reached_at_its_others() {
    let names: [(&str, &[&[&str]]); 1] = [("mixed.test", &[&["169.254.169.254", "::1", "10.0.0.1"]])];
    let town = Arc::new(Town::new(Origin::detached(Content::random(8, 10)), &names));
    let request = get("http://mixed.test/dir/file.bin").trust(Trust::Network);
    assert!(fetch(&town.client(quick()), &request).await.is_ok());
    assert_eq!(town.dialled(), ["10.0.0.1"]);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_does_not_answer_leaves_time_for_the_others() {
    let names: [(&str, &[&[&str]]); 1] = [("two.test", &[&["10.0.0.1", "10.0.0.2"]])];
    let town = Town { deaf: "10.0.0.1", ..Town::new(Origin::detached(Content::random(18, 10)), &names) };
    let client = Arc::new(town).client(SourceConfig { retry_limit: 0, ..quick() });
    assert!(fetch(&client, &get("http://two.test/dir/file.bin")).await.is_ok());
}

#[tokio::test]
async fn a_redirect_is_checked_like_the_first_url() {
    let names: [(&str, &[&[&str]]); 2] = [("good.test", &[&["10.0.0.1"]]), ("evil.test", &[&["127.0.0.1"]])];
    for to in ["http://169.254.169.254/latest/meta-data", "http://evil.test/", "http://[::1]/", "//0x7f.1/"] {
        let town = Arc::new(Town::new(Origin::detached(Content::random(9, 10)), &names));
        town.origin.inject(Fault::Redirect { path: "/a", status: 302, to: to.into() });
        let error = failure(&town.client(quick()), &get("http://good.test/a").trust(Trust::Network)).await;
        assert_eq!((error.kind, town.dialled()), (SourceErrorKind::Blocked, vec!["10.0.0.1".to_string()]), "{to}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_connect_failure() {
    let town = Arc::new(Town::new(Origin::detached(Content::random(10, 10)), &[]));
    let error = failure(&town.client(quick()), &get("http://nowhere.test/")).await;
    assert_eq!((error.kind, error.is_retryable()), (SourceErrorKind::Connect, true));
}

#[tokio::test(start_paused = true)]
async fn waits_have_their_limits() {
    let clock = Clock::with_wall(Duration::ZERO);
    let config = SourceConfig { retry_limit: 0, ..SourceConfig::default() };
    let deaf = Town { deaf: "10.0.0.1", ..Town::new(Origin::detached(Content::random(11, 10)), &[]) };
    let error = failure(&Arc::new(deaf).client(config.clone()), &get("http://10.0.0.1/")).await;
    assert_eq!((error.kind, clock.wall().as_secs()), (SourceErrorKind::Connect, 5));

    let town = Arc::new(Town::new(Origin::detached(Content::random(12, 10)), &[]));
    town.origin.inject_once(Fault::StallHead).inject(Fault::StallAt(5));
    let client = town.client(config);
    let error = failure(&client, &get("http://10.0.0.1/dir/file.bin")).await;
    assert_eq!((error.kind, clock.wall().as_secs()), (SourceErrorKind::Timeout, 5 + 35));
    let mut response = client.open(&get("http://10.0.0.1/dir/file.bin")).await.unwrap();
    let (bytes, error) = drain(&mut response).await;
    assert_eq!((bytes.len(), error, clock.wall().as_secs()), (5, Some(SourceErrorKind::Timeout), 40 + 30));
}

#[tokio::test(start_paused = true)]
async fn an_origin_is_asked_again_when_it_said() {
    let clock = Clock::with_wall(Duration::ZERO);
    let town = Arc::new(Town::new(Origin::detached(Content::random(13, 10)), &[]));
    town.origin.inject_once(Fault::Status(503)).inject_once(Fault::Header("Retry-After", "7".into()));
    assert!(fetch(&town.client(SourceConfig::default()), &get("http://10.0.0.1/dir/file.bin")).await.is_ok());
    assert_eq!((clock.wall().as_secs(), town.origin.stats().requests), (7, 2));
}

#[tokio::test]
async fn a_proxy_gets_plain_requests_whole_and_its_credentials() {
    let proxy = Origin::start(Content::random(14, 1000)).await;
    let config = quick().with_proxy(&proxy.at("").replace("http://", "http://me:pw@"), "direct.test").unwrap();
    let request = get("http://origin.test/dir/file.bin?q=1");
    let (_, bytes) = fetch(&client(config), &request).await.unwrap();
    assert_eq!(bytes, proxy.bytes());
    let [seen] = &proxy.seen()[..] else { panic!("one request") };
    assert_eq!(seen.target, "http://origin.test/dir/file.bin?q=1");
    assert_eq!(
        (seen.header("host"), seen.header("proxy-authorization")),
        (Some("origin.test"), Some("Basic bWU6cHc="))
    );
}

/// A proxy that tunnels every connection to `to`; tells the head of each CONNECT.
async fn tunnelling_proxy(to: SocketAddr) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://me:pw@{}", listener.local_addr().unwrap());
    let heads = Arc::new(Mutex::new(Vec::new()));
    let told = heads.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let told = told.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && near.read_buf(&mut head).await.unwrap() > 0 {}
                told.lock().unwrap().push(String::from_utf8(head).unwrap());
                near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                let mut far = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (url, heads)
}

#[tokio::test]
async fn tls_goes_through_a_tunnel() {
    let origin = Origin::start_tls(Content::random(15, 100_000), "origin.test").await;
    let (proxy, heads) = tunnelling_proxy(origin.address()).await;
    let client = client(quick().with_proxy(&proxy, "").unwrap());
    let (_, bytes) = fetch(&client, &get(&origin.url()).insecure(true)).await.unwrap();
    assert!(bytes == origin.bytes());
    let [head] = &heads.lock().unwrap()[..] else { panic!("one tunnel") };
    let target = format!("origin.test:{}", origin.address().port());
    assert!(head.starts_with(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n")), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic bWU6cHc=\r\n"));
    assert!(origin.seen().iter().all(|seen| seen.header("proxy-authorization").is_none()));
}

#[tokio::test]
async fn a_proxy_does_not_get_requests_from_the_network_around_the_egress_rules() {
    let origin = Origin::start(Content::random(16, 100)).await;
    let (proxy, heads) = tunnelling_proxy(origin.address()).await;
    let client = client(quick().with_proxy(&proxy, "").unwrap());
    let request = |host: &str| get(&format!("http://{host}/dir/file.bin")).trust(Trust::Network);
    for host in ["127.0.0.1", "localhost", "169.254.169.254"] {
        assert_eq!(failure(&client, &request(host)).await.kind, SourceErrorKind::Blocked, "{host}");
    }
    assert!(heads.lock().unwrap().is_empty());
    // Where it may go, the proxy is told the address that was checked.
    assert_eq!(fetch(&client, &request("10.1.2.3")).await.unwrap().1, origin.bytes());
    assert!(heads.lock().unwrap()[0].starts_with("CONNECT 10.1.2.3:80 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn hosts_that_need_no_proxy_are_reached_directly() {
    let origin = Origin::start(Content::random(17, 100)).await;
    let client = client(quick().with_proxy("http://127.0.0.1:1", "127.0.0.1").unwrap());
    assert_eq!(fetch(&client, &get(&origin.url())).await.unwrap().1, origin.bytes());
}

#[test]
fn a_mistyped_proxy_does_not_become_none() {
    for proxy in ["", "socks5://127.0.0.1:1", "http://", "ftp://h", "a b"] {
        assert_eq!(
            quick().with_proxy(proxy, "").err().map(|error| error.kind),
            Some(SourceErrorKind::Usage),
            "{proxy:?}"
        );
    }
    assert!(quick().with_proxy("proxy.test:3128", "").is_ok());
}

//! The piece port as strangers use it: raw bytes over a socket, good, malformed, endless and silent.

mod silence;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::cluster::{Cluster, LIMIT, Wish};
use crate::origin::{Content, Origin};

const MIB: usize = 1 << 20;

/// A daemon that holds a content of 1 MiB in pieces of 64 KiB.
struct Holder {
    cluster: Cluster,
    bytes: Vec<u8>,
    task: String,
}

/// An answer's status, headers in lower case, and body.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Holder {
    async fn start() -> Self {
        let cluster = Cluster::start(0, 1).await;
        let origin = Origin::start(Content::random(1, MIB)).await;
        let wish = Wish { piece_length: 64 << 10, ..Wish::default() };
        let downloaded = cluster.daemons[0].download(&origin.url(), wish).await.unwrap();
        Self { bytes: downloaded.bytes, task: downloaded.last.task_id, cluster }
    }

    fn address(&self) -> SocketAddr {
        self.cluster.daemons[0].pieces
    }

    /// The path of the content, as `curl` would be given it.
    fn path(&self) -> String {
        format!("/download/{}/{}?peerId=x", &self.task[..3], self.task)
    }

    fn open(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// Sends bytes on a connection of their own and reads all answers.
    fn send(&self, request: &[u8]) -> Vec<Reply> {
        let mut stream = self.open();
        // Who is refused in the middle of a long request may find the connection closed.
        let _ = stream.write_all(request);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        replies(&answer)
    }

    /// The answer to a GET with headers, each with its line end.
    fn ask(&self, path: &str, headers: &str) -> Reply {
        let mut replies = self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes());
        assert_eq!(replies.len(), 1, "{path} {headers}");
        replies.remove(0)
    }

    /// Refused with a 4xx, and the daemon still serves.
    fn expect_refusal(&self, request: &[u8]) {
        let shown = String::from_utf8_lossy(&request[..request.len().min(100)]).into_owned();
        let replies = self.send(request);
        assert!(replies.first().is_some_and(|reply| (400..500).contains(&reply.status)), "{shown:?}: {replies:?}");
        assert!(replies.iter().all(|reply| reply.body.is_empty()), "{shown:?}: {replies:?}");
        self.expect_service();
    }

    fn expect_service(&self) {
        let reply = self.ask(&self.path(), "Range: bytes=70000-70009\r\n");
        assert_eq!((reply.status, &reply.body[..]), (206, &self.bytes[70_000..70_010]));
    }
}

/// All answers in the bytes of a connection, which end with an answer's end.
fn replies(mut bytes: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head") + 4;
        let headers = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        let len = headers
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |value| value.parse::<usize>().unwrap());
        // (The answer to a HEAD promises the length of a body that is not there.)
        let (body, rest) = bytes[end..].split_at(len.min(bytes.len() - end));
        replies.push(Reply { status, headers, body: body.to_vec() });
        bytes = rest;
    }
    replies
}

#[tokio::test(flavor = "multi_thread")]
async fn anyone_can_look_at_a_piece_as_with_curl() {
    let holder = Holder::start().await;
    // What `curl -r 0-99 URL` sends.
    let reply = holder.ask(&holder.path(), "User-Agent: curl/8.5.0\r\nAccept: */*\r\nRange: bytes=0-99\r\n");
    assert_eq!((reply.status, &reply.body[..]), (206, &holder.bytes[..100]));
    assert!(reply.headers.contains(&format!("content-range: bytes 0-99/{MIB}\r\n")), "{}", reply.headers);
    // Across pieces, to the end, beyond it, and the whole.
    let table = [
        ("bytes=65530-65541", 206, 65_530..65_542),
        ("bytes=1048570-", 206, 1_048_570..MIB),
        ("bytes=1048575-99999999", 206, MIB - 1..MIB),
    ];
    for (range, status, bytes) in table {
        let reply = holder.ask(&holder.path(), &format!("Range: {range}\r\n"));
        assert_eq!((reply.status, &reply.body[..]), (status, &holder.bytes[bytes]), "{range}");
    }
    let whole = holder.ask(&holder.path(), "");
    assert!(whole.status == 200 && whole.body == holder.bytes);
    let head = holder.send(format!("HEAD {} HTTP/1.1\r\nHost: x\r\n\r\n", holder.path()).as_bytes());
    assert!(head[0].status == 200 && head[0].body.is_empty(), "{head:?}");
    assert!(head[0].headers.contains(&format!("content-length: {MIB}\r\n")), "{head:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tob_6_no_malformed_task_id_does_more_than_be_refused() {
    let holder = Holder::start().await;
    let (task, other) = (&holder.task, "0".repeat(64));
    let long = "a".repeat(5000);
    let paths = [
        "/download/".to_owned(),
        "/download//".to_owned(),
        "/download/a".to_owned(),
        "/download/a/a".to_owned(),
        "/download/ab/ab".to_owned(),
        "/download/abc/abc".to_owned(),
        format!("/download/{}/{}", &task[..3], &task[..63]),
        format!("/download/{}/{task}0", &task[..3]),
        format!("/download/{}/{}", &task[..3], task.to_uppercase().replace(['0', '1'], "G")),
        format!("/download/{}/{task}", &task[1..4]),
        format!("/download/{}/{task}/..", &task[..3]),
        format!("/download/../download/{}/{task}", &task[..3]),
        "/download/../../../../etc/passwd".to_owned(),
        "/download/..%2f..%2fetc%2fpasswd/x".to_owned(),
        "/download/%2e%2e/%2e%2e%2f%2e%2e".to_owned(),
        "/download/.../...".to_owned(),
        format!("/download/{}%00/{task}%00", &task[..3]),
        format!("/download/{}/{}\u{430}", &task[..3], &task[..63]),
        format!("/download/\u{430}\u{431}\u{432}/{}", "\u{430}".repeat(32)),
        format!("/download/abc/{long}"),
        format!("/download/000/{other}"),
        format!("//download/{}/{task}", &task[..3]),
        format!("http://127.0.0.1/download/{}/{task}", &task[..3]),
        "*".to_owned(),
    ];
    for path in paths {
        holder.expect_refusal(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    }
    let nul = [b"GET /download/".as_slice(), &task.as_bytes()[..3], b"/\0 HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
    holder.expect_refusal(&nul);
}

#[tokio::test(flavor = "multi_thread")]
async fn tob_10_a_range_is_taken_as_a_whole_or_refused() {
    let holder = Holder::start().await;
    let table = [
        ("bytes=", 400),
        ("sebytes=1-2", 400),
        ("setybbytes=1-2", 400),
        ("bytes=bytes=1-2", 400),
        ("=1-2", 400),
        ("1-2", 400),
        ("lines=1-2", 400),
        ("bytes=-", 400),
        ("bytes=--1", 400),
        ("bytes=1--2", 400),
        ("bytes=-1-2", 400),
        ("bytes=0x0-0x9", 400),
        ("bytes=+1-+2", 400),
        ("bytes=1-2-3", 400),
        ("bytes=\u{0661}-\u{0662}", 400),
        ("bytes=-5", 416),
        ("bytes=0-1,3-4", 416),
        ("bytes=5-4", 416),
        ("bytes=1048576-", 416),
        ("bytes=1048576-1048577", 416),
        ("bytes=0-18446744073709551615", 416),
        ("bytes=18446744073709551615-", 416),
        ("bytes=18446744073709551616-18446744073709551617", 416),
        ("bytes=99999999999999999999999999999999999999-", 416),
    ];
    for (range, status) in table {
        let reply = holder.ask(&holder.path(), &format!("Range: {range}\r\n"));
        assert_eq!((reply.status, reply.body.len()), (status, 0), "{range}");
    }
    let twice = holder.ask(&holder.path(), "Range: bytes=0-1\r\nRange: bytes=2-3\r\n");
    assert_eq!(twice.status, 400);
    holder.expect_service();
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_without_end_are_refused() {
    let holder = Holder::start().await;
    let (path, long) = (holder.path(), "a".repeat(100_000));
    for request in [
        format!("GET /{long} HTTP/1.1\r\n\r\n"),
        format!("GET {path}&{long} HTTP/1.1\r\n\r\n"),
        format!("{long} {path} HTTP/1.1\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nX: {long}\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\n{long}: x\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65)),
        format!("GET {path} HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100_000)),
        long,
    ] {
        holder.expect_refusal(request.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_no_get_is_refused() {
    let holder = Holder::start().await;
    let path = holder.path();
    for method in ["POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "get", "GETT", "X-\u{fc}"] {
        holder.expect_refusal(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    }
    for request in [
        format!("GET {path} HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"),
        format!("GET {path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("GET {path} HTTP/9.9\r\n\r\n"),
        format!("GET {path}\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}".to_owned(),
        "\0\0\0\0".to_owned(),
    ] {
        holder.expect_refusal(request.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_at_once_are_answered_in_order_until_one_is_bad() {
    let holder = Holder::start().await;
    let path = holder.path();
    let good = |first: usize| format!("GET {path} HTTP/1.1\r\nHost: x\r\nRange: bytes={first}-{}\r\n\r\n", first + 9);
    let firsts = [500_000, 0, 65_530, 1_048_566];
    let replies = holder.send(firsts.map(good).concat().as_bytes());
    let bodies: Vec<&[u8]> = replies.iter().map(|reply| &reply.body[..]).collect();
    assert_eq!(bodies, firsts.map(|first| &holder.bytes[first..first + 10]));

    // An unknown task is answered and the connection goes on; after nonsense it does not.
    let absent = format!("GET /download/000/{} HTTP/1.1\r\nHost: x\r\n\r\n", "0".repeat(64));
    let replies = holder.send([good(5), absent, good(6), "NONSENSE\r\n\r\n".to_owned(), good(7)].concat().as_bytes());
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [206, 404, 206, 400]);

    let last = format!("GET {path} HTTP/1.1\r\nConnection: close\r\nRange: bytes=0-0\r\n\r\n");
    assert_eq!(holder.send([last, good(1)].concat().as_bytes()).len(), 1, "nothing after a close");
    holder.expect_service();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_half_a_request_keeps_nobody_else_waiting() {
    let holder = Holder::start().await;
    let silent: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut stream = holder.open();
            stream.write_all(&b"GET /download/ab HTTP/1.1\r\nHost: x\r\nRange"[..number % 40]).unwrap();
            stream
        })
        .collect();
    holder.expect_service();
    // Who reads nothing of an answer does not either.
    let deaf: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = holder.open();
            stream.write_all(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", holder.path()).as_bytes()).unwrap();
            stream
        })
        .collect();
    holder.expect_service();
    drop((silent, deaf));
    holder.expect_service();
}

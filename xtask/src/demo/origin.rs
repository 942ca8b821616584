//! The demonstration's source: an HTTP/1.1 server for one file, with ranges, that counts what it sends.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use serde::Serialize;

use super::background;

/// Where the file is.
const PATH: &str = "/demo.bin";

/// Longest request head.
const HEAD_LIMIT: u64 = 16 << 10;

/// Bytes read from the file and written at once.
const CHUNK_LEN: u64 = 128 << 10;

/// A running source. Nothing ends it but the end of the process.
pub(super) struct Origin {
    address: SocketAddr,
    books: Arc<Books>,
}

/// What a source has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub(super) struct Sent {
    pub(super) connections: u64,
    pub(super) requests: u64,
    /// Bytes of the file handed to the kernel.
    pub(super) bytes: u64,
}

#[derive(Default)]
struct Books {
    connections: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Origin {
    /// Serves a file on a free port of the loopback address.
    ///
    /// # Errors
    /// When there is no port or no thread to be had.
    pub(super) fn start(file: &Path) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on the loopback address")?;
        let (address, books) = (listener.local_addr()?, Arc::new(Books::default()));
        let (counts, file) = (books.clone(), file.to_path_buf());
        background("origin", move || {
            for stream in listener.incoming().map_while(io::Result::ok) {
                let (counts, file) = (counts.clone(), file.clone());
                counts.connections.fetch_add(1, Ordering::Relaxed);
                // A client that goes away and a thread that is not to be had end one connection.
                let _ = background("origin connection", move || drop(serve(&stream, &file, &counts)));
            }
        })?;
        Ok(Self { address, books })
    }

    /// The URL of the file.
    pub(super) fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Counts so far.
    pub(super) fn sent(&self) -> Sent {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Books { connections, requests, bytes } = &*self.books;
        Sent { connections: load(connections), requests: load(requests), bytes: load(bytes) }
    }
}

/// Answers the requests of one connection until it ends.
fn serve(stream: &TcpStream, path: &PathBuf, counts: &Books) -> io::Result<()> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        counts.requests.fetch_add(1, Ordering::Relaxed);
        let (head, first, end) = request.answer(len);
        let mut stream = stream;
        stream.write_all(head.as_bytes())?;
        send(stream, &file, first, end, counts)?;
    }
    Ok(())
}

fn send(mut stream: &TcpStream, file: &File, mut at: u64, end: u64, counts: &Books) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_LEN.min(end - at) as usize];
    while at < end {
        let wanted = (end - at).min(CHUNK_LEN) as usize;
        let chunk = &mut chunk[..wanted];
        file.read_exact_at(chunk, at)?;
        let sent = stream.write(chunk)?;
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        counts.bytes.fetch_add(sent as u64, Ordering::Relaxed);
        at += sent as u64;
    }
    Ok(())
}

/// As much of a request as matters here.
#[derive(PartialEq, Eq, Default, Debug)]
struct Request {
    method: String,
    path: String,
    range: Option<String>,
}

/// The next request; `None` at the end of the connection.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut head = reader.take(HEAD_LIMIT);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request { method, path, range: None };
    loop {
        let mut line = String::new();
        match head.read_line(&mut line)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if line.trim().is_empty() => return Ok(Some(request)),
            _ => {}
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            request.range = Some(value.trim().to_owned());
        }
    }
}

impl Request {
    /// The head of the answer, and the first byte of the file in its body and the one after the last.
    fn answer(&self, len: u64) -> (String, u64, u64) {
        let none = |status: &str| (format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"), 0, 0);
        if !matches!(&*self.method, "GET" | "HEAD") {
            return none("405 Method Not Allowed");
        }
        if self.path != PATH {
            return none("404 Not Found");
        }
        let common = |len| {
            format!(
                "Content-Length: {len}\r\nContent-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\nETag: \"demo\"\r\n"
            )
        };
        let (head, first, end) = match self.range.as_deref().map(|range| within(range, len)) {
            None => (format!("HTTP/1.1 200 OK\r\n{}\r\n", common(len)), 0, len),
            Some(Some((first, end))) => {
                let content_range = format!("Content-Range: bytes {first}-{}/{len}\r\n", end - 1);
                (format!("HTTP/1.1 206 Partial Content\r\n{}{content_range}\r\n", common(end - first)), first, end)
            }
            Some(None) => {
                let content_range = format!("Content-Range: bytes */{len}\r\n");
                let head = format!("HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n{content_range}\r\n");
                return (head, 0, 0);
            }
        };
        if self.method == "HEAD" { (head, 0, 0) } else { (head, first, end) }
    }
}

/// The bytes that a single range names in a file of this length: the first and the one after the
/// last. `None` if there are none.
fn within(range: &str, len: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, end) = match (first, last) {
        ("", suffix) => (len.saturating_sub(suffix.parse().ok()?), len),
        (first, "") => (first.parse().ok()?, len),
        (first, last) => (first.parse().ok()?, last.parse::<u64>().ok()?.saturating_add(1).min(len)),
    };
    (first < end).then_some((first, end))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::{Origin, Sent, within};

    #[test]
    fn ranges_are_cut_to_the_file() {
        let table = [
            ("bytes=0-", Some((0, 10))),
            ("bytes=3-5", Some((3, 6))),
            ("bytes=3-18446744073709551615", Some((3, 10))),
            ("bytes=-4", Some((6, 10))),
            ("bytes=-40", Some((0, 10))),
            ("bytes=10-", None),
            ("bytes=5-3", None),
            ("bytes=-0", None),
            ("bytes=0-1,3-4", None),
            ("lines=1-2", None),
        ];
        for (range, bytes) in table {
            assert_eq!(within(range, 10), bytes, "{range}");
        }
        assert_eq!(within("bytes=0-", 0), None);
    }

    #[test]
    fn it_answers_one_request_after_another_and_counts_what_it_sent() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"0123456789").unwrap();
        let origin = Origin::start(&file).unwrap();
        let mut stream = TcpStream::connect(origin.address).unwrap();
        for (head, wanted) in [
            ("GET /demo.bin HTTP/1.1\r\n", "HTTP/1.1 200 OK"),
            ("GET /demo.bin HTTP/1.1\r\nRANGE: bytes=2-4\r\n", "HTTP/1.1 206 Partial Content"),
            ("GET /demo.bin HTTP/1.1\r\nRange: bytes=10-\r\n", "HTTP/1.1 416 Range Not Satisfiable"),
            ("HEAD /demo.bin HTTP/1.1\r\n", "HTTP/1.1 200 OK"),
            ("GET /other HTTP/1.1\r\n", "HTTP/1.1 404 Not Found"),
            ("POST /demo.bin HTTP/1.1\r\n", "HTTP/1.1 405 Method Not Allowed"),
        ] {
            stream.write_all(format!("{head}Host: x\r\n\r\n").as_bytes()).unwrap();
            let mut answer = String::new();
            while !answer.contains("\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                answer.push(byte[0] as char);
            }
            assert!(answer.starts_with(wanted), "{head} {answer}");
            let len = if head.starts_with("HEAD") { 0 } else { body_len(&answer) };
            let mut body = vec![0; len];
            stream.read_exact(&mut body).unwrap();
            assert!(b"0123456789".ends_with(&body) || body == b"234", "{head}");
        }
        assert_eq!(origin.sent(), Sent { connections: 1, requests: 6, bytes: 13 });
    }

    fn body_len(head: &str) -> usize {
        let value = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        value.unwrap().parse().unwrap()
    }
}

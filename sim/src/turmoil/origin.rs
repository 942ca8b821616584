//! The origin of all contents: a small HTTP/1.1 server that is good, or bad in the manner it is told.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_daemons::env::net::{Conn, Listener, Remote};
use df_daemons::sync::lock;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

use super::content;
use super::fault::Manner;
use super::net::now_us;
use super::scenario::Content;

/// Where it listens.
pub const PORT: u16 = 80;

/// What it is called.
pub const NAME: &str = "origin.test";

/// How long a slow head takes.
const SLOW_HEAD: Duration = Duration::from_secs(4);

/// How long a stalled answer stays open.
const STALL: Duration = Duration::from_secs(40);

/// Longest request head read, in bytes.
const HEAD_LIMIT: usize = 16 * 1024;

/// All contents and what was asked of them.
pub struct Shelf {
    contents: Vec<Item>,
    is_down: bool,
    requests: Vec<Asked>,
    /// Requests being answered, by host.
    open: BTreeMap<IpAddr, u32>,
    most_open: BTreeMap<IpAddr, u32>,
    /// When each host asked, in microseconds of the run.
    asks: BTreeMap<IpAddr, Vec<u64>>,
}

struct Item {
    content: Content,
    versions: Vec<Arc<Vec<u8>>>,
    manner: Manner,
}

/// A request that was answered, at least in part.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Who asked.
    pub by: IpAddr,
    /// For what.
    pub content: u32,
    /// Bytes of the content that were sent.
    pub bytes: u64,
}

impl Shelf {
    /// These contents, in their first versions.
    pub fn new(contents: &[Content]) -> Self {
        let item = |(number, content): (u32, &Content)| Item {
            versions: vec![Arc::new(content::bytes("origin", number, 0, content.len))],
            content: content.clone(),
            manner: Manner::Good,
        };
        Self {
            contents: (0..).zip(contents).map(item).collect(),
            is_down: false,
            requests: Vec::new(),
            open: BTreeMap::new(),
            most_open: BTreeMap::new(),
            asks: BTreeMap::new(),
        }
    }

    /// Another version takes a content's place: of the same length, which is harder to notice, then of another.
    pub fn change(&mut self, number: u32) {
        if let Some(item) = self.contents.get_mut(number as usize) {
            let version = item.versions.len() as u32;
            let len = item.content.len + u64::from(version / 2 % 2);
            item.versions.push(Arc::new(content::bytes("origin", number, version, len)));
        }
    }

    /// From now on a content is served like this.
    pub fn set_manner(&mut self, number: u32, manner: Manner) {
        if let Some(item) = self.contents.get_mut(number as usize) {
            item.manner = manner;
        }
    }

    /// Whether it answers at all.
    pub const fn set_down(&mut self, is_down: bool) {
        self.is_down = is_down;
    }

    /// All versions a content has had.
    pub fn versions(&self, number: u32) -> &[Arc<Vec<u8>>] {
        self.contents.get(number as usize).map_or(&[], |item| &item.versions)
    }

    /// What was asked.
    pub fn requests(&self) -> &[Asked] {
        &self.requests
    }

    /// The most requests of one host that were answered at once.
    pub fn most_open(&self, host: IpAddr) -> u32 {
        self.most_open.get(&host).copied().unwrap_or(0)
    }

    /// The most requests of one host in any stretch of this length.
    pub fn most_asked(&self, host: IpAddr, stretch: Duration) -> usize {
        let asks = self.asks.get(&host).map_or(&[][..], Vec::as_slice);
        let stretch_us = u64::try_from(stretch.as_micros()).unwrap_or(u64::MAX);
        let from = |end: usize| asks.partition_point(|at| at + stretch_us < asks[end]);
        (0..asks.len()).map(|end| end + 1 - from(end)).max().unwrap_or(0)
    }

    /// Where a content is to be had.
    pub fn url(number: u32, content: &Content) -> String {
        let shelf = if content.is_redirected { "moved" } else { "content" };
        format!("http://{NAME}/{shelf}/{number}")
    }
}

/// Serves until its host is killed.
pub async fn serve(shelf: Arc<Mutex<Shelf>>, mut listener: Listener) {
    while let Ok((conn, remote)) = listener.accept().await {
        let Remote::Tcp(from) = remote else { continue };
        let shelf = shelf.clone();
        tokio::spawn(async move {
            let mut conn = conn;
            while answer(&shelf, &mut conn, from.ip()).await.unwrap_or(false) {}
            let _ = conn.shutdown().await;
        });
    }
}

/// What a request asks for.
struct Request {
    number: u32,
    is_moved: bool,
    range: Option<(u64, Option<u64>)>,
    if_match: Option<String>,
}

async fn read(conn: &mut Conn) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if bytes.len() > HEAD_LIMIT || conn.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let mut parts = target.trim_start_matches('/').split('/');
    let is_moved = parts.next() == Some("moved");
    let number = parts.next().and_then(|part| part.parse().ok()).unwrap_or(u32::MAX);
    let header = |name: &str| {
        let mut found = text.lines().skip(1).filter_map(|line| line.split_once(": "));
        found.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let range = header("range").and_then(|value| {
        let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()))
    });
    Ok(Some(Request { number, is_moved, range, if_match: header("if-match") }))
}

/// A content as it is to be answered now.
struct Answer {
    content: Content,
    bytes: Arc<Vec<u8>>,
    etag: String,
    manner: Manner,
}

fn look(shelf: &Mutex<Shelf>, number: u32) -> Option<Answer> {
    let shelf = lock(shelf);
    let item = shelf.contents.get(number as usize)?;
    let bytes = item.versions.last()?.clone();
    let etag = format!("\"{number}-{}\"", item.versions.len());
    Some(Answer { content: item.content.clone(), bytes, etag, manner: item.manner })
}

async fn say(conn: &mut (impl AsyncWrite + Unpin), status: &str, more: &str) -> io::Result<bool> {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{more}\r\n");
    conn.write_all(text.as_bytes()).await?;
    conn.flush().await.map(|()| true)
}

/// Answers a request; whether the connection goes on.
async fn answer(shelf: &Mutex<Shelf>, conn: &mut Conn, by: IpAddr) -> io::Result<bool> {
    let Some(request) = read(conn).await? else { return Ok(false) };
    {
        let mut books = lock(shelf);
        books.asks.entry(by).or_default().push(now_us());
        if books.is_down {
            return Ok(false);
        }
    }
    let Some(found) = look(shelf, request.number) else { return say(conn, "404 Not Found", "").await };
    match found.manner {
        Manner::NotFound => return say(conn, "404 Not Found", "").await,
        Manner::Unavailable => return say(conn, "503 Service Unavailable", "").await,
        Manner::TooMany => return say(conn, "429 Too Many Requests", "Retry-After: 1\r\n").await,
        Manner::RedirectLoop => {
            return say(conn, "302 Found", &format!("Location: /moved/{}\r\n", request.number)).await;
        }
        Manner::SlowHead => sleep(SLOW_HEAD).await,
        _ => {}
    }
    if request.is_moved {
        return say(conn, "302 Found", &format!("Location: /content/{}\r\n", request.number)).await;
    }
    if request.if_match.as_ref().is_some_and(|tag| found.content.has_etag && *tag != found.etag) {
        return say(conn, "412 Precondition Failed", "").await;
    }
    let _open = Open::new(shelf, by);
    // Who goes away in the middle is noticed at once, however long the queue before the next bytes is.
    let (mut from, mut to) = tokio::io::split(conn);
    tokio::select! {
        biased;
        ended = body(shelf, &mut to, &request, &found, by) => ended,
        _ = from.read_u8() => Ok(false),
    }
}

/// A request that is being answered.
struct Open<'a>(&'a Mutex<Shelf>, IpAddr);

impl<'a> Open<'a> {
    fn new(shelf: &'a Mutex<Shelf>, by: IpAddr) -> Self {
        let mut books = lock(shelf);
        let now = {
            let open = books.open.entry(by).or_default();
            *open += 1;
            *open
        };
        let most = books.most_open.entry(by).or_default();
        *most = now.max(*most);
        drop(books);
        Self(shelf, by)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(open) = lock(self.0).open.get_mut(&self.1) {
            *open -= 1;
        }
    }
}

async fn body(
    shelf: &Mutex<Shelf>,
    conn: &mut (impl AsyncWrite + Unpin),
    request: &Request,
    found: &Answer,
    by: IpAddr,
) -> io::Result<bool> {
    let len = found.bytes.len() as u64;
    let is_ranged = found.content.is_ranged && found.manner != Manner::IgnoresRange;
    let asked =
        request.range.filter(|_| is_ranged).map(|(first, last)| (first, last.map_or(len, |last| last + 1).min(len)));
    if asked.is_some_and(|(from, to)| from >= to) {
        return say(conn, "416 Range Not Satisfiable", &format!("Content-Range: bytes */{len}\r\n")).await;
    }
    let (from, to) = asked.unwrap_or((0, len));
    let mut head = match asked {
        Some(_) => {
            let shift = u64::from(found.manner == Manner::WrongRange);
            format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {}-{}/{len}\r\n",
                from + shift,
                to - 1 + shift
            )
        }
        None => "HTTP/1.1 200 OK\r\n".to_owned(),
    };
    if found.content.has_etag {
        head += &format!("ETag: {}\r\n", found.etag);
    }
    if is_ranged {
        head += "Accept-Ranges: bytes\r\n";
    }
    // Only of a range is it known what is missing.
    let ends_early = found.manner == Manner::EndsEarly && asked.is_some();
    let is_chunked = !found.content.has_length || ends_early;
    head += &if is_chunked {
        "Transfer-Encoding: chunked\r\n\r\n".to_owned()
    } else {
        format!("Content-Length: {}\r\n\r\n", to - from)
    };
    conn.write_all(head.as_bytes()).await?;
    let whole = &found.bytes[from as usize..to as usize];
    let is_cut = matches!(found.manner, Manner::Truncated | Manner::Stalled);
    let sent = if is_cut || ends_early { &whole[..whole.len() / 2] } else { whole };
    for chunk in sent.chunks(1024) {
        lock(shelf).requests.push(Asked { by, content: request.number, bytes: chunk.len() as u64 });
        if is_chunked {
            conn.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
        }
        conn.write_all(chunk).await?;
        if is_chunked {
            conn.write_all(b"\r\n").await?;
        }
    }
    conn.flush().await?;
    if found.manner == Manner::Stalled {
        sleep(STALL).await;
    }
    if is_chunked && !is_cut {
        conn.write_all(b"0\r\n\r\n").await?;
        conn.flush().await?;
    }
    Ok(!is_cut)
}

//! A Dragonfly v1 peer played from its side of the wire: generated messages, sockets and nothing of our
//! own client code.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use df_api::base::Code;
use df_daemons::digest::{Algorithm, Digest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::parent;
use super::wire::{
    AnnounceTaskRequest, Caller, DestPeer, Empty, HostLoad, PeerHost, PeerPacket, PeerResult, PeerTarget,
    PeerTaskRequest, PieceInfo, PiecePacket, PieceResult, PieceTaskRequest, RegisterResult, UrlMeta,
};
use crate::cluster::LIMIT;

/// The length of v1's pieces below 200 MiB.
pub(crate) const PIECE_LEN: usize = 4 << 20;

const END_OF_PIECE: i32 = 1 << 30;

/// What v2.0.3 says of its host in every registration and report.
const LOAD: HostLoad = HostLoad { cpu_ratio: 0.5, mem_ratio: 0.25, disk_ratio: 0.125 };

/// What a peer has, as its own servers show it.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) pieces: BTreeMap<i32, Vec<u8>>,
    pub(crate) content_len: Option<u64>,
    /// Whether it sends other bytes than it announces.
    pub(crate) is_liar: bool,
    /// Bytes of pieces it has sent.
    pub(crate) sent_bytes: u64,
    /// Connections it was dialled on, whatever came of them.
    pub(crate) connections: usize,
}

/// One v1 peer in one task.
pub(crate) struct V1Peer {
    pub(crate) task_id: String,
    pub(crate) peer_id: String,
    pub(crate) host: PeerHost,
    pub(crate) url: String,
    pub(crate) meta: UrlMeta,
    pub(crate) shelf: Arc<Mutex<Shelf>>,
    pub(crate) scheduler: Caller,
    /// Piece bytes by the parent they came from.
    pub(crate) got: BTreeMap<String, u64>,
}

/// An open stream of reports.
pub(crate) struct Reports {
    pub(crate) sender: mpsc::Sender<PieceResult>,
    pub(crate) packets: Streaming<PeerPacket>,
}

pub(crate) fn shelf(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap()
}

/// A channel to a TCP address.
pub(crate) fn channel(address: &str) -> Channel {
    let target = address.to_owned();
    let connector = tower::service_fn(move |_| {
        let target = target.clone();
        async move { TcpStream::connect(target).await.map(TokioIo::new) }
    });
    df_api::dial::channel(address, connector).unwrap()
}

/// Waits, but not for ever.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LIMIT, what).await.expect("it hangs")
}

pub(crate) fn md5(bytes: &[u8]) -> String {
    Digest::of(Algorithm::Md5, bytes).to_string().trim_start_matches("md5:").to_owned()
}

/// The content of a URL, asked for in the plainest way.
pub(crate) async fn fetch(address: &str, path: &str, headers: &str) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.map_err(|error| error.to_string())?);
    }
    let head = String::from_utf8(head).map_err(|error| error.to_string())?.to_ascii_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length:")).ok_or("no length")?;
    let mut body = vec![0; len.trim().parse().map_err(|_| "no length")?];
    stream.read_exact(&mut body).await.map_err(|error| error.to_string())?;
    if head.starts_with("http/1.1 200") || head.starts_with("http/1.1 206") { Ok(body) } else { Err(head) }
}

impl V1Peer {
    /// A peer with its servers running that has done nothing yet. Its task id is what v1 computes for a
    /// URL without anything else.
    pub(crate) async fn start(scheduler: SocketAddr, url: &str, name: &str) -> Self {
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let task_id =
            Digest::of(Algorithm::Sha256, url.as_bytes()).to_string().trim_start_matches("sha256:").to_owned();
        let peer_id = format!("127.0.0.1-77-{name}");
        let (rpc, pieces) = parent::serve(shelf.clone(), task_id.clone(), peer_id.clone()).await;
        Self {
            host: PeerHost {
                id: format!("{name}-{}", rpc.port()),
                ip: "127.0.0.1".to_owned(),
                rpc_port: rpc.port().into(),
                down_port: pieces.port().into(),
                host_name: name.to_owned(),
                ..PeerHost::default()
            },
            task_id,
            peer_id,
            url: url.to_owned(),
            meta: UrlMeta::default(),
            shelf,
            scheduler: Caller(channel(&scheduler.to_string())),
            got: BTreeMap::new(),
        }
    }

    pub(crate) async fn register(&mut self) -> Result<RegisterResult, Status> {
        let request = PeerTaskRequest {
            url: self.url.clone(),
            url_meta: Some(self.meta.clone()),
            peer_id: self.peer_id.clone(),
            peer_host: Some(self.host.clone()),
            host_load: Some(LOAD),
            is_migrating: false,
            pattern: 0,
            task_id: self.task_id.clone(),
        };
        self.scheduler.ask("/scheduler.Scheduler/RegisterPeerTask", request).await
    }

    pub(crate) fn report(&self, piece_num: i32) -> PieceResult {
        PieceResult {
            task_id: self.task_id.clone(),
            src_pid: self.peer_id.clone(),
            piece_info: Some(PieceInfo { piece_num, ..PieceInfo::default() }),
            host_load: Some(LOAD),
            ..PieceResult::default()
        }
    }

    /// Opens the stream of reports with its first message.
    pub(crate) async fn open(&mut self) -> Result<Reports, Status> {
        let (sender, receiver) = mpsc::channel(64);
        sender.send(self.report(-1)).await.unwrap();
        let reports = ReceiverStream::new(receiver);
        let packets = self.scheduler.talk("/scheduler.Scheduler/ReportPieceResult", reports).await?;
        Ok(Reports { sender, packets })
    }

    /// Says that it has a piece.
    pub(crate) async fn claim(&self, reports: &Reports, piece: i32) {
        reports.sender.send(PieceResult { success: true, ..self.report(piece) }).await.unwrap();
    }

    /// Downloads as v1 does, to the end.
    pub(crate) async fn download(&mut self) -> Result<Vec<u8>, Code> {
        soon(self.download_unbounded()).await
    }

    async fn download_unbounded(&mut self) -> Result<Vec<u8>, Code> {
        let registered = self.register().await.expect("registers");
        assert_eq!(registered.task_id, self.task_id);
        let mut reports = self.open().await.expect("a stream");
        if let Some(content) = registered.piece_content {
            shelf(&self.shelf).content_len = Some(content.len() as u64);
            self.finish(reports, true).await;
            return Ok(content);
        }
        loop {
            let packet = reports.packets.message().await.expect("the stream goes on").expect("the stream goes on");
            match packet.code() {
                Code::Success => {
                    let main = packet.main_peer.expect("v1 takes a main peer for granted");
                    for parent in [vec![main], packet.steal_peers].concat() {
                        if self.pull(&parent, &reports).await {
                            break;
                        }
                    }
                }
                Code::SchedNeedBackSource => self.back_to_source(&reports).await,
                code => {
                    self.finish(reports, false).await;
                    return Err(code);
                }
            }
            if let Some(bytes) = self.content() {
                self.finish(reports, true).await;
                return Ok(bytes);
            }
        }
    }

    /// All bytes, if it has them.
    pub(crate) fn content(&self) -> Option<Vec<u8>> {
        let shelf = shelf(&self.shelf);
        let bytes: Vec<u8> = shelf.pieces.values().flatten().copied().collect();
        (shelf.content_len == Some(bytes.len() as u64)).then_some(bytes)
    }

    /// Pulls from one parent what is missing; true when all is there.
    async fn pull(&mut self, parent: &DestPeer, reports: &Reports) -> bool {
        let result = self.pull_pieces(parent, reports).await;
        if let Err(code) = result {
            let failed = PieceResult { dst_pid: parent.peer_id.clone(), code: code.into(), ..self.report(0) };
            reports.sender.send(failed).await.unwrap();
        }
        self.content().is_some()
    }

    async fn pull_pieces(&mut self, parent: &DestPeer, reports: &Reports) -> Result<(), Code> {
        let client = Caller(channel(&format!("{}:{}", parent.ip, parent.rpc_port)));
        let request = PieceTaskRequest {
            task_id: self.task_id.clone(),
            src_pid: self.peer_id.clone(),
            dst_pid: parent.peer_id.clone(),
            start_num: 0,
            limit: 16,
        };
        let (sender, receiver) = mpsc::channel(8);
        sender.send(request).await.unwrap();
        let answer = client.talk("/dfdaemon.Daemon/SyncPieceTasks", ReceiverStream::new(receiver)).await;
        let mut packets: Streaming<PiecePacket> = answer.map_err(|_| Code::ClientConnectionError)?;
        while let Some(packet) = packets.message().await.map_err(|_| Code::ClientPieceRequestFail)? {
            self.take(parent, &packet, reports).await?;
            if self.content().is_some() {
                assert_eq!(packet.piece_md5_sign, self.sign(), "v1 compares the sign before it is content");
                return Ok(());
            }
        }
        Err(Code::ClientPieceRequestFail)
    }

    fn sign(&self) -> String {
        let sums: String = shelf(&self.shelf).pieces.values().map(|piece| md5(piece)).collect();
        Digest::of(Algorithm::Sha256, sums.as_bytes()).to_string().trim_start_matches("sha256:").to_owned()
    }

    async fn take(&mut self, parent: &DestPeer, packet: &PiecePacket, reports: &Reports) -> Result<(), Code> {
        for piece in &packet.piece_infos {
            if shelf(&self.shelf).pieces.contains_key(&piece.piece_num) {
                continue;
            }
            let path = format!("/download/{}/{}?peerId={}", &self.task_id[..3], self.task_id, packet.dst_pid);
            let last = piece.range_start + u64::from(piece.range_size) - 1;
            let range = format!("Range: bytes={}-{last}\r\n", piece.range_start);
            let bytes = fetch(&packet.dst_addr, &path, &range).await.map_err(|_| Code::ClientConnectionError)?;
            if md5(&bytes) != piece.piece_md5 {
                return Err(Code::ClientPieceDownloadFail);
            }
            *self.got.entry(parent.peer_id.clone()).or_default() += bytes.len() as u64;
            shelf(&self.shelf).pieces.insert(piece.piece_num, bytes);
            let stored = PieceResult { dst_pid: parent.peer_id.clone(), ..self.report(piece.piece_num) };
            reports.sender.send(PieceResult { success: true, code: Code::Success.into(), ..stored }).await.unwrap();
        }
        if packet.content_length >= 0 {
            shelf(&self.shelf).content_len = u64::try_from(packet.content_length).ok();
        }
        Ok(())
    }

    async fn back_to_source(&mut self, reports: &Reports) {
        let url: http::Uri = self.url.parse().unwrap();
        let Ok(bytes) = fetch(url.authority().unwrap().as_str(), url.path(), "").await else {
            return;
        };
        *self.got.entry("source".to_owned()).or_default() += bytes.len() as u64;
        for (number, piece) in (0..).zip(bytes.chunks(PIECE_LEN)) {
            shelf(&self.shelf).pieces.insert(number, piece.to_vec());
            self.claim(reports, number).await;
        }
        shelf(&self.shelf).content_len = Some(bytes.len() as u64);
    }

    /// Ends the stream and says how it went; it stays as a parent.
    pub(crate) async fn finish(&mut self, reports: Reports, success: bool) {
        let Reports { sender, packets: _open } = reports;
        sender.send(self.report(END_OF_PIECE)).await.unwrap();
        // As v1: it stops talking, but listens until all is said.
        drop(sender);
        let result = PeerResult {
            task_id: self.task_id.clone(),
            peer_id: self.peer_id.clone(),
            success,
            ..PeerResult::default()
        };
        let taken = self.scheduler.ask::<_, Empty>("/scheduler.Scheduler/ReportPeerResult", result).await;
        taken.expect("the result is taken");
    }

    /// Imports a content as v1's daemon does for its dfcache: it is here, and its scheduler is told once.
    pub(crate) async fn import(&mut self, bytes: &[u8]) -> Result<(), Status> {
        {
            let mut shelf = shelf(&self.shelf);
            shelf.pieces = (0..).zip(bytes.chunks(PIECE_LEN).map(<[u8]>::to_vec)).collect();
            shelf.content_len = Some(bytes.len() as u64);
        }
        let client = Caller(channel(&format!("127.0.0.1:{}", self.host.rpc_port)));
        let own = PieceTaskRequest {
            task_id: self.task_id.clone(),
            src_pid: self.peer_id.clone(),
            dst_pid: self.peer_id.clone(),
            start_num: 0,
            limit: 1 << 20,
        };
        let packet = client.ask("/dfdaemon.Daemon/GetPieceTasks", own).await?;
        let announcement = AnnounceTaskRequest {
            task_id: self.task_id.clone(),
            cid: self.url.clone(),
            url_meta: Some(self.meta.clone()),
            peer_host: Some(self.host.clone()),
            piece_packet: Some(packet),
        };
        self.scheduler.ask::<_, Empty>("/scheduler.Scheduler/AnnounceTask", announcement).await.map(|_| ())
    }

    pub(crate) async fn leave(&mut self) -> Result<(), Status> {
        let target = PeerTarget { task_id: self.task_id.clone(), peer_id: self.peer_id.clone() };
        self.scheduler.ask::<_, Empty>("/scheduler.Scheduler/LeaveTask", target).await.map(|_| ())
    }
}

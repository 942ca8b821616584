//! A Dragonfly v1 peer's servers: piece metadata by gRPC, piece bytes by HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use df_daemons::digest::{Algorithm, Digest};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::peer::{PIECE_LEN, Shelf, md5, shelf};
use super::wire::{PieceInfo, PiecePacket, PieceTaskRequest};

#[derive(Clone)]
struct Service {
    shelf: Arc<Mutex<Shelf>>,
    task_id: String,
    peer_id: String,
    pieces: SocketAddr,
}

/// Serves a shelf on ports of its own: gRPC, pieces.
pub(crate) async fn serve(shelf: Arc<Mutex<Shelf>>, task_id: String, peer_id: String) -> (SocketAddr, SocketAddr) {
    let rpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pieces = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (rpc_at, pieces_at) = (rpc.local_addr().unwrap(), pieces.local_addr().unwrap());
    let path = format!("/download/{}/{task_id}?peerId={peer_id}", &task_id[..3]);
    let service = Service { shelf: shelf.clone(), task_id, peer_id, pieces: pieces_at };
    let counted = shelf.clone();
    let incoming = TcpListenerStream::new(rpc).map(move |stream| {
        super::peer::shelf(&counted).connections += 1;
        stream
    });
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    tokio::spawn(async move {
        while let Ok((stream, _)) = pieces.accept().await {
            super::peer::shelf(&shelf).connections += 1;
            tokio::spawn(send(stream, shelf.clone(), path.clone()));
        }
    });
    (rpc_at, pieces_at)
}

/// Answers requests on one connection until it ends.
async fn send(mut stream: TcpStream, pieces: Arc<Mutex<Shelf>>, path: String) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).ok()?;
        let range =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned))?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        let found = {
            let mut shelf = shelf(&pieces);
            let piece =
                shelf.pieces.get(&((first / PIECE_LEN) as i32)).filter(|_| head.starts_with(&format!("GET {path} ")));
            let start = first % PIECE_LEN;
            let mut bytes = piece.and_then(|piece| piece.get(start..=start + (last - first))).map(<[u8]>::to_vec);
            if shelf.is_liar {
                bytes.iter_mut().flatten().for_each(|byte| *byte ^= 0xff);
            }
            shelf.sent_bytes += bytes.as_ref().map_or(0, Vec::len) as u64;
            bytes
        };
        let answer = match found {
            Some(bytes) => {
                let head = format!("HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\n\r\n", bytes.len());
                [head.into_bytes(), bytes].concat()
            }
            None => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
        };
        stream.write_all(&answer).await.ok()?;
    }
}

impl Service {
    fn packet(&self, request: &PieceTaskRequest) -> Result<PiecePacket, Status> {
        if (&request.task_id, &request.dst_pid) != (&self.task_id, &self.peer_id) {
            return Err(Status::not_found("no such peer task"));
        }
        let shelf = shelf(&self.shelf);
        let info = |(number, bytes): (&i32, &Vec<u8>)| PieceInfo {
            piece_num: *number,
            range_start: *number as u64 * PIECE_LEN as u64,
            range_size: bytes.len() as u32,
            piece_md5: md5(bytes),
            piece_offset: *number as u64 * PIECE_LEN as u64,
            ..PieceInfo::default()
        };
        let piece_infos: Vec<PieceInfo> = shelf.pieces.iter().map(info).collect();
        let sums: String = piece_infos.iter().map(|piece| piece.piece_md5.clone()).collect();
        let count = shelf.content_len.map_or(-1, |len| len.div_ceil(PIECE_LEN as u64) as i32);
        let sign = Digest::of(Algorithm::Sha256, sums.as_bytes()).to_string().trim_start_matches("sha256:").to_owned();
        Ok(PiecePacket {
            task_id: self.task_id.clone(),
            dst_pid: self.peer_id.clone(),
            dst_addr: self.pieces.to_string(),
            total_piece: count,
            content_length: shelf.content_len.map_or(-1, |len| len as i64),
            piece_md5_sign: if count >= 0 { sign } else { String::new() },
            piece_infos,
        })
    }
}

/// By path, as a v1 daemon's server finds its methods.
impl tower::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<PiecePacket, PieceTaskRequest>::default());
            Ok(match request.uri().path() {
                "/dfdaemon.Daemon/GetPieceTasks" => {
                    let answer = tower::service_fn(move |request: Request<PieceTaskRequest>| {
                        let packet = service.packet(request.get_ref()).map(Response::new);
                        async move { packet }
                    });
                    grpc.unary(answer, request).await
                }
                "/dfdaemon.Daemon/SyncPieceTasks" => {
                    let answer = tower::service_fn(move |request: Request<Streaming<PieceTaskRequest>>| {
                        let service = service.clone();
                        async move { service.sync(request.into_inner()).await }
                    });
                    grpc.streaming(answer, request).await
                }
                _ => Status::unimplemented("not here").into_http(),
            })
        })
    }
}

impl NamedService for Service {
    const NAME: &'static str = "dfdaemon.Daemon";
}

type Packets = BoxStream<'static, Result<PiecePacket, Status>>;

impl Service {
    async fn sync(&self, mut requests: Streaming<PieceTaskRequest>) -> Result<Response<Packets>, Status> {
        let first = requests.next().await.ok_or_else(|| Status::invalid_argument("nothing asked"))??;
        let packet = self.packet(&first)?;
        // As v1 does once it has told everything.
        let is_whole = packet.total_piece == packet.piece_infos.len() as i32;
        let end = if is_whole { Vec::new() } else { vec![Err(Status::unavailable("not finished"))] };
        Ok(Response::new(Box::pin(tokio_stream::iter([vec![Ok(packet)], end].concat()))))
    }
}

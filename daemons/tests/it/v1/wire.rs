//! Dragonfly's v1 API as of v2.0.3, written down once more by its field numbers, apart from our protos;
//! and calls by their bare paths. What is played with these is what a v1 program puts on the wire.

use std::collections::BTreeMap;

use df_api::base::{Code, SizeScope};
use futures_util::Stream;
use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::peer::soon;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UrlMeta {
    #[prost(string, tag = "1")]
    pub(crate) digest: String,
    #[prost(string, tag = "2")]
    pub(crate) tag: String,
    #[prost(string, tag = "3")]
    pub(crate) range: String,
    #[prost(string, tag = "4")]
    pub(crate) filter: String,
    #[prost(btree_map = "string, string", tag = "5")]
    #[allow(clippy::disallowed_types, reason = "what prost makes of a map unless told otherwise")]
    pub(crate) header: BTreeMap<String, String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct HostLoad {
    #[prost(float, tag = "1")]
    pub(crate) cpu_ratio: f32,
    #[prost(float, tag = "2")]
    pub(crate) mem_ratio: f32,
    #[prost(float, tag = "3")]
    pub(crate) disk_ratio: f32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PieceTaskRequest {
    #[prost(string, tag = "1")]
    pub(crate) task_id: String,
    #[prost(string, tag = "2")]
    pub(crate) src_pid: String,
    #[prost(string, tag = "3")]
    pub(crate) dst_pid: String,
    #[prost(uint32, tag = "4")]
    pub(crate) start_num: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) limit: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PieceInfo {
    #[prost(int32, tag = "1")]
    pub(crate) piece_num: i32,
    #[prost(uint64, tag = "2")]
    pub(crate) range_start: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) range_size: u32,
    #[prost(string, tag = "4")]
    pub(crate) piece_md5: String,
    #[prost(uint64, tag = "5")]
    pub(crate) piece_offset: u64,
    #[prost(int32, tag = "6")]
    pub(crate) piece_style: i32,
    #[prost(uint64, tag = "7")]
    pub(crate) download_cost: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PiecePacket {
    #[prost(string, tag = "2")]
    pub(crate) task_id: String,
    #[prost(string, tag = "3")]
    pub(crate) dst_pid: String,
    #[prost(string, tag = "4")]
    pub(crate) dst_addr: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) piece_infos: Vec<PieceInfo>,
    #[prost(int32, tag = "6")]
    pub(crate) total_piece: i32,
    #[prost(int64, tag = "7")]
    pub(crate) content_length: i64,
    #[prost(string, tag = "8")]
    pub(crate) piece_md5_sign: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PeerHost {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) ip: String,
    #[prost(int32, tag = "3")]
    pub(crate) rpc_port: i32,
    #[prost(int32, tag = "4")]
    pub(crate) down_port: i32,
    #[prost(string, tag = "5")]
    pub(crate) host_name: String,
    #[prost(string, tag = "6")]
    pub(crate) security_domain: String,
    #[prost(string, tag = "7")]
    pub(crate) location: String,
    #[prost(string, tag = "8")]
    pub(crate) idc: String,
    #[prost(string, tag = "9")]
    pub(crate) net_topology: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PeerTaskRequest {
    #[prost(string, tag = "1")]
    pub(crate) url: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) url_meta: Option<UrlMeta>,
    #[prost(string, tag = "3")]
    pub(crate) peer_id: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) peer_host: Option<PeerHost>,
    #[prost(message, optional, tag = "5")]
    pub(crate) host_load: Option<HostLoad>,
    #[prost(bool, tag = "6")]
    pub(crate) is_migrating: bool,
    #[prost(int32, tag = "7")]
    pub(crate) pattern: i32,
    #[prost(string, tag = "8")]
    pub(crate) task_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RegisterResult {
    #[prost(int32, tag = "1")]
    pub(crate) task_type: i32,
    #[prost(string, tag = "2")]
    pub(crate) task_id: String,
    #[prost(enumeration = "SizeScope", tag = "3")]
    pub(crate) size_scope: i32,
    #[prost(message, optional, tag = "4")]
    pub(crate) single_piece: Option<SinglePiece>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(crate) piece_content: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SinglePiece {
    #[prost(string, tag = "1")]
    pub(crate) dst_pid: String,
    #[prost(string, tag = "2")]
    pub(crate) dst_addr: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) piece_info: Option<PieceInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PieceResult {
    #[prost(string, tag = "1")]
    pub(crate) task_id: String,
    #[prost(string, tag = "2")]
    pub(crate) src_pid: String,
    #[prost(string, tag = "3")]
    pub(crate) dst_pid: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) piece_info: Option<PieceInfo>,
    #[prost(uint64, tag = "5")]
    pub(crate) begin_time: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) end_time: u64,
    #[prost(bool, tag = "7")]
    pub(crate) success: bool,
    #[prost(enumeration = "Code", tag = "8")]
    pub(crate) code: i32,
    #[prost(message, optional, tag = "9")]
    pub(crate) host_load: Option<HostLoad>,
    #[prost(int32, tag = "10")]
    pub(crate) finished_count: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DestPeer {
    #[prost(string, tag = "1")]
    pub(crate) ip: String,
    #[prost(int32, tag = "2")]
    pub(crate) rpc_port: i32,
    #[prost(string, tag = "3")]
    pub(crate) peer_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PeerPacket {
    #[prost(string, tag = "2")]
    pub(crate) task_id: String,
    #[prost(string, tag = "3")]
    pub(crate) src_pid: String,
    #[prost(int32, tag = "4")]
    pub(crate) parallel_count: i32,
    #[prost(message, optional, tag = "5")]
    pub(crate) main_peer: Option<DestPeer>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) steal_peers: Vec<DestPeer>,
    #[prost(enumeration = "Code", tag = "7")]
    pub(crate) code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PeerResult {
    #[prost(string, tag = "1")]
    pub(crate) task_id: String,
    #[prost(string, tag = "2")]
    pub(crate) peer_id: String,
    #[prost(string, tag = "3")]
    pub(crate) src_ip: String,
    #[prost(string, tag = "4")]
    pub(crate) security_domain: String,
    #[prost(string, tag = "5")]
    pub(crate) idc: String,
    #[prost(string, tag = "6")]
    pub(crate) url: String,
    #[prost(int64, tag = "7")]
    pub(crate) content_length: i64,
    #[prost(uint64, tag = "8")]
    pub(crate) traffic: u64,
    #[prost(uint32, tag = "9")]
    pub(crate) cost: u32,
    #[prost(bool, tag = "10")]
    pub(crate) success: bool,
    #[prost(enumeration = "Code", tag = "11")]
    pub(crate) code: i32,
    #[prost(int32, tag = "12")]
    pub(crate) total_piece_count: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PeerTarget {
    #[prost(string, tag = "1")]
    pub(crate) task_id: String,
    #[prost(string, tag = "2")]
    pub(crate) peer_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SchedulerStatTaskRequest {
    #[prost(string, tag = "1")]
    pub(crate) task_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Task {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(int32, tag = "2")]
    pub(crate) kind: i32,
    #[prost(int64, tag = "3")]
    pub(crate) content_length: i64,
    #[prost(int32, tag = "4")]
    pub(crate) total_piece_count: i32,
    #[prost(string, tag = "5")]
    pub(crate) state: String,
    #[prost(int32, tag = "6")]
    pub(crate) peer_count: i32,
    #[prost(bool, tag = "7")]
    pub(crate) has_available_peer: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnnounceTaskRequest {
    #[prost(string, tag = "1")]
    pub(crate) task_id: String,
    #[prost(string, tag = "2")]
    pub(crate) cid: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) url_meta: Option<UrlMeta>,
    #[prost(message, optional, tag = "4")]
    pub(crate) peer_host: Option<PeerHost>,
    #[prost(message, optional, tag = "5")]
    pub(crate) piece_packet: Option<PiecePacket>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatTaskRequest {
    #[prost(string, tag = "1")]
    pub(crate) cid: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) url_meta: Option<UrlMeta>,
    #[prost(bool, tag = "3")]
    pub(crate) local_only: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImportTaskRequest {
    #[prost(string, tag = "1")]
    pub(crate) cid: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) url_meta: Option<UrlMeta>,
    #[prost(string, tag = "3")]
    pub(crate) path: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportTaskRequest {
    #[prost(string, tag = "1")]
    pub(crate) cid: String,
    #[prost(string, tag = "2")]
    pub(crate) output: String,
    /// A Go duration: nanoseconds.
    #[prost(uint64, tag = "3")]
    pub(crate) timeout: u64,
    #[prost(double, tag = "4")]
    pub(crate) limit: f64,
    #[prost(message, optional, tag = "5")]
    pub(crate) url_meta: Option<UrlMeta>,
    #[prost(string, tag = "6")]
    pub(crate) callsystem: String,
    #[prost(int64, tag = "7")]
    pub(crate) uid: i64,
    #[prost(int64, tag = "8")]
    pub(crate) gid: i64,
    #[prost(bool, tag = "9")]
    pub(crate) local_only: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeleteTaskRequest {
    #[prost(string, tag = "1")]
    pub(crate) cid: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) url_meta: Option<UrlMeta>,
}

/// Calls by their paths.
#[derive(Clone)]
pub(crate) struct Caller(pub(crate) Channel);

impl Caller {
    /// One question, one answer.
    pub(crate) async fn ask<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let call = async {
            let mut grpc = Grpc::new(self.0.clone());
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::<Q, A>::default();
            grpc.unary(Request::new(question), PathAndQuery::from_static(path), codec).await
        };
        soon(call).await.map(tonic::Response::into_inner)
    }

    /// Messages both ways.
    pub(crate) async fn talk<Q, A>(
        &self,
        path: &'static str,
        messages: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let call = async {
            let mut grpc = Grpc::new(self.0.clone());
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::<Q, A>::default();
            grpc.streaming(Request::new(messages), PathAndQuery::from_static(path), codec).await
        };
        soon(call).await.map(tonic::Response::into_inner)
    }
}

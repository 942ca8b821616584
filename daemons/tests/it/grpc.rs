//! Every gRPC port: health, reflection, and what a caller from another host may not ask for.

use std::net::SocketAddr;
use std::path::Path;

use df_api::base::PieceTaskRequest;
use df_api::dfdaemon::daemon_client::DaemonClient;
use df_api::dfdaemon::{DeleteTaskRequest, DownRequest, ExportTaskRequest, ImportTaskRequest, StatTaskRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServiceResponse};

use crate::cluster::{Cluster, Wish, channel};
use crate::origin::{Content, Origin};

/// A caller from the network.
fn remote(address: SocketAddr) -> Channel {
    let connect = tower::service_fn(move |_| async move { TcpStream::connect(address).await.map(TokioIo::new) });
    df_api::dial::channel("remote", connect).unwrap()
}

/// Every gRPC server of a cluster with one daemon: its channel, and its own service.
fn servers(cluster: &Cluster) -> [(Channel, &'static str); 3] {
    let daemon = &cluster.daemons[0];
    [
        (remote(cluster.scheduler_address), "scheduler.Scheduler"),
        (remote(daemon.rpc), "dfdaemon.Daemon"),
        (channel(&daemon.config.socket), "dfdaemon.Daemon"),
    ]
}

async fn health(channel: &Channel, service: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel.clone()).check(request).await.map_err(|status| status.code())?;
    Ok(answer.into_inner().status())
}

async fn reflect(channel: &Channel, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    answers.next().await.unwrap().unwrap().message_response.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_port_tells_its_health() {
    let cluster = Cluster::start(0, 1).await;
    for (channel, service) in servers(&cluster) {
        assert_eq!(health(&channel, "").await, Ok(ServingStatus::Serving));
        assert_eq!(health(&channel, service).await, Ok(ServingStatus::Serving), "{service}");
        assert_eq!(health(&channel, "no.Such").await, Err(Code::NotFound));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_port_describes_its_services() {
    let cluster = Cluster::start(0, 1).await;
    for (channel, service) in servers(&cluster) {
        let listed = reflect(&channel, MessageRequest::ListServices(String::new())).await;
        let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
        let names: Vec<String> = listed.service.into_iter().map(|ServiceResponse { name }| name).collect();
        for wanted in [service, "grpc.health.v1.Health"] {
            assert!(names.iter().any(|name| name == wanted), "{wanted}: {names:?}");
        }
        let described = reflect(&channel, MessageRequest::FileContainingSymbol(service.to_owned())).await;
        let MessageResponse::FileDescriptorResponse(described) = described else { panic!("{described:?}") };
        assert!(!described.file_descriptor_proto.is_empty());
    }
}

fn code<T>(answer: Result<T, Status>) -> Option<Code> {
    answer.err().map(|status| status.code())
}

/// Calls everything that names a URL or a file; what each call was answered, by name.
async fn ask_for_files(channel: &Channel, url: &str, path: &Path) -> Vec<(&'static str, Option<Code>)> {
    let (mut client, path) = (DaemonClient::new(channel.clone()), path.display().to_string());
    let download = Wish::default().request(url);
    let to_path = DownRequest { output: path.clone(), ..download.clone() };
    let cid = || "x".to_owned();
    let import = ImportTaskRequest { cid: cid(), path: path.clone(), ..ImportTaskRequest::default() };
    let export = ExportTaskRequest { cid: cid(), output: path, ..ExportTaskRequest::default() };
    vec![
        ("Download", code(client.download(download).await)),
        ("Download to a path", code(client.download(to_path).await)),
        ("ImportTask", code(client.import_task(import).await)),
        ("ExportTask", code(client.export_task(export).await)),
        ("StatTask", code(client.stat_task(StatTaskRequest { cid: cid(), ..Default::default() }).await)),
        ("DeleteTask", code(client.delete_task(DeleteTaskRequest { cid: cid(), ..Default::default() }).await)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2025_59352_remote_callers_name_no_paths_and_no_urls() {
    let cluster = Cluster::start(0, 1).await;
    let origin = Origin::start(Content::random(1, 1000)).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("planted");
    for (call, code) in ask_for_files(&remote(cluster.daemons[0].rpc), &origin.url(), &path).await {
        assert_eq!(code, Some(Code::PermissionDenied), "{call}");
    }
    assert!(!path.exists());
    assert_eq!(origin.stats().requests, 0, "no remote caller sends the daemon to a URL");
    // A file that is there is not read either.
    std::fs::write(&path, "secret").unwrap();
    for (call, code) in ask_for_files(&remote(cluster.daemons[0].rpc), &origin.url(), &path).await {
        assert_eq!(code, Some(Code::PermissionDenied), "{call}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2025_59352_not_even_a_local_caller_has_a_daemon_write_to_a_path() {
    let cluster = Cluster::start(0, 1).await;
    let origin = Origin::start(Content::random(1, 1000)).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("planted");
    let daemon = &cluster.daemons[0];
    let request = DownRequest { output: path.display().to_string(), ..Wish::default().request(&origin.url()) };
    let refused = daemon.client().download(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(!path.exists());
    assert_eq!(origin.stats().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tob_14_fields_that_are_not_what_they_say_are_refused_and_the_port_lives() {
    let cluster = Cluster::start(0, 1).await;
    let daemon = &cluster.daemons[0];
    let mut client = DaemonClient::new(remote(daemon.rpc));
    let long = "a".repeat(1 << 20);
    for task_id in ["", "a", "../../etc/passwd", "a\0b", &"g".repeat(64), &"\u{430}".repeat(32), &long] {
        let request = PieceTaskRequest { task_id: task_id.to_owned(), ..PieceTaskRequest::default() };
        let refused = client.get_piece_tasks(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{:?}", &task_id[..task_id.len().min(20)]);
    }
    let huge = PieceTaskRequest { task_id: "a".repeat(8 << 20), ..PieceTaskRequest::default() };
    assert!(client.get_piece_tasks(huge).await.is_err());
    let absent = PieceTaskRequest { task_id: "0".repeat(64), ..PieceTaskRequest::default() };
    assert_eq!(client.get_piece_tasks(absent).await.unwrap_err().code(), Code::NotFound);

    // Whatever number is named of a task that is there, the answer is bounded and true.
    let origin = Origin::start(Content::random(1, 200_000)).await;
    let wish = Wish { piece_length: 64 << 10, ..Wish::default() };
    let task_id = daemon.download(&origin.url(), wish).await.unwrap().last.task_id;
    for (start_num, limit, wanted) in [(0, 0, 0), (0, 2, 2), (3, u32::MAX, 1), (4, 10, 0), (u32::MAX, u32::MAX, 0)] {
        let request = PieceTaskRequest { task_id: task_id.clone(), start_num, limit, ..PieceTaskRequest::default() };
        let packet = client.get_piece_tasks(request).await.unwrap().into_inner();
        assert_eq!((packet.piece_infos.len(), packet.total_piece), (wanted, 4), "{start_num} {limit}");
    }
}

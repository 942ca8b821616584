//! A dfdaemon for tests: plays a scripted download over a real unix socket, descriptor and all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};

use df_api::base::{PiecePacket, PieceTaskRequest};
use df_api::dfdaemon::daemon_server::{Daemon, DaemonServer};
use df_api::dfdaemon::{
    DeleteTaskRequest, DownRequest, DownResult, ExportTaskRequest, ImportTaskRequest, ImportTaskResult, ListRequest,
    ListResult, StatTaskRequest, StatTaskResult, Tally,
};
use df_api::failure::Failure;
use df_daemons::client::{MAGIC, TICKET_LEN};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// One step of a download.
#[derive(Clone, PartialEq)]
pub(crate) enum Step {
    /// The next bytes of the content are in the store.
    Store(usize),
    /// The file in the store is cut to so many bytes.
    Truncate(u64),
    /// A message as the state is, without length and ticket.
    TellLittle,
    /// A message as the state is.
    Tell,
    /// The last message, with a tally.
    Done(Tally),
    /// A message like it with something else in place of the true ticket.
    Ticket(Vec<u8>, bool),
    /// The download fails.
    Fail(Failure),
    /// All connections break, once the descriptor has been handed out.
    Vanish,
    /// Nothing happens any more.
    Hang,
}

/// What is told to the fake and by it.
struct Stage {
    /// By the path of the URL.
    scripts: Mutex<BTreeMap<String, Vec<Step>>>,
    requests: Mutex<Vec<DownRequest>>,
    cancelled: mpsc::Sender<()>,
    content: Vec<u8>,
    store: PathBuf,
    connections: Mutex<Vec<OwnedFd>>,
    handed_out: Notify,
}

/// The fake, running until it is dropped.
pub(crate) struct FakeDaemon {
    folder: TempDir,
    stage: Arc<Stage>,
    cancelled: mpsc::Receiver<()>,
    _runtime: Runtime,
}

pub(crate) const TICKET: [u8; TICKET_LEN] = *b"let me have it!!";

impl FakeDaemon {
    /// A daemon that knows a content.
    pub(crate) fn start(content: &[u8]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (sender, cancelled) = mpsc::channel();
        let stage = Arc::new(Stage {
            scripts: Mutex::default(),
            requests: Mutex::default(),
            cancelled: sender,
            content: content.to_owned(),
            store: folder.path().join("content"),
            connections: Mutex::default(),
            handed_out: Notify::new(),
        });
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(folder.path().join("sock")).unwrap()
        };
        runtime.spawn(serve(listener, stage.clone()));
        Self { folder, stage, cancelled, _runtime: runtime }
    }

    /// What happens to downloads of `http://origin` and this path.
    pub(crate) fn script(&self, path: &str, steps: &[Step]) -> &Self {
        self.stage.scripts.lock().unwrap().insert(path.to_owned(), steps.to_owned());
        self
    }

    /// A file or folder of the test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("sock")
    }

    pub(crate) fn requests(&self) -> Vec<DownRequest> {
        self.stage.requests.lock().unwrap().clone()
    }

    /// The file in the store.
    pub(crate) fn store(&self) -> &Path {
        &self.stage.store
    }

    /// Waits until a hanging download is given up by its caller.
    pub(crate) fn wait_for_cancel(&self) {
        self.cancelled.recv().unwrap();
    }
}

async fn serve(listener: UnixListener, stage: Arc<Stage>) {
    let (sender, streams) = tokio::sync::mpsc::unbounded_channel();
    let service = DaemonServer::new(Service(stage.clone()));
    let incoming = UnboundedReceiverStream::new(streams);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    while let Ok((stream, _)) = listener.accept().await {
        let (sender, stage) = (sender.clone(), stage.clone());
        tokio::spawn(async move {
            if is_ticket(&stream).await {
                hand_out(stream, &stage).await;
            } else {
                stage.connections.lock().unwrap().push(stream.as_fd().try_clone_to_owned().unwrap());
                let _ = sender.send(Ok::<_, std::io::Error>(stream));
            }
        });
    }
}

/// Whether a connection begins with the magic; nothing is taken from it.
async fn is_ticket(stream: &UnixStream) -> bool {
    let peek = || {
        let mut start = [0; 4];
        let (got, _) = rustix::net::recv(stream, &mut start, RecvFlags::PEEK)?;
        // HTTP/2 begins otherwise with the first byte already.
        Ok(got > 0 && start[0] == MAGIC[0])
    };
    stream.async_io(Interest::READABLE, peek).await.unwrap_or(false)
}

async fn hand_out(mut stream: UnixStream, stage: &Stage) {
    let mut message = [0; MAGIC.len() + TICKET_LEN];
    stream.read_exact(&mut message).await.unwrap();
    if message[MAGIC.len()..] != TICKET {
        let refusal = b"there is no such ticket";
        let mut answer = vec![1];
        answer.extend((refusal.len() as u16).to_le_bytes());
        answer.extend(refusal);
        stream.write_all(&answer).await.unwrap();
        return;
    }
    let file = File::open(&stage.store).unwrap();
    let descriptors = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    rustix::net::sendmsg(&stream, &[IoSlice::new(&[0])], &mut control, SendFlags::empty()).unwrap();
    stage.handed_out.notify_one();
}

struct Service(Arc<Stage>);

type Results = tokio::sync::mpsc::UnboundedSender<Result<DownResult, Status>>;

impl Service {
    /// Plays a script.
    async fn play(stage: Arc<Stage>, steps: Vec<Step>, results: Results) {
        let mut stored = 0;
        // Only what hands out a content has one: other downloads may go on at the same time.
        let store = steps.contains(&Step::Tell).then(|| {
            let _ = std::fs::remove_file(&stage.store);
            let store = File::create(&stage.store).unwrap();
            store.set_len(stage.content.len() as u64).unwrap();
            store
        });
        let store = || store.as_ref().unwrap();
        for step in steps {
            let len = stored as u64;
            let little = DownResult {
                task_id: "7a5c".into(),
                completed_length: len,
                contiguous_length: len,
                tally: Some(Tally { peer_bytes: len, ..Tally::default() }),
                ..DownResult::default()
            };
            let content_length = Some(stage.content.len() as u64);
            let full = DownResult { content_length, ticket: TICKET.to_vec(), ..little.clone() };
            // An error is a caller who went away, which is for the caller's test to notice.
            let _ = match step {
                Step::Store(more) => {
                    store().write_all_at(&stage.content[stored..stored + more], len).unwrap();
                    stored += more;
                    Ok(())
                }
                Step::Truncate(len) => {
                    store().set_len(len).unwrap();
                    Ok(())
                }
                Step::TellLittle => results.send(Ok(little)),
                Step::Tell => results.send(Ok(full)),
                Step::Done(tally) => results.send(Ok(DownResult { done: true, tally: Some(tally), ..full })),
                Step::Ticket(ticket, done) => results.send(Ok(DownResult { ticket, done, ..full })),
                Step::Fail(failure) => results.send(Err(failure.into())),
                Step::Vanish => {
                    stage.handed_out.notified().await;
                    for connection in stage.connections.lock().unwrap().drain(..) {
                        rustix::net::shutdown(&connection, Shutdown::Both).unwrap();
                    }
                    Ok(())
                }
                Step::Hang => {
                    results.closed().await;
                    let _ = stage.cancelled.send(());
                    Ok(())
                }
            };
        }
    }
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("dfget does not call it"))
}

#[tonic::async_trait]
impl Daemon for Service {
    type DownloadStream = BoxStream<DownResult>;
    type ExportStream = BoxStream<DownResult>;
    type ListStream = BoxStream<ListResult>;
    type SyncPieceTasksStream = BoxStream<PiecePacket>;

    async fn download(&self, request: Request<DownRequest>) -> Result<Response<Self::DownloadStream>, Status> {
        let request = request.into_inner();
        let path = request.url.strip_prefix("http://origin").unwrap_or_default();
        let steps = self.0.scripts.lock().unwrap().get(path).cloned().unwrap_or_default();
        self.0.requests.lock().unwrap().push(request);
        if let [Step::Fail(failure)] = &steps[..] {
            return Err(failure.clone().into());
        }
        let (results, stream) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(Self::play(self.0.clone(), steps, results));
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream))))
    }

    async fn get_piece_tasks(&self, _: Request<PieceTaskRequest>) -> Result<Response<PiecePacket>, Status> {
        unused()
    }

    async fn check_health(&self, _: Request<()>) -> Result<Response<()>, Status> {
        unused()
    }

    async fn sync_piece_tasks(
        &self,
        _: Request<Streaming<PieceTaskRequest>>,
    ) -> Result<Response<Self::SyncPieceTasksStream>, Status> {
        unused()
    }

    async fn stat_task(&self, _: Request<StatTaskRequest>) -> Result<Response<StatTaskResult>, Status> {
        unused()
    }

    async fn import_task(&self, _: Request<ImportTaskRequest>) -> Result<Response<ImportTaskResult>, Status> {
        unused()
    }

    async fn export_task(&self, _: Request<ExportTaskRequest>) -> Result<Response<()>, Status> {
        unused()
    }

    async fn delete_task(&self, _: Request<DeleteTaskRequest>) -> Result<Response<()>, Status> {
        unused()
    }

    async fn export(&self, _: Request<ExportTaskRequest>) -> Result<Response<Self::ExportStream>, Status> {
        unused()
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        unused()
    }
}

/// So many bytes, no two neighbours of a piece alike.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..).map(|number: u32| number.wrapping_mul(2_654_435_761)).flat_map(u32::to_le_bytes).take(len).collect()
}

//! A manager: one gRPC channel, with a token on every call.

use std::time::Duration;

use df_api::dial::{self, MESSAGE_LIMIT};
use df_api::failure::{Code, Failure};
use df_api::manager as pb;
use df_api::manager::console_client::ConsoleClient;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::wire;

/// How long a manager may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The same for what every host has to carry out first.
const ORDER_LIMIT: Duration = Duration::from_secs(60);

/// Puts the token on a call.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// The client that the manager's service is called with.
type Client = ConsoleClient<InterceptedService<Channel, Bearer>>;

/// One manager.
#[derive(Clone)]
pub struct Manager {
    pub(super) client: Client,
}

impl Manager {
    /// The manager at `address` ("host:port"). Connects when it is first asked.
    ///
    /// # Errors
    /// An address or a token that is none.
    pub fn new(address: &str, token: Option<&str>) -> Result<Self, Failure> {
        let authority = address.to_owned();
        let connector = tower::service_fn(move |_| {
            let authority = authority.clone();
            async move {
                let stream = TcpStream::connect(authority).await?;
                stream.set_nodelay(true)?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let wrong = || Failure::new(Code::Usage, format!("\"{address}\" is no address")).hint("write it as host:port");
        let channel = dial::channel(address, connector).map_err(|error| wrong().because(error))?;
        let bearer = |token: &str| {
            let text = format!("Bearer {}", token.trim());
            let wrong = || Failure::new(Code::Auth, "the token has characters that no token has");
            let mut value: MetadataValue<Ascii> = text.parse().map_err(|_| wrong())?;
            value.set_sensitive(true);
            Ok::<_, Failure>(value)
        };
        let bearer = Bearer(token.map(bearer).transpose()?);
        let client = ConsoleClient::with_interceptor(channel, bearer).max_decoding_message_size(MESSAGE_LIMIT);
        Ok(Self { client })
    }

    /// A session for a name and a password.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn sign_in(&mut self, name: &str, password: &str) -> Result<pb::Session, Failure> {
        let request = pb::SignInRequest { name: name.to_owned(), password: password.to_owned() };
        answer(self.client.sign_in(request)).await
    }

    /// Ends the session.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn sign_out(&mut self) -> Result<(), Failure> {
        answer(self.client.sign_out(())).await
    }

    /// Who the token is.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn who_am_i(&mut self) -> Result<pb::Identity, Failure> {
        answer(self.client.who_am_i(())).await
    }

    /// Changes the password of whoever the token is.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn change_password(&mut self, old: &str, new: &str) -> Result<(), Failure> {
        let request = pb::ChangePasswordRequest { old_password: old.to_owned(), new_password: new.to_owned() };
        answer(self.client.change_password(request)).await
    }

    /// All clusters.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn clusters(&mut self) -> Result<Vec<pb::Cluster>, Failure> {
        Ok(answer(self.client.list_clusters(())).await?.clusters)
    }

    /// Makes a cluster, whose number is 0, or changes one.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn put_cluster(&mut self, cluster: pb::Cluster) -> Result<pb::Cluster, Failure> {
        answer(self.client.put_cluster(cluster)).await
    }

    /// Removes a cluster that has no members.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn remove_cluster(&mut self, cluster_id: u64) -> Result<(), Failure> {
        answer(self.client.remove_cluster(pb::ClusterRequest { cluster_id })).await
    }

    /// A job with its parts.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn job(&mut self, id: &str) -> Result<crate::model::Job, Failure> {
        let job_id = wire::number(id, "job")?;
        let first = first(self.client.watch_job(pb::JobRequest { job_id, interval_ms: 0 })).await?;
        Ok(super::rows::job(first, 0))
    }

    /// A job, each time it gets on, until it is over.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn follow_job(&mut self, id: &str) -> Result<Streaming<pb::Job>, Failure> {
        let job_id = wire::number(id, "job")?;
        answer(self.client.watch_job(pb::JobRequest { job_id, interval_ms: 1000 })).await
    }

    /// Events: the latest `backlog`, then each as it happens.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn events(&mut self, backlog: u32) -> Result<Streaming<pb::EventBatch>, Failure> {
        let request = pb::WatchEventsRequest { from_sequence: 0, backlog, least: 0 };
        answer(self.client.watch_events(request)).await
    }
}

/// What is answered to a call.
pub(super) async fn answer<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
    within(ANSWER_LIMIT, call).await
}

/// The same for a call that takes its time.
pub(super) async fn outcome<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
    within(ORDER_LIMIT, call).await
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
    let late = |_| Failure::new(Code::Timeout, "the manager takes too long to answer");
    let answered = timeout(limit, call).await.map_err(late)?;
    answered.map(Response::into_inner).map_err(|status| wire::refusal(&status))
}

/// The first message of a stream: the present state, where one is watched.
pub(super) async fn first<T>(call: impl Future<Output = Result<Response<Streaming<T>>, Status>>) -> Result<T, Failure> {
    let late = |_| Failure::new(Code::Timeout, "the manager takes too long to answer");
    let message = async { call.await?.into_inner().message().await };
    let message = timeout(ANSWER_LIMIT, message).await.map_err(late)?.map_err(|status| wire::refusal(&status))?;
    message.ok_or_else(|| Failure::new(Code::Protocol, "the manager answered with nothing"))
}

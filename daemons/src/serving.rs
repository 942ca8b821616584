//! What all gRPC servers share: limits, health, reflection, a graceful end.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use df_core::planted::{Bug, is_planted};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::server::{Router, Server};
use tonic_health::server::HealthReporter;

use crate::env::net::Accepted;

/// The largest request accepted of anybody but a daemon's own stream.
pub const REQUEST_LIMIT: usize = 4 << 20;

/// Streams at once on one connection.
const STREAM_LIMIT: u32 = 1024;

/// A silent connection is asked for a sign of life this often, and cut this long after.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(5);

/// Resets a client may have pending before it is cut off (HTTP/2 rapid reset).
const PENDING_RESET_LIMIT: usize = 64;

/// How long calls may go on after a server was told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// A server with one service, health (`grpc.health.v1`) and reflection (v1 and v1alpha); and by what
/// the health of something else can be reported.
pub async fn builder<S>(server: Server, service: S) -> (Router, HealthReporter)
where
    S: tower::Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status(S::NAME, tonic_health::ServingStatus::Serving).await;
    let router = server
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(if is_planted(Bug::SilenceIgnored) {
            Duration::from_secs(1 << 24)
        } else {
            KEEP_ALIVE_LIMIT
        }))
        .max_concurrent_streams(STREAM_LIMIT)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESET_LIMIT))
        .add_service(service)
        .add_service(health);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(df_api::generated::DESCRIPTOR)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let router = match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => router.add_service(v1).add_service(v1alpha),
        // The descriptors are compiled in: this cannot happen, and serving without is better than not.
        _ => router,
    };
    (router, reporter)
}

/// Serves until `shutdown`, then lets calls end for [`GRACE`].
///
/// # Errors
/// When the incoming connections fail.
pub async fn serve(
    router: Router,
    incoming: impl Stream<Item = io::Result<Accepted>>,
    shutdown: CancellationToken,
) -> Result<(), String> {
    let serving = router.serve_with_incoming_shutdown(incoming, shutdown.cancelled());
    let over = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! { biased;
        ended = serving => ended.map_err(|error| error.to_string()),
        () = over => Ok(()),
    }
}

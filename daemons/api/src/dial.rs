//! Channels to other daemons: one place for timeouts, keep-alive and limits.

use std::time::Duration;

use df_core::planted::{Bug, is_planted};
use http::Uri;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

/// How long a connection may take to be made.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// A silent connection is asked for a sign of life this often...
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// ...and given up after this long without one: a cut or hung peer looks just like a slow one.
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(5);

/// The largest message accepted: room for the digests of the largest plan in one registration.
pub const MESSAGE_LIMIT: usize = 16 << 20;

/// A lazily connected channel to `authority` ("host:port", or anything for a unix socket), over
/// whatever `connector` connects.
///
/// # Errors
/// An authority that is none.
pub fn channel<C>(authority: &str, connector: C) -> Result<Channel, http::uri::InvalidUri>
where
    C: Service<Uri> + Send + 'static,
    C::Response: hyper::rt::Read + hyper::rt::Write + Send + Unpin,
    C::Future: Send,
    C::Error: std::error::Error + Send + Sync + 'static,
{
    let uri: Uri = format!("http://{authority}").parse()?;
    Ok(Endpoint::from(uri)
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(if is_planted(Bug::SilenceIgnored) {
            Duration::from_secs(1 << 24)
        } else {
            KEEP_ALIVE_LIMIT
        })
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector))
}

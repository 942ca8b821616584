//! The client by which a dfdaemon reads from a source over HTTP/1.1, plain or with TLS.
//!
//! One request gives one [`SourceResponse`], whose body comes in chunks. Redirects are followed
//! and passing faults retried before the first byte of the body; from then on a failure is the
//! caller's, who knows which bytes are already there and asks for the others.
//!
//! - I1: a connection made for a local user never carries a request from the network, and one
//!   with an unchecked certificate never carries a request that wants it checked.
//! - I2: the address that the egress rules let through is the address connected to.
//! - I3: headers that look secret reach no other origin than the one they were given for.
//! - I4: bytes of another version than the pinned one are never handed out as far as length, ETag
//!   and date can tell.

mod connect;
mod egress;
mod error;
mod redirect;
mod request;
mod response;
mod tls;

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use df_core::rng::Rng;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioTimer;
use jiff::fmt::rfc2822::DateTimeParser;
use tokio::time::{sleep, timeout};

use crate::env::Env;
use connect::{Connector, Routes};
use redirect::Hop;

pub use egress::{Cidr, CidrError, Egress, Trust};
pub use error::{SourceError, SourceErrorKind};
pub use request::{SourceRange, SourceRequest};
pub use response::{SourceResponse, Version};

/// Most redirects that are followed, as in browsers and curl's older default.
pub const REDIRECT_LIMIT: u32 = 10;

/// Most bytes read from a connection at once, hence the longest chunk of a body and the longest
/// head. The kernel gives about 100 KiB at a time over loopback: from 128 KiB to 4 MiB the rate and
/// the CPU time are the same, and what a slow consumer can be made to hold grows with it.
const READ_LIMIT: usize = 256 << 10;

/// Most idle connections kept to one origin.
const IDLE_CONNECTION_LIMIT: usize = 32;

/// How a [`SourceClient`] behaves. The default takes nothing from the environment.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// What requests from the network may connect to.
    pub egress: Egress,
    /// Proxies on the way to a source, see [`SourceConfig::from_env`]. Requests of local users leave
    /// the look-up of names to the proxy. Requests from the network are resolved and checked here
    /// and reach the checked address through a tunnel (CONNECT), even when they are plain.
    pub proxies: Option<Arc<Matcher>>,
    /// Certificate authorities (PEM) believed besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Time for name, connection, proxy and TLS together.
    pub connect_limit: Duration,
    /// Time from the request to the head of its answer.
    pub head_limit: Duration,
    /// Time without a byte of the body after which the source is taken to hang.
    pub stall_limit: Duration,
    /// Further tries of one request after passing faults.
    pub retry_limit: u32,
    /// Pause before the first further try; doubles with each.
    pub backoff: Duration,
    /// The longest such pause.
    pub backoff_limit: Duration,
    /// The longest pause a source may ask for (Retry-After): asked for more, the request fails at
    /// once, for there may be other ways to the content.
    pub retry_after_limit: Duration,
    /// How long an idle connection is kept.
    pub idle_limit: Duration,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            egress: Egress::default(),
            proxies: None,
            ca_file: None,
            connect_limit: Duration::from_secs(5),
            head_limit: Duration::from_secs(30),
            stall_limit: Duration::from_secs(30),
            retry_limit: 3,
            backoff: Duration::from_millis(200),
            backoff_limit: Duration::from_secs(5),
            retry_after_limit: Duration::from_secs(30),
            idle_limit: Duration::from_secs(90),
        }
    }
}

impl SourceConfig {
    /// The default with the proxies that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name now.
    pub fn from_env() -> Self {
        Self { proxies: Some(Arc::new(Matcher::from_env())), ..Self::default() }
    }

    /// With one http or https proxy for all sources but those that `no_proxy` lists (as NO_PROXY
    /// does: comma-separated domains and networks).
    ///
    /// # Errors
    /// [`SourceErrorKind::Usage`] if `proxy` is no URL of such a proxy: a mistyped proxy must not
    /// become none.
    pub fn with_proxy(mut self, proxy: &str, no_proxy: &str) -> Result<Self, SourceError> {
        let anywhere = Uri::from_static("http://source.invalid/");
        Matcher::builder()
            .all(proxy)
            .build()
            .intercept(&anywhere)
            .filter(|found| matches!(found.uri().scheme_str(), Some("http" | "https")))
            .ok_or_else(|| SourceError::new(SourceErrorKind::Usage, "the proxy is no http or https URL"))?;
        self.proxies = Some(Arc::new(Matcher::builder().all(proxy).no(no_proxy).build()));
        Ok(self)
    }
}

type Pool = Client<Connector, Empty<Bytes>>;

/// Reads from sources. Cheap to clone; clones share connections.
///
/// A connection's bytes are moved where [`Env::spawn_data`] runs its tasks: whoever reads much does
/// so from there too.
#[derive(Clone)]
pub struct SourceClient(Arc<Inner>);

struct Inner {
    config: SourceConfig,
    routes: Arc<Routes>,
    /// By trust, then by whether certificates are checked (I1).
    local: [Pool; 2],
    network: [Pool; 2],
    jitter: Mutex<Rng>,
}

impl SourceClient {
    /// A client in the world of `env`.
    ///
    /// # Errors
    /// [`SourceErrorKind::Usage`] if the extra CA file cannot be used.
    pub fn new(env: Env, config: SourceConfig) -> Result<Self, SourceError> {
        let routes = Arc::new(Routes {
            tls: tls::Tls::new(config.ca_file.as_deref(), env.clock.clone())?,
            egress: config.egress.clone(),
            proxies: config.proxies.clone(),
            connect_limit: config.connect_limit,
            env: env.clone(),
        });
        let pool = |trust, insecure| {
            Client::builder(DataTasks(env.clone()))
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(config.idle_limit)
                .pool_max_idle_per_host(IDLE_CONNECTION_LIMIT)
                .http1_max_buf_size(READ_LIMIT)
                .build(Connector { routes: routes.clone(), trust, insecure })
        };
        Ok(Self(Arc::new(Inner {
            local: [pool(Trust::Local, false), pool(Trust::Local, true)],
            network: [pool(Trust::Network, false), pool(Trust::Network, true)],
            jitter: Mutex::new(Rng::new(env.seed_for("source"))),
            routes,
            config,
        })))
    }

    /// Asks a source and reads the head of its answer.
    ///
    /// # Errors
    /// Every [`SourceErrorKind`] but `Truncated`, which a body alone can be.
    pub async fn open(&self, request: &SourceRequest) -> Result<SourceResponse, SourceError> {
        let mut hop = Hop::first(request);
        let mut tries_left = self.0.config.retry_limit;
        for _ in 0..=REDIRECT_LIMIT {
            let response = self.answer(request, &hop, &mut tries_left).await.map_err(|error| error.at(&hop.url))?;
            if response.status().is_redirection() {
                hop = hop.follow(response.headers())?;
                continue;
            }
            let stall_limit = self.0.config.stall_limit;
            return SourceResponse::new(response, hop.url, request.range, request.pinned.as_ref(), stall_limit);
        }
        let cause = format!("more than {REDIRECT_LIMIT} redirects");
        Err(SourceError::new(SourceErrorKind::Protocol, cause).at(&hop.url))
    }

    /// The answer at one URL, after as many tries as it takes and are left.
    async fn answer(
        &self,
        request: &SourceRequest,
        hop: &Hop,
        tries_left: &mut u32,
    ) -> Result<Response<Incoming>, SourceError> {
        let config = &self.0.config;
        loop {
            let error = match self.try_once(request, hop).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let asked = error.retry_after.unwrap_or_default();
            let is_passing = match error.kind {
                SourceErrorKind::Connect | SourceErrorKind::Reset => true,
                SourceErrorKind::Status => error.is_retryable(),
                // A source that let us wait for a head once would do so again.
                _ => false,
            };
            if !is_passing || *tries_left == 0 || asked > config.retry_after_limit {
                return Err(error);
            }
            let done = config.retry_limit - *tries_left;
            *tries_left -= 1;
            let pause = {
                let mut jitter = self.0.jitter.lock().unwrap_or_else(PoisonError::into_inner);
                backoff(config.backoff, config.backoff_limit, done, &mut jitter)
            };
            let pause = pause.max(asked);
            tracing::debug!(url = error::redacted(&hop.url), why = error.cause, ?pause, "asking the source again");
            sleep(pause).await;
        }
    }

    async fn try_once(&self, request: &SourceRequest, hop: &Hop) -> Result<Response<Incoming>, SourceError> {
        let Inner { config, routes, local, network, .. } = &*self.0;
        let uri: Uri =
            hop.url.as_str().parse().map_err(|_| {
                SourceError::new(SourceErrorKind::Usage, "the URL has a character that HTTP cannot send")
            })?;
        let mut message = http::Request::new(Empty::new());
        *message.headers_mut() = headers(request, hop);
        if let Some(auth) = routes.forwarder(&uri, request.trust).as_ref().and_then(|proxy| proxy.basic_auth()) {
            message.headers_mut().insert(header::PROXY_AUTHORIZATION, auth.clone());
        }
        *message.uri_mut() = uri;

        let [strict, lax] = match request.trust {
            Trust::Local => local,
            Trust::Network => network,
        };
        let pool = if request.insecure { lax } else { strict };
        let limit = config.connect_limit + config.head_limit;
        let response = match timeout(limit, pool.request(message)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(explain(&error)),
            Err(_) => {
                return Err(SourceError::new(SourceErrorKind::Timeout, format!("no answer within {limit:?}")));
            }
        };
        match response::refusal(response.status(), request.pinned.is_some()) {
            None => Ok(response),
            Some(mut error) => {
                error.retry_after = retry_after(response.headers(), routes.env.clock.wall());
                error.challenge = challenge(response.headers());
                Err(error)
            }
        }
    }
}

/// Runs the HTTP connections where bytes are moved.
#[derive(Clone)]
struct DataTasks(Env);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for DataTasks {
    fn execute(&self, task: F) {
        drop(self.0.spawn_data(task));
    }
}

/// The headers of a request: the caller's that may go to this hop, and ours.
fn headers(request: &SourceRequest, hop: &Hop) -> HeaderMap {
    let mut headers = hop.headers.clone();
    let mut default = |name, value| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    default(header::ACCEPT, "*/*");
    default(header::USER_AGENT, concat!("damselfly/", env!("CARGO_PKG_VERSION")));
    // Bytes are addressed by their offset in the content: a compressed body has other offsets.
    default(header::ACCEPT_ENCODING, "identity");
    let mut ours = |name, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    if let Some(range) = request.range {
        ours(header::RANGE, range.to_string());
    }
    if let Some(pinned) = &request.pinned {
        match (pinned.strong_etag().filter(|tag| tag.starts_with('"')), &pinned.last_modified) {
            (Some(etag), _) => ours(header::IF_MATCH, etag.to_owned()),
            (None, Some(date)) => ours(header::IF_UNMODIFIED_SINCE, date.clone()),
            (None, None) => {}
        }
    }
    headers
}

/// The pause before the try after `done` further ones: it doubles up to a limit, and a random half
/// of it is left out so that many clients do not come back together.
fn backoff(first: Duration, limit: Duration, done: u32, jitter: &mut Rng) -> Duration {
    let whole = first.saturating_mul(1u32.checked_shl(done).unwrap_or(u32::MAX)).min(limit);
    let micros = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(jitter.between(micros / 2, micros))
}

/// How long an answer asks to stay away (RFC 9110, 10.2.3), in seconds or until a date.
fn retry_after(headers: &HeaderMap, wall: Duration) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Some(seconds) = response::number(text) {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::from_secs(u64::try_from(date.as_second()).ok()?).saturating_sub(wall))
}

/// How a source wants to be shown who asks, the form with a token if it offers several.
fn challenge(headers: &HeaderMap) -> Option<String> {
    let said = || headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let is_bearer = |text: &&str| text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "));
    said().find(is_bearer).or_else(|| said().next()).map(str::to_owned)
}

/// Finds the reason in what the HTTP client says.
fn explain(error: &legacy::Error) -> SourceError {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(reason) = cause {
        if let Some(ours) = reason.downcast_ref::<SourceError>() {
            return ours.clone();
        }
        if let Some(http) = reason.downcast_ref::<hyper::Error>()
            && http.is_parse()
        {
            let cause = format!("the source's answer is no HTTP/1.1 that we understand: {http}");
            return SourceError::new(SourceErrorKind::Protocol, cause);
        }
        if let Some(io) = reason.downcast_ref::<io::Error>() {
            return match io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(tls) => SourceError::new(SourceErrorKind::Tls, tls.to_string()),
                None => SourceError::new(SourceErrorKind::Reset, format!("the connection broke: {io}")),
            };
        }
        cause = reason.source();
    }
    SourceError::new(SourceErrorKind::Reset, "the source closed the connection before it answered")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit_and_lose_at_most_half() {
        let mut jitter = Rng::new(1);
        let (first, limit) = (Duration::from_millis(200), Duration::from_secs(5));
        for (done, whole) in [(0, 200), (1, 400), (2, 800), (4, 3200), (5, 5000), (31, 5000), (200, 5000)] {
            let drawn: Vec<_> = (0..100).map(|_| backoff(first, limit, done, &mut jitter).as_millis()).collect();
            assert!(drawn.iter().all(|pause| (whole / 2..=whole).contains(pause)), "{done}: {drawn:?}");
            assert!(drawn.iter().any(|pause| *pause != drawn[0]), "{done}: {drawn:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let wall = Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let asked = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, wall).map(|pause| pause.as_secs())
        };
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked("0"), Some(0));
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(asked("Sun, 06 Nov 1994 08:48:37 GMT"), Some(0));
        for odd in ["-1", "+1", "soon", "", "1.5", "99999999999999999999"] {
            assert_eq!(asked(odd), None, "{odd}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), wall), None);
    }
}

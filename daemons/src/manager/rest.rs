//! The REST port: the preheat interface of Harbor, both generations, and health.

mod harbor;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use df_api::failure::{Code, Failure};
use df_api::manager as wire;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::auth::Right;
use super::console::Service;
use super::gate::{Visit, bearer, shown};
use crate::env::net::{Listener, Remote, is_temporary};

/// Connections at once.
const CONNECTION_LIMIT: usize = 1024;

/// How long the head of a request may take.
const HEAD_TERM: Duration = Duration::from_secs(10);

/// How long a request may take.
const REQUEST_TERM: Duration = Duration::from_secs(30);

/// The longest body of a request.
const BODY_LIMIT: usize = 1 << 20;

/// Longest pause after running out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long requests may go on after the manager was told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// All routes, with what they need (`None`: nothing). The tests walk this list.
pub const ROUTES: [(&str, &str, Option<&str>); 10] = [
    ("GET", "/healthy", None),
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
    ("GET", "/_ping", None),
    ("POST", "/oapi/v1/jobs", Some("preheat")),
    ("GET", "/oapi/v1/jobs", Some("view")),
    ("GET", "/oapi/v1/jobs/{id}", Some("preheat")),
    ("GET", "/oapi/v1/clusters", Some("view")),
    ("POST", "/preheats", Some("preheat")),
    ("GET", "/preheats/{id}", Some("preheat")),
];

/// The router.
pub(super) fn router(console: Service) -> Router {
    let ok = || async { "OK" };
    Router::new()
        .route("/healthy", get(ok))
        .route("/healthz", get(ok))
        .route("/_ping", get(ok))
        .route("/readyz", get(ready))
        .route("/oapi/v1/jobs", post(create_job).get(list_jobs))
        .route("/oapi/v1/jobs/{id}", get(show_job))
        .route("/oapi/v1/clusters", get(list_clusters))
        .route("/preheats", post(create_preheat))
        .route("/preheats/{id}", get(show_preheat))
        .fallback(|| async { (StatusCode::NOT_FOUND, axum::Json(json!({ "message": "no such route" }))) })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(console)
}

/// Serves the port until `shutdown`, then lets requests end for a while.
pub(super) async fn serve(router: Router, mut incoming: Listener, shutdown: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTION_LIMIT));
    let graceful = GracefulShutdown::new();
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { break };
        let accepted = tokio::select! { biased;
            () = shutdown.cancelled() => break,
            accepted = incoming.accept() => accepted,
        };
        let (conn, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_temporary(&error) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            Err(error) => {
                tracing::error!(%error, "the REST port is no longer served");
                break;
            }
        };
        let routes = router.clone();
        let service = hyper::service::service_fn(move |mut request: Request<hyper::body::Incoming>| {
            let routes = routes.clone();
            async move {
                request.extensions_mut().insert(remote);
                let answered = tokio::time::timeout(REQUEST_TERM, routes.oneshot(request.map(Body::new))).await;
                let late = || (StatusCode::GATEWAY_TIMEOUT, "it took too long").into_response();
                Ok::<Response, Infallible>(answered.map_or_else(|_| late(), |Ok(response)| response))
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TERM);
        let connection = builder.serve_connection(TokioIo::new(conn), service).into_owned();
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            let _ = watched.await;
            drop(place);
        });
    }
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}

/// A failure as JSON, in Dragonfly's form.
struct Refused(Failure);

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.0.code {
            Code::Auth => StatusCode::UNAUTHORIZED,
            Code::Blocked => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Usage => StatusCode::UNPROCESSABLE_ENTITY,
            Code::Exists => StatusCode::CONFLICT,
            Code::Busy => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let key = if status == StatusCode::UNPROCESSABLE_ENTITY { "errors" } else { "message" };
        let mut response = (status, axum::Json(json!({ key: self.0.to_string() }))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let how = header::HeaderValue::from_static("Bearer realm=\"damselfly\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
        }
        response
    }
}

type Answer = Result<Response, Refused>;

/// Everything of a request that says who asks, and its body.
struct Asked {
    headers: HeaderMap,
    query: Option<String>,
    ip: String,
}

impl Asked {
    fn of<T>(request: &Request<T>) -> Self {
        let ip = request.extensions().get::<Remote>().map_or_else(String::new, shown);
        Self { headers: request.headers().clone(), query: request.uri().query().map(str::to_owned), ip }
    }

    /// The token: of a header, in Basic form as its password, or of the query as in Dragonfly.
    fn token(&self) -> Option<String> {
        if let Some(said) = self.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) {
            let basic = said.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
            let Some((_, encoded)) = basic else { return bearer(said).map(str::to_owned) };
            let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
            return decoded.split_once(':').map(|(_, password)| password.to_owned());
        }
        let query = self.query.as_deref()?;
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(name, _)| name == "access_token").map(|(_, token)| token.into_owned())
    }

    fn pass(self, console: &Service, right: Right) -> Result<Visit, Failure> {
        console.pass_token(self.token().as_deref(), right, self.ip)
    }
}

/// A body that is JSON of a form.
async fn body<T: for<'de> Deserialize<'de>>(request: Request<Body>) -> Result<T, Failure> {
    let wrong =
        |error: &dyn std::fmt::Display| Failure::new(Code::Usage, "the body is not as it should be").because(error);
    let bytes = axum::body::to_bytes(request.into_body(), BODY_LIMIT).await.map_err(|error| wrong(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(&error))
}

async fn ready(State(console): State<Service>) -> Response {
    match console.readiness().await {
        Ok(()) => "OK".into_response(),
        Err(failure) => (StatusCode::SERVICE_UNAVAILABLE, failure.to_string()).into_response(),
    }
}

async fn create_job(State(console): State<Service>, request: Request<Body>) -> Answer {
    let visit = Asked::of(&request).pass(&console, Right::Preheat)?;
    let asked: harbor::JobRequest = body(request).await?;
    let job = console.preheat(&visit, asked.preheat()?).await?;
    Ok(axum::Json(harbor::job(&job)).into_response())
}

async fn show_job(State(console): State<Service>, Path(id): Path<String>, request: Request<Body>) -> Answer {
    Asked::of(&request).pass(&console, Right::Preheat)?;
    let job = console.job_now(number(&id)?).await?;
    Ok(axum::Json(harbor::job(&job)).into_response())
}

/// Which jobs are wanted.
#[derive(Deserialize)]
struct JobQuery {
    #[serde(default)]
    state: String,
    #[serde(default)]
    page: usize,
    #[serde(default)]
    per_page: usize,
}

async fn list_jobs(State(console): State<Service>, Query(asked): Query<JobQuery>, request: Request<Body>) -> Answer {
    Asked::of(&request).pass(&console, Right::View)?;
    let is_wanted = |job: &Value| asked.state.is_empty() || job["state"] == asked.state.as_str();
    let per_page = if asked.per_page == 0 { 10 } else { asked.per_page.min(100) };
    let skipped = asked.page.saturating_sub(1).saturating_mul(per_page);
    let jobs = console.jobs_now().await?;
    let rows: Vec<Value> = jobs.iter().map(harbor::job).filter(is_wanted).skip(skipped).take(per_page).collect();
    Ok(axum::Json(rows).into_response())
}

async fn list_clusters(State(console): State<Service>, request: Request<Body>) -> Answer {
    Asked::of(&request).pass(&console, Right::View)?;
    let clusters = console.clusters_now().await?;
    let row = |cluster: &wire::Cluster| json!({ "id": cluster.id, "name": cluster.name, "bio": cluster.description, "is_default": cluster.is_default });
    Ok(axum::Json(clusters.iter().map(row).collect::<Vec<_>>()).into_response())
}

async fn create_preheat(State(console): State<Service>, request: Request<Body>) -> Answer {
    let visit = Asked::of(&request).pass(&console, Right::Preheat)?;
    let asked: harbor::OldRequest = body(request).await?;
    let job = console.preheat(&visit, asked.preheat()).await?;
    Ok(axum::Json(json!({ "ID": job.id.to_string() })).into_response())
}

async fn show_preheat(State(console): State<Service>, Path(id): Path<String>, request: Request<Body>) -> Answer {
    Asked::of(&request).pass(&console, Right::Preheat)?;
    let job = console.job_now(number(&id)?).await?;
    Ok(axum::Json(harbor::old_job(&job)).into_response())
}

fn number(text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| Failure::new(Code::NotFound, format!("there is no job {text:?}")))
}

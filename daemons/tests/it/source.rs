//! The source client against an origin that behaves, and one that does not.

mod answers;
mod faults;
mod routes;
mod versions;

use std::time::Duration;

use df_daemons::env::Env;
use df_daemons::peer::source::{
    SourceClient, SourceConfig, SourceError, SourceErrorKind, SourceRange, SourceRequest, SourceResponse, Trust,
    Version,
};

use crate::origin::{Content, Fault, Origin, Stats};

/// The default, but quick to try again.
fn quick() -> SourceConfig {
    SourceConfig { backoff: Duration::from_millis(1), ..SourceConfig::default() }
}

fn client(config: SourceConfig) -> SourceClient {
    SourceClient::new(Env::real(None).unwrap(), config).unwrap()
}

/// A request of a local user without headers.
fn get(url: &str) -> SourceRequest {
    SourceRequest::new(url, &[]).unwrap().trust(Trust::Local)
}

fn between(first: u64, last: u64) -> SourceRange {
    SourceRange::between(first, last).unwrap()
}

/// All bytes of a body, or those before an error and the error.
async fn drain(response: &mut SourceResponse) -> (Vec<u8>, Option<SourceErrorKind>) {
    let mut all = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                assert!(!chunk.is_empty());
                all.extend_from_slice(&chunk);
            }
            end => {
                assert_eq!(response.chunk().await.unwrap(), None, "the end stays the end");
                return (all, end.err().map(|error| error.kind));
            }
        }
    }
}

/// What a request gives: the head and all bytes of the body.
async fn fetch(client: &SourceClient, request: &SourceRequest) -> Result<(SourceResponse, Vec<u8>), SourceError> {
    let mut response = client.open(request).await?;
    let (bytes, error) = drain(&mut response).await;
    assert_eq!(error, None);
    Ok((response, bytes))
}

/// How a request fails before its body.
async fn failure(client: &SourceClient, request: &SourceRequest) -> SourceError {
    client.open(request).await.expect_err("the request should fail")
}

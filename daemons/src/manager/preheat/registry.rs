//! Asking a container registry: manifests, and the token handshake that goes before them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use df_api::failure::{Code, Failure};
use df_api::manager as wire;
use serde::Deserialize;
use url::Url;

use super::image::MEDIA_TYPES;
use crate::digest::Digest;
use crate::peer::source::{SourceClient, SourceError, SourceErrorKind, SourceRequest};

/// The longest manifest or token that is read. Registries refuse manifests beyond 4 MiB.
const BODY_LIMIT: usize = 4 << 20;

const AUTHORIZATION: &str = "Authorization";

/// A registry, on behalf of one preheat.
pub(super) struct Registry {
    source: SourceClient,
    /// What goes with every request to it.
    headers: BTreeMap<String, String>,
    /// Name and password, if there are any.
    basic: Option<String>,
}

/// What a registry answers with at its token service.
#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Registry {
    pub(super) fn new(
        source: SourceClient,
        headers: &BTreeMap<String, String>,
        request: &wire::PreheatRequest,
    ) -> Self {
        let (name, password) = (&request.username, &request.password);
        let basic = (!name.is_empty()).then(|| format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))));
        Self { source, headers: headers.clone(), basic }
    }

    /// What its contents are to be asked for with.
    pub(super) fn into_headers(self) -> BTreeMap<String, String> {
        self.headers
    }

    /// A manifest; one named by its digest has it.
    pub(super) async fn manifest(&mut self, url: &Url) -> Result<Vec<u8>, Failure> {
        let accept = [("Accept".to_owned(), MEDIA_TYPES.to_owned())];
        let body = match self.read(url, &accept).await {
            Err(error) if error.http_status == Some(401) && error.challenge.is_some() => {
                let challenge = error.challenge.clone().unwrap_or_default();
                self.answer(url, &challenge, &error).await?;
                self.read(url, &accept).await.map_err(Failure::from)?
            }
            other => other.map_err(Failure::from)?,
        };
        let reference = url.path().rsplit_once('/').map_or("", |(_, reference)| reference);
        if let Ok(wanted) = reference.parse::<Digest>()
            && Digest::of(wanted.algorithm(), &body) != wanted
        {
            return Err(Failure::new(Code::Digest, "the registry's manifest has not the digest that names it"));
        }
        Ok(body)
    }

    /// Answers a challenge (RFC 6750, and the token specification of Docker's registry): the headers
    /// then have what it wants.
    async fn answer(&mut self, url: &Url, challenge: &str, error: &SourceError) -> Result<(), Failure> {
        let refused = || Failure::from(error.clone()).hint("give --username and --password of the registry");
        let Some((scheme, rest)) = challenge.split_once(' ') else { return Err(refused()) };
        if scheme.eq_ignore_ascii_case("basic") {
            let basic = self.basic.clone().filter(|_| !self.headers.contains_key(AUTHORIZATION));
            self.headers.insert(AUTHORIZATION.to_owned(), basic.ok_or_else(refused)?);
            return Ok(());
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused());
        }
        let said = parameters(rest);
        let realm = said.get("realm").and_then(|realm| Url::parse(realm).ok());
        let mut realm = realm.filter(|realm| matches!(realm.scheme(), "http" | "https")).ok_or_else(refused)?;
        if url.scheme() == "https" && realm.scheme() != "https" {
            return Err(Failure::new(Code::Protocol, "the registry wants its password sent without encryption"));
        }
        for name in ["service", "scope"] {
            if let Some(value) = said.get(name) {
                realm.query_pairs_mut().append_pair(name, value);
            }
        }
        let headers: Vec<(String, String)> =
            self.basic.iter().map(|basic| (AUTHORIZATION.to_owned(), basic.clone())).collect();
        let body = read(&self.source, &realm, &headers).await.map_err(Failure::from)?;
        let token: Token = serde_json::from_slice(&body)
            .map_err(|_| Failure::new(Code::Protocol, "the registry's token service gave no token"))?;
        let token = if token.token.is_empty() { token.access_token } else { token.token };
        if token.is_empty() {
            return Err(refused());
        }
        self.headers.insert(AUTHORIZATION.to_owned(), format!("Bearer {token}"));
        Ok(())
    }

    async fn read(&self, url: &Url, more: &[(String, String)]) -> Result<Vec<u8>, SourceError> {
        let mut headers: Vec<(String, String)> =
            self.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        headers.extend_from_slice(more);
        read(&self.source, url, &headers).await
    }
}

/// All of a small answer. Held to the rules of requests from the network.
async fn read(source: &SourceClient, url: &Url, headers: &[(String, String)]) -> Result<Vec<u8>, SourceError> {
    let mut response = source.open(&SourceRequest::new(url.as_str(), headers)?).await?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > BODY_LIMIT {
            let cause = format!("a manifest of more than {BODY_LIMIT} bytes");
            return Err(SourceError::new(SourceErrorKind::Protocol, cause));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The parameters of a challenge (RFC 9110, 11.2): `name="value"`, with commas between.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').map_or((after, ""), |(value, _)| (value, &after[value.len()..])),
        };
        let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
        found.insert(name, value.trim().to_owned());
        rest = after.trim_start_matches([' ', ',', '\t']);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text = r#"realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push""#;
        let said = parameters(text);
        assert_eq!(said["realm"], "https://auth.example/token");
        assert_eq!(said["scope"], "repository:a/b:pull,push");
        let said = parameters("realm=x, service=\"y\"");
        assert_eq!((said["realm"].as_str(), said["service"].as_str()), ("x", "y"));
        assert!(parameters("").is_empty() && parameters("nonsense").is_empty());
        assert_eq!(parameters("realm=\"open").get("realm").map(String::as_str), Some("open"));
    }
}

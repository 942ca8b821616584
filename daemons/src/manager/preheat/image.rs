//! What an image is made of: manifests and indexes of Docker and OCI registries.

use std::collections::BTreeSet;
use std::str::FromStr;

use df_api::failure::{Code, Failure};
use serde::Deserialize;
use url::Url;

use super::registry::Registry;
use super::usage;

/// Manifests read for one image.
const MANIFEST_LIMIT: usize = 64;

/// What we understand (Docker image manifest v2 schema 2, OCI image-spec).
pub(super) const MEDIA_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// An image's platform, `os/architecture[/variant]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl FromStr for Platform {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = || usage(format!("{text:?} is no platform")).hint("write it like linux/amd64 or linux/arm/v7");
        let mut parts = text.split('/').map(str::to_owned);
        let (Some(os), Some(architecture), variant, None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        if os.is_empty() || architecture.is_empty() || variant.as_deref() == Some("") {
            return Err(wrong());
        }
        Ok(Self { os, architecture, variant })
    }
}

impl Platform {
    fn is(&self, said: &SaidPlatform) -> bool {
        let is_variant = |wanted: &String| said.variant.as_ref() == Some(wanted);
        self.os == said.os && self.architecture == said.architecture && self.variant.as_ref().is_none_or(is_variant)
    }
}

/// A manifest or an index: whichever lists it has.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    size: u64,
    platform: Option<SaidPlatform>,
    /// Other places of a layer that the registry does not have itself.
    #[serde(default)]
    urls: Vec<String>,
}

#[derive(Deserialize)]
struct SaidPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

/// A content of an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Blob {
    pub(super) url: String,
    pub(super) digest: String,
    pub(super) len: u64,
}

/// Where the manifest of an image is: a URL of it, or a name such as `registry.example/app:v1`.
pub(super) fn manifest_url(text: &str) -> Result<Url, Failure> {
    if text.contains("://") {
        let url = super::http_url(text)?;
        if name_of(&url).is_none() {
            return Err(usage(format!("{text:?} is no URL of a manifest"))
                .hint("it looks like https://registry.example/v2/app/manifests/v1"));
        }
        return Ok(url);
    }
    let wrong = || usage(format!("{text:?} is no image")).hint("name it with its registry: registry.example/app:v1");
    let (host, path) = text.split_once('/').ok_or_else(wrong)?;
    if !host.contains(['.', ':']) && host != "localhost" {
        return Err(wrong());
    }
    let (name, reference) = match path.split_once('@') {
        Some((name, digest)) => (name.split(':').next().unwrap_or(name), digest),
        None => path.rsplit_once(':').unwrap_or((path, "latest")),
    };
    let url = format!("https://{host}/v2/{name}/manifests/{reference}");
    let url = Url::parse(&url).map_err(|_| wrong())?;
    name_of(&url).is_some().then_some(url).ok_or_else(wrong)
}

/// The repository that a manifest's URL is about.
fn name_of(url: &Url) -> Option<&str> {
    let (name, reference) = url.path().strip_prefix("/v2/")?.rsplit_once("/manifests/")?;
    (!name.is_empty() && !reference.is_empty() && !reference.contains('/')).then_some(name)
}

fn is_digest(text: &str) -> bool {
    let hex = |text: &str, len| text.len() == len && text.bytes().all(|c| c.is_ascii_hexdigit());
    text.strip_prefix("sha256:").is_some_and(|h| hex(h, 64))
        || text.strip_prefix("sha512:").is_some_and(|h| hex(h, 128))
}

/// All that an image is made of: its configuration and its layers, for one platform or for all, each
/// once. A manifest that is named by its digest has to have it.
pub(super) async fn blobs(
    registry: &mut Registry,
    manifest: &Url,
    platform: Option<&Platform>,
) -> Result<Vec<Blob>, Failure> {
    let name = name_of(manifest).unwrap_or_default().to_owned();
    let mut waiting = vec![manifest.clone()];
    let (mut seen, mut blobs, mut read) = (BTreeSet::new(), Vec::new(), 0);
    while let Some(url) = waiting.pop() {
        read += 1;
        if read > MANIFEST_LIMIT {
            return Err(Failure::new(Code::Protocol, format!("an image of more than {MANIFEST_LIMIT} manifests")));
        }
        let body = registry.manifest(&url).await?;
        let found: Manifest = serde_json::from_slice(&body)
            .map_err(|error| Failure::new(Code::Protocol, "the registry's manifest is none").because(error))?;
        let fits = |entry: &&Descriptor| match (platform, &entry.platform) {
            (None, _) => true,
            (Some(wanted), Some(said)) => wanted.is(said),
            // An index of one nameless manifest is for whoever asks.
            (Some(_), None) => found.manifests.len() == 1,
        };
        let entries: Vec<&Descriptor> = found.manifests.iter().filter(fits).collect();
        if entries.is_empty() && !found.manifests.is_empty() {
            return Err(Failure::new(Code::NotFound, "the image is not there for that platform"));
        }
        for entry in entries {
            waiting.push(sibling(&url, &name, "manifests", &entry.digest)?);
        }
        // A layer with URLs of its own is not the registry's to give.
        for entry in found.config.iter().chain(found.layers.iter().filter(|layer| layer.urls.is_empty())) {
            if seen.insert(entry.digest.clone()) {
                let url = sibling(&url, &name, "blobs", &entry.digest)?.to_string();
                blobs.push(Blob { url, digest: entry.digest.clone(), len: entry.size });
            }
        }
    }
    Ok(blobs)
}

/// Another thing of the same repository.
fn sibling(url: &Url, name: &str, kind: &str, digest: &str) -> Result<Url, Failure> {
    if !is_digest(digest) {
        return Err(Failure::new(Code::Protocol, "the registry names something by no digest"));
    }
    let mut url = url.clone();
    url.set_path(&format!("/v2/{name}/{kind}/{digest}"));
    url.set_query(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_by_url_or_by_name() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let table = [
            ("https://h.example/v2/lib/app/manifests/v1", "https://h.example/v2/lib/app/manifests/v1".to_owned()),
            ("h.example/lib/app:v1", "https://h.example/v2/lib/app/manifests/v1".to_owned()),
            ("localhost:5000/app", "https://localhost:5000/v2/app/manifests/latest".to_owned()),
            (&format!("h.example/app@{digest}"), format!("https://h.example/v2/app/manifests/{digest}")),
            (&format!("h.example/app:v1@{digest}"), format!("https://h.example/v2/app/manifests/{digest}")),
        ];
        for (text, url) in table {
            assert_eq!(manifest_url(text).unwrap().as_str(), url);
        }
        for text in ["", "app:v1", "lib/app", "https://h.example/v2/app/blobs/x", "ftp://h.example/v2/a/manifests/b"] {
            assert_eq!(manifest_url(text).unwrap_err().code, Code::Usage, "{text}");
        }
    }

    #[test]
    fn platforms_have_two_or_three_parts() {
        let said = SaidPlatform { os: "linux".into(), architecture: "arm".into(), variant: Some("v7".into()) };
        for (text, expected) in [("linux/arm", true), ("linux/arm/v7", true), ("linux/arm/v6", false)] {
            assert_eq!(text.parse::<Platform>().unwrap().is(&said), expected, "{text}");
        }
        for text in ["linux", "/amd64", "linux/", "linux/arm/", "a/b/c/d"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}

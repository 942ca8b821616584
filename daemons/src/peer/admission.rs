//! Who may have what others fetched with credentials of theirs: whoever has some that its source accepts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use df_api::failure::Failure;
use df_api::task::TaskRequest;
use df_core::piece::ByteRange;
use df_core::time::Instant;

use super::Peer;
use super::job::JobOptions;
use super::source::{SourceErrorKind, SourceRange, SourceRequest, Trust};
use crate::sync::lock;

/// How long a source's word holds.
const TERM: Duration = Duration::from_secs(60);

/// Words remembered.
const LIMIT: usize = 10_000;

/// Hash of a URL and the headers it was asked with.
type Key = [u8; 32];

/// What sources have let pass, and until when.
#[derive(Default)]
pub(super) struct Admissions(Mutex<BTreeMap<Key, Instant>>);

impl Admissions {
    fn is_known(&self, key: &Key, now: Instant) -> bool {
        lock(&self.0).get(key).is_some_and(|until| now < *until)
    }

    fn note(&self, key: Key, now: Instant) {
        let mut known = lock(&self.0);
        if known.len() >= LIMIT {
            known.retain(|_, until| now < *until);
        }
        if known.len() < LIMIT {
            known.insert(key, now + TERM);
        }
    }
}

fn key(request: &TaskRequest) -> Key {
    let mut hash = blake3::Hasher::new();
    let mut part = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    part(request.url.as_str());
    let headers: BTreeMap<_, _> = request.meta.header.iter().collect();
    headers.into_iter().for_each(|(name, value)| {
        part(name);
        part(value);
    });
    *hash.finalize().as_bytes()
}

impl Peer {
    /// Asks the source for a byte of a content that credentials do not tell apart, with the caller's: no
    /// more is needed to know whether the caller may have it from others. Callers on this host alone are
    /// asked about; what a scheduler wants here is given to nobody by that.
    ///
    /// # Errors
    /// What the source says, or that it cannot be asked: then nothing is handed out.
    pub(super) async fn admit(&self, request: &TaskRequest, options: &JobOptions) -> Result<(), Failure> {
        if !options.is_local || !request.shares_credentials() {
            return Ok(());
        }
        let (key, clock) = (key(request), &self.env().clock);
        if self.0.admissions.is_known(&key, clock.now()) {
            return Ok(());
        }
        let headers: Vec<(String, String)> =
            request.meta.header.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut asked = SourceRequest::new(request.url.as_str(), &headers)?.trust(Trust::Local);
        asked = asked.insecure(options.is_insecure);
        if let Some(first) = SourceRange::of(ByteRange { start: 0, len: 1 }) {
            asked = asked.range(first);
        }
        match self.source().open(&asked).await {
            // Of an empty content there is no first byte.
            Err(error) if error.kind != SourceErrorKind::Range => Err(error.into()),
            _ => {
                self.0.admissions.note(key, clock.now());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use df_api::base::UrlMeta;

    use super::*;

    fn request(url: &str, token: &str) -> TaskRequest {
        let header = [("Authorization".to_owned(), token.to_owned())].into();
        TaskRequest::new(url, UrlMeta { header, ..UrlMeta::default() }, 0).unwrap()
    }

    #[test]
    fn a_word_holds_for_its_url_and_token_and_not_for_long() {
        let (admissions, now) = (Admissions::default(), Instant::ZERO);
        admissions.note(key(&request("http://h/a", "x")), now);
        assert!(admissions.is_known(&key(&request("http://h/a", "x")), now));
        for other in [request("http://h/b", "x"), request("http://h/a", "y")] {
            assert!(!admissions.is_known(&key(&other), now));
        }
        assert!(!admissions.is_known(&key(&request("http://h/a", "x")), now + TERM));
    }
}

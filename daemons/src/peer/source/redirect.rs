//! From one URL to the next: where a redirect leads, and which headers go along.

use http::header::{self, HeaderMap};
use url::Url;

use super::error::{SourceError, SourceErrorKind, redacted};
use super::request::{SourceRequest, check_scheme, stays_behind, strip};

/// One URL on the way to the content, and the caller's headers that may be sent there.
pub(super) struct Hop {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
}

impl Hop {
    /// Where the caller pointed.
    pub(super) fn first(request: &SourceRequest) -> Self {
        Self { url: request.url.clone(), headers: request.headers.clone() }
    }

    /// Where a redirect with these headers leads. At another origin (scheme, host or port) the
    /// secrets are left behind, and stay so on the way back: who redirects chooses where to.
    pub(super) fn follow(self, answer: &HeaderMap) -> Result<Self, SourceError> {
        let protocol = |cause: String| SourceError::new(SourceErrorKind::Protocol, cause).at(&self.url);
        let location = answer
            .get(header::LOCATION)
            .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
            .ok_or_else(|| protocol("the source redirects to nowhere".into()))?;
        let mut url =
            self.url.join(location).map_err(|why| protocol(format!("the source redirects to no valid URL: {why}")))?;
        check_scheme(&url)
            .map_err(|error| protocol(format!("the source redirects to {}: {}", redacted(&url), error.cause)))?;
        strip(&mut url);
        let mut headers = self.headers;
        if url.origin() != self.url.origin() {
            let behind: Vec<_> = headers.keys().filter(|name| stays_behind(name)).cloned().collect();
            for name in behind {
                headers.remove(name);
            }
        }
        Ok(Self { url, headers })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Where a redirect leads, and whether the credentials go along.
    fn follow(from: &str, location: &str) -> Result<(String, bool), SourceErrorKind> {
        let headers = [("Authorization".to_string(), "Bearer x".to_string()), ("X-Own".to_string(), "y".to_string())];
        let hop = Hop::first(&SourceRequest::new(from, &headers).unwrap());
        let answer = HeaderMap::from_iter([(header::LOCATION, HeaderValue::from_str(location).unwrap())]);
        let next = hop.follow(&answer).map_err(|error| error.kind)?;
        assert_eq!(next.headers["x-own"], "y");
        Ok((next.url.to_string(), next.headers.contains_key(header::AUTHORIZATION)))
    }

    #[test]
    fn secrets_stay_with_their_origin() {
        let table = [
            ("/b?q=1#f", "http://h/b?q=1", true),
            ("b", "http://h/d/b", true),
            ("http://h:80/b", "http://h/b", true),
            ("http://H/b", "http://h/b", true),
            ("https://h/b", "https://h/b", false),
            ("http://h:81/b", "http://h:81/b", false),
            ("http://h.evil/b", "http://h.evil/b", false),
            ("//other/b", "http://other/b", false),
            ("http://me:pw@h/b", "http://h/b", true),
        ];
        for (location, url, keeps) in table {
            assert_eq!(follow("http://h/d/a", location), Ok((url.into(), keeps)), "{location}");
        }
    }

    #[test]
    fn redirects_out_of_http_are_refused() {
        for location in ["file:///etc/passwd", "ftp://h/", "javascript:x", "http://[", "http://h:99999/"] {
            assert_eq!(follow("http://h/", location), Err(SourceErrorKind::Protocol), "{location}");
        }
        let hop = Hop::first(&SourceRequest::new("http://h/", &[]).unwrap());
        assert!(hop.follow(&HeaderMap::new()).is_err());
    }

    #[test]
    fn secrets_do_not_come_back_with_the_way_back() {
        let headers = [("Cookie".to_string(), "x".to_string())];
        let hop = Hop::first(&SourceRequest::new("http://h/", &headers).unwrap());
        let to = |location| HeaderMap::from_iter([(header::LOCATION, HeaderValue::from_static(location))]);
        let back = hop.follow(&to("http://other/")).unwrap().follow(&to("http://h/")).unwrap();
        assert!(back.headers.is_empty());
    }
}

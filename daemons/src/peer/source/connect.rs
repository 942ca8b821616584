//! How a source is reached: names resolved, addresses checked, proxies and TLS passed through.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, StatusCode, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::egress::{Egress, Trust};
use super::error::{SourceError, SourceErrorKind};
use super::tls::Tls;
use crate::env::Env;
use crate::env::net::{BoxFuture, Conn};

/// Most addresses of one name that are tried.
const ADDRESS_LIMIT: usize = 8;

/// Longest answer of a proxy to CONNECT, in bytes.
const TUNNEL_HEAD_LIMIT: usize = 8 << 10;

/// Most headers in that answer.
const TUNNEL_HEADER_LIMIT: usize = 64;

/// What all connections have in common.
pub(super) struct Routes {
    pub(super) env: Env,
    pub(super) egress: Egress,
    pub(super) proxies: Option<Arc<Matcher>>,
    pub(super) tls: Tls,
    pub(super) connect_limit: Duration,
}

/// Opens the connections of one pool: all under the same trust, so that no request rides on a
/// connection that it could not have opened itself.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) routes: Arc<Routes>,
    pub(super) trust: Trust,
    pub(super) insecure: bool,
}

/// A connection as the HTTP client wants it.
pub(super) struct Link {
    io: TokioIo<Conn>,
    is_proxied: bool,
}

/// A host and port, as a URL or a proxy setting names them.
struct Place {
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    is_https: bool,
}

impl Place {
    fn of(uri: &Uri) -> Option<Self> {
        let is_https = uri.scheme_str() == Some("https");
        let host = uri.host()?;
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        Some(Self { host: host.to_owned(), port, is_https })
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Routes {
    /// The proxy that plain requests to `uri` are handed to as they are, and its credentials.
    pub(super) fn forwarder(&self, uri: &Uri, trust: Trust) -> Option<Intercept> {
        let is_forwarded = trust == Trust::Local && uri.scheme_str() == Some("http");
        self.proxies.as_ref().filter(|_| is_forwarded)?.intercept(uri)
    }

    /// The addresses of a place that the egress rules let through, never none.
    async fn addresses(&self, place: &Place, trust: Trust) -> Result<Vec<SocketAddr>, SourceError> {
        let mut found = match place.host.parse::<IpAddr>() {
            Ok(literal) => vec![SocketAddr::new(literal, place.port)],
            Err(_) => self.env.net.resolve(&place.host, place.port).await.map_err(|error| {
                SourceError::new(SourceErrorKind::Connect, format!("no address of {}: {error}", place.host))
            })?,
        };
        let refused = found.iter().find_map(|at| Some((at.ip(), self.egress.refusal(trust, at.ip())?)));
        found.retain(|at| self.egress.refusal(trust, at.ip()).is_none());
        found.truncate(ADDRESS_LIMIT);
        match refused {
            Some((address, why)) if found.is_empty() => {
                let cause = format!("{} is at {address}, which is refused: {why}", place.host);
                Err(SourceError::new(SourceErrorKind::Blocked, cause))
            }
            _ if found.is_empty() => {
                Err(SourceError::new(SourceErrorKind::Connect, format!("{} has no address", place.host)))
            }
            _ => Ok(found),
        }
    }

    /// Connects to one of the addresses of a place: those that were checked, not their name again.
    async fn reach(&self, place: &Place, trust: Trust) -> Result<Conn, SourceError> {
        let addresses = self.addresses(place, trust).await?;
        // One address that does not answer leaves time for the others.
        let share = self.connect_limit / addresses.len().max(1) as u32;
        let mut last = String::new();
        for address in addresses {
            match timeout(share, self.env.net.connect(address)).await {
                Ok(Ok(conn)) => return Ok(conn),
                Ok(Err(error)) => last = format!("{} at {address}: {error}", place.host),
                Err(_) => last = format!("{} at {address} does not answer", place.host),
            }
        }
        Err(SourceError::new(SourceErrorKind::Connect, last))
    }

    /// Connects to a proxy. Whoever configured it vouches for its address.
    async fn reach_proxy(&self, proxy: &Intercept) -> Result<(Conn, Place), SourceError> {
        let place = Place::of(proxy.uri())
            .filter(|_| matches!(proxy.uri().scheme_str(), Some("http" | "https")))
            .ok_or_else(|| SourceError::new(SourceErrorKind::Usage, "only http and https proxies are supported"))?;
        let conn = self.reach(&place, Trust::Local).await?;
        let conn = if place.is_https { self.tls.wrap(conn, &place.host, false).await? } else { conn };
        Ok((conn, place))
    }
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<Link, SourceError> {
        let limit = self.routes.connect_limit;
        match timeout(limit, self.open(&uri)).await {
            Ok(opened) => opened,
            Err(_) => {
                let cause = format!("no connection to {} within {limit:?}", uri.host().unwrap_or_default());
                Err(SourceError::new(SourceErrorKind::Connect, cause))
            }
        }
    }

    async fn open(&self, uri: &Uri) -> Result<Link, SourceError> {
        let routes = &self.routes;
        let place = Place::of(uri).ok_or_else(|| SourceError::new(SourceErrorKind::Usage, "the URL has no host"))?;
        let proxy = routes.proxies.as_ref().and_then(|proxies| proxies.intercept(uri));
        let (conn, is_proxied) = match proxy {
            None => (routes.reach(&place, self.trust).await?, false),
            Some(proxy) if routes.forwarder(uri, self.trust).is_some() => (routes.reach_proxy(&proxy).await?.0, true),
            Some(proxy) => {
                // A proxy that resolved the name itself could end up elsewhere than where we
                // looked: on behalf of the network it is told the checked address.
                let target = match self.trust {
                    Trust::Local => place.authority(),
                    Trust::Network => {
                        let checked = routes.addresses(&place, self.trust).await?;
                        checked.first().map(SocketAddr::to_string).unwrap_or_default()
                    }
                };
                let (conn, at) = routes.reach_proxy(&proxy).await?;
                (tunnel(conn, &at.authority(), &target, proxy.basic_auth()).await?, false)
            }
        };
        let conn = if place.is_https { routes.tls.wrap(conn, &place.host, self.insecure).await? } else { conn };
        Ok(Link { io: TokioIo::new(conn), is_proxied })
    }
}

/// Asks the proxy at `proxy` to pass bytes to and from `target` (RFC 9110, 9.3.6).
async fn tunnel(mut conn: Conn, proxy: &str, target: &str, auth: Option<&HeaderValue>) -> Result<Conn, SourceError> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(auth) = auth {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(auth.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let broken = |error: io::Error| {
        SourceError::new(SourceErrorKind::Connect, format!("the proxy {proxy} closed the connection: {error}"))
    };
    conn.write_all(&request).await.map_err(broken)?;

    let mut head = Vec::with_capacity(512);
    while head.len() < TUNNEL_HEAD_LIMIT {
        if conn.read_buf(&mut head).await.map_err(broken)? == 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut headers = [httparse::EMPTY_HEADER; TUNNEL_HEADER_LIMIT];
        let mut response = httparse::Response::new(&mut headers);
        let Ok(parsed) = response.parse(&head) else { break };
        let (true, Some(code)) = (parsed.is_complete(), response.code) else { continue };
        if (200..300).contains(&code) {
            return Ok(conn);
        }
        let kind = if code == 407 { SourceErrorKind::Auth } else { SourceErrorKind::Status };
        let error = SourceError::new(kind, format!("the proxy {proxy} answered {code} to CONNECT"));
        return Err(match StatusCode::from_u16(code) {
            Ok(status) => error.status(status),
            Err(_) => error,
        });
    }
    Err(SourceError::new(SourceErrorKind::Protocol, format!("the proxy {proxy} answered no HTTP to CONNECT")))
}

impl tower::Service<Uri> for Connector {
    type Response = Link;
    type Error = SourceError;
    type Future = BoxFuture<'static, Result<Link, SourceError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SourceError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.is_proxied)
    }
}

impl Read for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_default_ports_and_bare_hosts() {
        let place = |uri: &'static str| {
            let place = Place::of(&Uri::from_static(uri)).unwrap();
            (place.authority(), place.host)
        };
        assert_eq!(place("http://h/f"), ("h:80".into(), "h".into()));
        assert_eq!(place("https://h/f"), ("h:443".into(), "h".into()));
        assert_eq!(place("https://[::1]:8443/"), ("[::1]:8443".into(), "::1".into()));
    }

    async fn tunnel_answered(answer: &'static [u8]) -> Result<(), SourceErrorKind> {
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(answer).await.unwrap();
        let told = tokio::spawn(async move {
            let mut request = vec![0; 1024];
            let read = far.read(&mut request).await.unwrap();
            request.truncate(read);
            String::from_utf8(request).unwrap()
        });
        let auth = HeaderValue::from_static("Basic x");
        let result = tunnel(Conn::Other(Box::new(near)), "proxy:1", "1.2.3.4:443", Some(&auth)).await;
        assert_eq!(
            told.await.unwrap(),
            "CONNECT 1.2.3.4:443 HTTP/1.1\r\nHost: 1.2.3.4:443\r\nProxy-Authorization: Basic x\r\n\r\n"
        );
        result.map(drop).map_err(|error| error.kind)
    }

    #[tokio::test]
    async fn a_tunnel_is_open_after_a_2xx_alone() {
        let table: [(&[u8], _); 6] = [
            (b"HTTP/1.1 200 Connection established\r\n\r\n", Ok(())),
            (b"HTTP/1.0 204 x\r\nVia: y\r\n\r\n", Ok(())),
            (b"HTTP/1.1 407 x\r\n\r\n", Err(SourceErrorKind::Auth)),
            (b"HTTP/1.1 503 x\r\n\r\n", Err(SourceErrorKind::Status)),
            (b"HTTP/1.1 200 x\r\n", Err(SourceErrorKind::Connect)),
            (b"garbage\r\n\r\n", Err(SourceErrorKind::Protocol)),
        ];
        for (answer, expected) in table {
            assert_eq!(tunnel_answered(answer).await, expected, "{:?}", answer.escape_ascii().to_string());
        }
    }
}

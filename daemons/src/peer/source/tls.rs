//! TLS towards sources: whose certificates are believed.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use super::error::{SourceError, SourceErrorKind};
use crate::env::Clock;
use crate::env::net::Conn;

/// Makes TLS connections; the system's certificates are read when the first one is made.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    clock: Clock,
    extra: Vec<CertificateDer<'static>>,
    strict: OnceLock<Result<Arc<ClientConfig>, SourceError>>,
    lax: OnceLock<Result<Arc<ClientConfig>, SourceError>>,
}

impl Tls {
    /// Believes the system's certificate authorities and those in `ca_file` (PEM).
    pub(super) fn new(ca_file: Option<&Path>, clock: Clock) -> Result<Self, SourceError> {
        let extra = ca_file.map(certificates).transpose()?.unwrap_or_default();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(Self { provider, clock, extra, strict: OnceLock::new(), lax: OnceLock::new() })
    }

    /// Speaks TLS over `conn` with `host`, whatever its certificate if `insecure`.
    pub(super) async fn wrap(&self, conn: Conn, host: &str, insecure: bool) -> Result<Conn, SourceError> {
        let config = if insecure {
            self.lax.get_or_init(|| self.lax_config())
        } else {
            self.strict.get_or_init(|| self.strict_config())
        };
        let config = config.as_ref().map_err(SourceError::clone)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| tls(format!("{host:?} is no name that a certificate can have")))?;
        match TlsConnector::from(config.clone()).connect(name, conn).await {
            Ok(stream) => Ok(Conn::Other(Box::new(stream))),
            Err(error) => Err(handshake_error(&error, host)),
        }
    }

    fn builder(&self) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, SourceError> {
        ClientConfig::builder_with_details(self.provider.clone(), Arc::new(WallTime(self.clock.clone())))
            .with_safe_default_protocol_versions()
            .map_err(|error| tls(error.to_string()))
    }

    fn strict_config(&self) -> Result<Arc<ClientConfig>, SourceError> {
        let mut roots = RootCertStore::empty();
        // A system has odd certificates among its good ones: those are left out.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let (added, _) = roots.add_parsable_certificates(self.extra.iter().cloned());
        if added < self.extra.len() {
            return Err(tls("the extra CA file has a certificate that cannot be read"));
        }
        if roots.is_empty() {
            return Err(tls("this system has no trusted certificates"));
        }
        Ok(Arc::new(self.builder()?.with_root_certificates(roots).with_no_client_auth()))
    }

    fn lax_config(&self) -> Result<Arc<ClientConfig>, SourceError> {
        let verifier = Arc::new(AnyCertificate(self.provider.clone()));
        let config = self.builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Ok(Arc::new(config))
    }
}

fn tls(cause: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Tls, cause)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let usage = |why: String| {
        SourceError::new(SourceErrorKind::Usage, format!("the CA file {} cannot be used: {why}", path.display()))
    };
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| usage(error.to_string()))?;
    if found.is_empty() { Err(usage("there is no certificate in it".into())) } else { Ok(found) }
}

fn handshake_error(error: &io::Error, host: &str) -> SourceError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(why) => tls(format!("no TLS connection to {host}: {why}")),
        None => SourceError::new(SourceErrorKind::Connect, format!("{host} closed the connection: {error}")),
    }
}

/// The daemon's wall clock, by which certificates expire.
#[derive(Debug)]
struct WallTime(Clock);

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.wall()))
    }
}

/// Believes every certificate: what a user asks for with `--insecure`.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

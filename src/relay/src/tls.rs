//! Certificates and TLS configurations, from PEM bytes. No IO.

use std::sync::Arc;

use postroad_config::UpstreamTls;
use postroad_config::status::CertificateStatus;
use ring::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Why certificate or key were refused. Never quotes the key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No certificate in the PEM text, or it is malformed.
    #[error("no usable certificate: {0}")]
    Certificate(String),
    /// No private key in the PEM text, or it is malformed.
    #[error("no usable private key")]
    Key,
    /// Certificate and key do not belong together, or are of a kind that TLS cannot use.
    #[error("certificate and key cannot be used: {0}")]
    Pair(#[source] rustls::Error),
    /// The authority cannot verify anything.
    #[error("the certificate authority cannot be used: {0}")]
    Authority(String),
}

/// What the SMTP listeners present.
#[derive(Clone, Debug)]
pub struct Served {
    /// For the acceptor.
    pub config: Arc<ServerConfig>,
    /// For the status.
    pub status: CertificateStatus,
}

/// The TLS side of the SMTP listeners.
///
/// # Errors
/// [`Error`] if the pair cannot be used.
pub fn served(certificate: &[u8], key: &[u8]) -> Result<Served, Error> {
    let chain = chain(certificate)?;
    let status = status(&chain)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Pair)?
        .with_no_client_auth()
        .with_single_cert(chain, private_key(key)?)
        .map_err(Error::Pair)?;
    Ok(Served {
        config: Arc::new(config),
        status,
    })
}

/// The TLS side of the admin listener: only clients whose certificate the authority has signed.
///
/// # Errors
/// [`Error`] if the pair or the authority cannot be used.
pub fn admin(certificate: &[u8], key: &[u8], client_ca: &[u8]) -> Result<Arc<ServerConfig>, Error> {
    let roots = Arc::new(roots(Some(client_ca))?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| Error::Authority(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Pair)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(certificate)?, private_key(key)?)
        .map_err(Error::Pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The TLS side of a connection to an upstream; trusts `ca` if given, the public authorities otherwise.
///
/// # Errors
/// [`Error::Authority`] if `ca` holds no usable certificate.
pub fn upstream(mode: UpstreamTls, ca: Option<&[u8]>) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Pair)?;
    let config = if mode.is_verified() {
        builder
            .with_root_certificates(roots(ca)?)
            .with_no_client_auth()
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())))
            .with_no_client_auth()
    };
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    match ca {
        None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in chain(pem).map_err(|error| Error::Authority(error.to_string()))? {
                store
                    .add(certificate)
                    .map_err(|error| Error::Authority(error.to_string()))?;
            }
        }
    }
    Ok(store)
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(Error::Certificate("the file holds none".into()));
    }
    Ok(chain)
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| Error::Key)
}

fn status(chain: &[CertificateDer<'_>]) -> Result<CertificateStatus, Error> {
    let leaf = chain
        .first()
        .ok_or_else(|| Error::Certificate("the file holds none".into()))?;
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|error| Error::Certificate(error.to_string()))?;
    Ok(CertificateStatus {
        not_after: parsed.validity().not_after.timestamp(),
        fingerprint: hex(digest::digest(&digest::SHA256, leaf).as_ref()),
    })
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Takes whatever certificate the peer shows: opportunistic TLS (RFC 7435) keeps onlookers out and
/// proves nothing. Only [`upstream`] makes one, and only for a mode over which no login can go.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

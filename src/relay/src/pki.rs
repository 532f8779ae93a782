//! Certificates for tests.

use std::sync::Arc;

use postroad_config::UpstreamTls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsConnector;

use crate::tls;

/// The name in the certificate.
pub(crate) const NAME: &str = "mail.example.com";

/// An authority, and what it has signed for both sides.
pub(crate) struct Pki {
    authority: String,
    certificate: String,
    key: String,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &authority).unwrap();
        Self {
            authority: authority.pem(),
            certificate: leaf.pem(),
            key: key.serialize_pem(),
        }
    }

    /// The TLS side of an admin listener.
    pub(crate) fn admin(&self) -> Arc<ServerConfig> {
        let [certificate, key, authority] =
            [&self.certificate, &self.key, &self.authority].map(String::as_bytes);
        tls::admin(certificate, key, authority).unwrap()
    }

    /// The TLS side of an SMTP listener.
    pub(crate) fn served(&self) -> tls::Served {
        tls::served(self.certificate.as_bytes(), self.key.as_bytes()).unwrap()
    }

    /// A client that trusts the authority and shows nothing.
    pub(crate) fn verifying(&self) -> Arc<ClientConfig> {
        tls::upstream(UpstreamTls::Required, Some(self.authority.as_bytes())).unwrap()
    }

    /// A client that trusts the authority and shows its certificate.
    pub(crate) fn client(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.as_bytes());
        roots.add(authority.unwrap()).unwrap();
        let chain = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![chain], key)
            .unwrap();
        TlsConnector::from(Arc::new(config))
    }
}

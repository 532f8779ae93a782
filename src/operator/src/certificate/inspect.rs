//! What a certificate says.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::digest;

/// What a certificate says; of a chain, its first.
#[derive(Clone, Debug)]
pub(crate) struct Inspected {
    der: CertificateDer<'static>,
    pub(crate) not_after: Timestamp,
    /// Sorted DNS names.
    pub(crate) names: Vec<String>,
    /// For people.
    pub(crate) issuer: String,
    /// Hex SHA-256 of the certificate.
    pub(crate) fingerprint: String,
}

/// Reads a PEM certificate. The error is for people and quotes nothing.
pub(crate) fn inspect(pem: &str) -> Result<Inspected, String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| format!("no PEM certificate: {error}"))?;
    let (_, parsed) =
        parse_x509_certificate(&der).map_err(|error| format!("no X.509 certificate: {error}"))?;
    let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp())
        .map_err(|_| "the end of its validity is out of range".to_owned())?;
    let (names, issuer) = (names(&parsed), parsed.issuer().to_string());
    Ok(Inspected {
        fingerprint: digest::of(&der),
        not_after,
        names,
        issuer,
        der,
    })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let mut names: Vec<String> = extension
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect();
    names.sort();
    names
}

impl Inspected {
    pub(crate) fn ends_within(&self, time: Duration, now: Timestamp) -> bool {
        let left = self.not_after.as_second().saturating_sub(now.as_second());
        u64::try_from(left).map_or(true, |left| left < time.as_secs())
    }

    /// Whether a host name is among the names, wildcards included.
    pub(crate) fn covers(&self, host: &str) -> bool {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| {
            name.eq_ignore_ascii_case(host)
                || name
                    .strip_prefix("*.")
                    .zip(parent)
                    .is_some_and(|(name, parent)| name.eq_ignore_ascii_case(parent))
        })
    }

    pub(super) fn is_of(&self, key: &KeyPair) -> bool {
        let Ok((_, parsed)) = parse_x509_certificate(&self.der) else {
            return false;
        };
        parsed.public_key().subject_public_key.data.as_ref() == key.der_bytes()
    }

    pub(super) fn is_signed_by(&self, authority: &str) -> bool {
        let Ok(authority) = CertificateDer::from_pem_slice(authority.as_bytes()) else {
            return false;
        };
        let (Ok((_, parsed)), Ok((_, authority))) = (
            parse_x509_certificate(&self.der),
            parse_x509_certificate(&authority),
        ) else {
            return false;
        };
        parsed.issuer() == authority.subject()
            && parsed
                .verify_signature(Some(authority.public_key()))
                .is_ok()
    }
}

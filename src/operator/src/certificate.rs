//! Certificates: what is issued, and when.
//!
//! Each relay has an authority of its own (ten years, ECDSA P-256) that signs the certificate shown
//! to SMTP clients, the one of the admin API, and the operator's own at that API. Everything here is
//! a function of what exists, what is wanted and the time; only keys come from the system's
//! randomness.
//!
//! - [`authority`] keeps an authority until a year before its end, then signs it anew **with the same
//!   key and name**: leaves stay valid under the old and the new certificate, so no client is cut off.
//! - [`leaf`] keeps a certificate while it has the names, the signature and a third of its time left.
//!
//! What exists and cannot be read is an [`Error::Unreadable`] for the authority, since replacing it
//! would cut off every client that trusts it; a leaf that cannot be read is simply replaced.

mod inspect;

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};

pub(crate) use inspect::{Inspected, inspect};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longer than anybody keeps a cluster without replacing what trusts it.
const AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(3650);
/// Time for clients to pick up the authority's new certificate before the old one ends.
const AUTHORITY_RENEWAL: Duration = DAY.saturating_mul(365);
const LEAF_LIFETIME: Duration = DAY.saturating_mul(90);
/// A third of the lifetime: a month in which somebody can notice that renewal fails.
const LEAF_RENEWAL: Duration = DAY.saturating_mul(30);
/// Clocks of clients may be behind.
const BACKDATED: Duration = Duration::from_secs(3600);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What exists is no certificate and key, or they do not belong together.
    #[error("cannot read the existing certificate authority: {0}")]
    Unreadable(String),
    /// The library refused; a name that is no ASCII, for example.
    #[error("cannot issue the certificate")]
    Issue(#[from] rcgen::Error),
}

/// A certificate and its key, PEM. Prints neither.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(..)")
    }
}

/// What has become of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// The one that exists serves.
    Kept(Pair),
    /// There was none.
    Issued(Pair),
    /// The one that existed does not serve any more.
    Renewed(Pair, &'static str),
}

impl Outcome {
    pub(crate) const fn pair(&self) -> &Pair {
        match self {
            Self::Kept(pair) | Self::Issued(pair) | Self::Renewed(pair, _) => pair,
        }
    }
}

/// What a leaf is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Usage {
    Client,
    Server,
}

/// What a leaf has to say.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) common_name: String,
    /// Sorted, each once.
    pub(crate) names: Vec<String>,
    pub(crate) usage: Usage,
}

/// The authority of a relay.
///
/// # Errors
/// [`Error::Unreadable`] if there is one that cannot be read; it is for people to look at.
pub(crate) fn authority(
    existing: Option<&Pair>,
    common_name: &str,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let Some(existing) = existing else {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        return Ok(Outcome::Issued(sign_authority(common_name, &key, now)?));
    };
    let inspected = inspect(&existing.certificate).map_err(Error::Unreadable)?;
    let key = KeyPair::from_pem(&existing.key)
        .map_err(|error| Error::Unreadable(format!("{}: {error}", crate::names::KEY_PRIVATE)))?;
    if !inspected.is_of(&key) {
        let problem = "the key does not belong to the certificate";
        return Err(Error::Unreadable(problem.into()));
    }
    if inspected.ends_within(AUTHORITY_RENEWAL, now) {
        let pair = sign_authority(common_name, &key, now)?;
        return Ok(Outcome::Renewed(pair, "its end is near"));
    }
    Ok(Outcome::Kept(existing.clone()))
}

/// A certificate of the authority.
///
/// # Errors
/// [`Error::Unreadable`] if the authority cannot be read.
pub(crate) fn leaf(
    authority: &Pair,
    existing: Option<&Pair>,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let Some(existing) = existing else {
        return Ok(Outcome::Issued(issue(authority, wanted, now)?));
    };
    match why_replace(authority, existing, wanted, now) {
        None => Ok(Outcome::Kept(existing.clone())),
        Some(why) => Ok(Outcome::Renewed(issue(authority, wanted, now)?, why)),
    }
}

fn why_replace(
    authority: &Pair,
    existing: &Pair,
    wanted: &Wanted,
    now: Timestamp,
) -> Option<&'static str> {
    let Ok(inspected) = inspect(&existing.certificate) else {
        return Some("it could not be read");
    };
    let Ok(key) = KeyPair::from_pem(&existing.key) else {
        return Some("its key could not be read");
    };
    if !inspected.is_of(&key) {
        return Some("its key belongs to another certificate");
    }
    if !inspected.is_signed_by(&authority.certificate) {
        return Some("the authority has changed");
    }
    if inspected.names != wanted.names {
        return Some("its names have changed");
    }
    inspected
        .ends_within(LEAF_RENEWAL, now)
        .then_some("its end is near")
}

fn sign_authority(common_name: &str, key: &KeyPair, now: Timestamp) -> Result<Pair, Error> {
    let mut params = params(common_name, AUTHORITY_LIFETIME, now);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Two certificates of one issuer need two serial numbers (RFC 5280 §4.1.2.2), and the library
    // would derive the same one from the same key.
    let seconds = now.as_second().unsigned_abs();
    params.serial_number = Some(SerialNumber::from(seconds));
    Ok(Pair {
        certificate: params.self_signed(key)?.pem(),
        key: key.serialize_pem(),
    })
}

fn issue(authority: &Pair, wanted: &Wanted, now: Timestamp) -> Result<Pair, Error> {
    let authority_key =
        KeyPair::from_pem(&authority.key).map_err(|error| Error::Unreadable(error.to_string()))?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, authority_key)
        .map_err(|error| Error::Unreadable(error.to_string()))?;
    let mut params = params(&wanted.common_name, LEAF_LIFETIME, now);
    params.subject_alt_names = CertificateParams::new(wanted.names.clone())?.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![match wanted.usage {
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok(Pair {
        certificate: params.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

fn params(common_name: &str, lifetime: Duration, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, shorten(common_name));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    params.not_before = epoch + seconds.saturating_sub(BACKDATED);
    params.not_after = epoch + seconds + lifetime;
    params
}

/// A common name has at most 64 characters (RFC 5280, ub-common-name).
fn shorten(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests;

//! The credentials file.

use postroad_config::{Credentials, SALT_BYTES};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::Error;
use crate::controller::dereference::{Found, string_at};
use crate::controller::validate::Validated;
use crate::credentials_file;
use crate::names::KEY_CREDENTIALS;

/// The text of the file. An existing one that cannot be read is written anew: it holds nothing that
/// the Secrets of the credentials do not.
pub(super) fn file(validated: &Validated, found: &Found) -> Result<String, Error> {
    let existing = found
        .secret(&validated.id.credentials())
        .and_then(|secret| string_at(secret, KEY_CREDENTIALS))
        .and_then(|text| Credentials::parse(&text).ok())
        .unwrap_or_default();
    let random = SystemRandom::new();
    let file = credentials_file::render(&existing, &found.logins, &found.proofs, || {
        let mut salt = [0; SALT_BYTES];
        random.fill(&mut salt).map_err(|_| Error::Randomness)?;
        Ok::<_, Error>(salt)
    })?;
    Ok(file.render()?)
}

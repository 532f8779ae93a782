//! Whether a name and a password belong together.

use postroad_config::{Credentials, Verifier};
use postroad_smtp::Password;

use crate::live::Live;

/// A name that may stand in the log: people type their password where the name belongs.
pub(super) fn loggable<'a>(credentials: &Credentials, username: &'a str) -> &'a str {
    match credentials.find(username) {
        Some(_) => username,
        None => "unknown",
    }
}

/// What proves that name and password belong together. An unknown name costs as much time as a wrong password, so that
/// names cannot be probed for.
pub(super) fn check(live: &Live, username: &str, password: &Password) -> Option<Verifier> {
    if let Some(credential) = live.credentials.find(username) {
        let mut verifiers = credential.verifiers.iter();
        return verifiers
            .find(|verifier| verifier.verify(password.as_str()))
            .cloned();
    }
    let decoy = Verifier::derive("", [0; postroad_config::SALT_BYTES]);
    // Deriving has taken the time; the comparison decides nothing.
    drop(decoy);
    None
}

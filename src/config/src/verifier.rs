//! What the relay stores instead of a password.
//!
//! The stored form is the one of SCRAM-SHA-256 (RFC 5803), so that a password handed out today can
//! serve SCRAM later: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, all base64.
//! Whoever reads it can neither log in nor recover the password: AUTH PLAIN needs the password
//! itself, and SCRAM needs `ClientKey`, of which only the hash is kept.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::{digest, hmac, pbkdf2};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// Bytes of salt that [`Verifier::derive`] takes; make them random.
pub const SALT_BYTES: usize = 16;

/// RFC 7677 §4 asks for 4096 at least. The operator hands out passwords of more than 128 random bits, which
/// no number of iterations makes any safer, and each login costs this much work: about a millisecond.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");

/// What bounds the work that a credentials file can ask for per login.
const ITERATIONS_MAX: u32 = 100_000;

const SCHEME: &str = "SCRAM-SHA-256";
const KEY_BYTES: usize = digest::SHA256_OUTPUT_LEN;

/// Proves a password without holding it.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Verifier {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: [u8; KEY_BYTES],
    server_key: [u8; KEY_BYTES],
}

/// Why a text is no verifier. Never quotes the text.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a verifier of the form SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>")]
pub struct VerifierError;

impl Verifier {
    /// Makes the verifier of a password.
    #[must_use]
    pub fn derive(password: &str, salt: [u8; SALT_BYTES]) -> Self {
        let keys = Keys::derive(password, &salt, ITERATIONS);
        Self {
            iterations: ITERATIONS,
            salt: salt.to_vec(),
            stored_key: keys.stored,
            server_key: keys.server,
        }
    }

    /// Whether this is the password. Takes the same time for every wrong one.
    #[must_use]
    pub fn verify(&self, password: &str) -> bool {
        let keys = Keys::derive(password, &self.salt, self.iterations);
        keys.stored.ct_eq(&self.stored_key).into()
    }
}

/// The two keys of RFC 5802 §3 that a server keeps.
struct Keys {
    stored: [u8; KEY_BYTES],
    server: [u8; KEY_BYTES],
}

impl Keys {
    fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = [0; KEY_BYTES];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            salt,
            password.as_bytes(),
            &mut salted,
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        let client = hmac::sign(&key, b"Client Key");
        let mut keys = Self {
            stored: [0; KEY_BYTES],
            server: [0; KEY_BYTES],
        };
        keys.stored
            .copy_from_slice(digest::digest(&digest::SHA256, client.as_ref()).as_ref());
        keys.server
            .copy_from_slice(hmac::sign(&key, b"Server Key").as_ref());
        keys
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        write!(
            f,
            "{SCHEME}${}:{}${}:{}",
            self.iterations,
            encode(&self.salt),
            encode(&self.stored_key),
            encode(&self.server_key)
        )
    }
}

/// Says nothing of the keys: verifiers must not end up in logs either.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(..)")
    }
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let parts = || -> Option<Self> {
            let (scheme, rest) = text.split_once('$')?;
            let (parameters, keys) = rest.split_once('$')?;
            let (iterations, salt) = parameters.split_once(':')?;
            let (stored, server) = keys.split_once(':')?;
            let iterations: NonZeroU32 = iterations.parse().ok()?;
            let decode = |text: &str| BASE64_STANDARD.decode(text).ok();
            (scheme == SCHEME && iterations.get() <= ITERATIONS_MAX).then_some(())?;
            Some(Self {
                iterations,
                salt: decode(salt)?,
                stored_key: decode(stored)?.try_into().ok()?,
                server_key: decode(server)?.try_into().ok()?,
            })
        };
        parts().ok_or(VerifierError)
    }
}

impl TryFrom<String> for Verifier {
    type Error = VerifierError;

    fn try_from(text: String) -> Result<Self, VerifierError> {
        text.parse()
    }
}

impl From<Verifier> for String {
    fn from(verifier: Verifier) -> Self {
        verifier.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7677_gives_its_server_key() {
        // RFC 7677 §3: user "user", password "pencil", salt and 4096 iterations as given there.
        let salt: [u8; 16] = BASE64_STANDARD
            .decode("W22ZaJ0SNY7soEsUEjb6gQ==")
            .unwrap()
            .try_into()
            .unwrap();
        let verifier = Verifier::derive("pencil", salt);
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
             r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
             c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let key = hmac::Key::new(hmac::HMAC_SHA256, &verifier.server_key);
        let signature = hmac::sign(&key, message.as_bytes());
        assert_eq!(
            BASE64_STANDARD.encode(signature.as_ref()),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    #[test]
    fn only_the_password_verifies() {
        let verifier = Verifier::derive("correct horse", [1; SALT_BYTES]);
        assert!(verifier.verify("correct horse"));
        for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert!(!verifier.verify(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn parses_what_it_prints_and_refuses_the_rest() {
        let verifier = Verifier::derive("x", [2; SALT_BYTES]);
        assert_eq!(verifier.to_string().parse(), Ok(verifier));
        for wrong in [
            "",
            "plain",
            "SCRAM-SHA-1$4096:AA==$AA==:AA==",
            "SCRAM-SHA-256$0:AA==$AA==:AA==",
        ] {
            assert_eq!(wrong.parse::<Verifier>(), Err(VerifierError), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_cannot_ask_for_endless_work() {
        let text = Verifier::derive("x", [2; SALT_BYTES]).to_string();
        let greedy = text.replacen("$4096:", "$4000000000:", 1);
        assert_eq!(greedy.parse::<Verifier>(), Err(VerifierError));
    }

    #[test]
    fn debug_shows_no_keys() {
        assert_eq!(
            format!("{:?}", Verifier::derive("x", [2; SALT_BYTES])),
            "Verifier(..)"
        );
    }
}

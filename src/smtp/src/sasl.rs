//! The two SASL mechanisms: PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), both sides.
//!
//! Both show the password to whoever sees the bytes; that they are used under TLS only is the
//! sessions' business.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Password;

/// Longest user name in octets (RFC 4616 §2). The password is bounded by the line.
pub(crate) const USERNAME_MAX: usize = 255;
/// LOGIN's prompt for the name: `Username:`.
pub(crate) const LOGIN_USERNAME: &str = "VXNlcm5hbWU6";
/// LOGIN's prompt for the password: `Password:`.
pub(crate) const LOGIN_PASSWORD: &str = "UGFzc3dvcmQ6";

/// Why a response proves nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Error {
    /// Not base64, not UTF-8, wrong parts, or a name that cannot be one.
    #[error("the response is malformed")]
    Malformed,
    /// One user wants to act as another, which nobody is allowed to.
    #[error("the authorization identity differs from the authentication identity")]
    ActsForAnother,
}

/// A name and the password that is to prove it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Claim {
    pub(crate) username: String,
    pub(crate) password: Password,
}

/// Decodes PLAIN's one message: `[authzid] NUL authcid NUL passwd`.
pub(crate) fn decode_plain(response: &[u8]) -> Result<Claim, Error> {
    let text = decode_text(response)?;
    let mut parts = text.split('\0');
    let (Some(acts_as), Some(username), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Error::Malformed);
    };
    let claim = claim(username, password)?;
    match acts_as {
        "" => Ok(claim),
        acts_as if acts_as == username => Ok(claim),
        _ => Err(Error::ActsForAnother),
    }
}

/// Decodes LOGIN's first response, the name.
pub(crate) fn decode_login_username(response: &[u8]) -> Result<String, Error> {
    let username = decode_text(response)?;
    check_username(&username)?;
    Ok(username)
}

/// Decodes LOGIN's second response, the password.
pub(crate) fn decode_login(username: &str, response: &[u8]) -> Result<Claim, Error> {
    claim(username, &decode_text(response)?)
}

/// Encodes PLAIN's message without an authorization identity.
pub(crate) fn encode_plain(username: &str, password: &Password) -> String {
    encode(&format!("\0{username}\0{}", password.as_str()))
}

/// Encodes a response of LOGIN.
pub(crate) fn encode(text: &str) -> String {
    STANDARD.encode(text)
}

fn decode_text(response: &[u8]) -> Result<String, Error> {
    let octets = STANDARD.decode(response).map_err(|_| Error::Malformed)?;
    String::from_utf8(octets).map_err(|_| Error::Malformed)
}

fn claim(username: &str, password: &str) -> Result<Claim, Error> {
    check_username(username)?;
    if password.is_empty() || password.contains('\0') {
        return Err(Error::Malformed);
    }
    Ok(Claim {
        username: username.to_owned(),
        password: Password::new(password),
    })
}

/// Names stand in logs and metrics: control characters cannot be part of one.
fn check_username(username: &str) -> Result<(), Error> {
    match username.len() {
        1..=USERNAME_MAX if !username.chars().any(char::is_control) => Ok(()),
        _ => Err(Error::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(message: &str) -> Result<Claim, Error> {
        decode_plain(encode(message).as_bytes())
    }

    #[test]
    fn plain_round_trips() {
        let password = Password::new("pass wörd");
        let claim = decode_plain(encode_plain("user@example.com", &password).as_bytes()).unwrap();
        assert_eq!(claim.username, "user@example.com");
        assert_eq!(claim.password, password);
    }

    #[test]
    fn plain_takes_no_other_identity() {
        assert!(plain("user\0user\0pw").is_ok());
        assert_eq!(plain("root\0user\0pw"), Err(Error::ActsForAnother));
    }

    #[test]
    fn malformed_responses_are_refused() {
        let long = format!("\0{}\0pw", "u".repeat(USERNAME_MAX + 1));
        let messages = [
            "",
            "user",
            "\0user",
            "\0user\0",
            "\0\0pw",
            "\0user\0pw\0more",
            "\0us\ner\0pw",
            &long,
        ];
        for message in messages {
            assert_eq!(plain(message), Err(Error::Malformed), "{message:?}");
        }
        for response in ["====", "dXNlcg", "dXNl cg==", "/w=="] {
            assert_eq!(decode_plain(response.as_bytes()), Err(Error::Malformed));
            assert_eq!(
                decode_login_username(response.as_bytes()),
                Err(Error::Malformed)
            );
        }
    }

    /// A relay marks its own reports by a NUL before the login ([`check_username`]).
    #[test]
    fn no_mechanism_takes_a_name_with_a_control_character() {
        for name in ["\0shop", "shop\0", "sh\0op", "sh\nop", "sh\u{85}op"] {
            let given = decode_login_username(encode(name).as_bytes());
            assert_eq!(given, Err(Error::Malformed), "LOGIN {name:?}");
            let given = plain(&format!("\0{name}\0pw"));
            assert_eq!(given, Err(Error::Malformed), "PLAIN {name:?}");
        }
    }

    #[test]
    fn the_prompts_are_what_clients_look_for() {
        assert_eq!(LOGIN_USERNAME, encode("Username:"));
        assert_eq!(LOGIN_PASSWORD, encode("Password:"));
    }
}

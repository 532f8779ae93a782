//! The credentials file of a relay.
//!
//! A verifier is salted, so deriving it anew gives another text each time, and each time a write.
//! The one that exists stays as long as it proves the password.

use std::collections::BTreeMap;

use postroad_config::{Credential, Credentials, SALT_BYTES, Verifier};

/// The file for these names and passwords, sorted by name.
///
/// # Errors
/// Whatever `salt` returns when there is no randomness.
pub(crate) fn render<E>(
    existing: &Credentials,
    wanted: &BTreeMap<String, String>,
    mut salt: impl FnMut() -> Result<[u8; SALT_BYTES], E>,
) -> Result<Credentials, E> {
    let mut credentials = Vec::with_capacity(wanted.len());
    for (username, password) in wanted {
        let verifier = match proven(existing, username, password) {
            Some(verifier) => verifier.clone(),
            None => Verifier::derive(password, salt()?),
        };
        credentials.push(Credential {
            username: username.clone(),
            verifiers: vec![verifier],
        });
    }
    Ok(Credentials { credentials })
}

/// The verifier in the file that proves the password of this name.
pub(crate) fn proven<'a>(
    file: &'a Credentials,
    username: &str,
    password: &str,
) -> Option<&'a Verifier> {
    let verifiers = &file.find(username)?.verifiers;
    verifiers.iter().find(|verifier| verifier.verify(password))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn wanted(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, password)| ((*name).into(), (*password).into()))
            .collect()
    }

    fn file(existing: &Credentials, pairs: &[(&str, &str)], salt: u8) -> Credentials {
        render(existing, &wanted(pairs), || {
            Ok::<_, Infallible>([salt; SALT_BYTES])
        })
        .unwrap()
    }

    #[test]
    fn what_proves_the_password_stays() {
        let first = file(&Credentials::default(), &[("b", "2"), ("a", "1")], 1);
        assert_eq!(file(&first, &[("a", "1"), ("b", "2")], 9), first);
    }

    #[test]
    fn a_new_password_gets_a_new_verifier_and_the_others_stay() {
        let first = file(&Credentials::default(), &[("a", "1"), ("b", "2")], 1);
        let second = file(&first, &[("a", "1"), ("b", "new")], 9);
        assert_eq!(second.find("a"), first.find("a"));
        assert!(proven(&second, "b", "new").is_some());
        assert!(proven(&second, "b", "2").is_none());
    }

    #[test]
    fn who_is_not_wanted_is_gone() {
        let first = file(&Credentials::default(), &[("a", "1"), ("b", "2")], 1);
        let second = file(&first, &[("b", "2")], 9);
        assert_eq!(second.find("a"), None);
        assert_eq!(second.find("b"), first.find("b"));
    }

    #[test]
    fn the_file_can_be_read_and_holds_no_password() {
        let text = file(&Credentials::default(), &[("a", "hunter2")], 1)
            .render()
            .unwrap();
        assert!(!text.contains("hunter2"));
        assert!(Credentials::parse(&text).is_ok());
    }
}

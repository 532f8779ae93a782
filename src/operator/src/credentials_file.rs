//! The credentials file of a relay.
//!
//! A verifier is salted, so deriving it anew gives another text each time, and each time a write.
//! The one that exists stays as long as it proves the password.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

use postroad_config::{Credential, Credentials, SALT_BYTES, Verifier};

use crate::context::lock;
use crate::digest;

/// What the operator hands out has 43. A shorter one than this, set by hand, could be guessed: whoever reads the file of
/// verifiers tries a thousand per second and core, and a relay may be reached by strangers.
pub(crate) const PASSWORD_CHARS_MIN: usize = 12;

/// What a name proves itself with.
#[derive(Clone, Eq, PartialEq)]
pub(crate) enum Login {
    Password(String),
    /// Nothing that is taken: what the file has for the name goes on.
    Former,
}

impl Login {
    /// A password as it stands in a Secret.
    pub(crate) fn of(password: String) -> Self {
        if is_long_enough(&password) {
            Self::Password(password)
        } else {
            Self::Former
        }
    }
}

/// Whether a password is taken.
pub(crate) fn is_long_enough(password: &str) -> bool {
    password.chars().count() >= PASSWORD_CHARS_MIN
}

/// Facts after which [`Proofs`] starts over: some MB.
const PROOFS_MAX: usize = 50_000;

/// Which verifiers have proven which passwords. To find out takes a millisecond of CPU, for each credential at each
/// visit of its relay; here it is found out once. Holds digests, in memory only.
#[derive(Default)]
pub(crate) struct Proofs(Mutex<HashSet<String>>);

impl Proofs {
    fn proves(&self, verifier: &Verifier, password: &str) -> bool {
        // The salt of the verifier is in the fact, so that equal passwords do not show.
        let verifier_text = verifier.to_string();
        let fact = digest::of_parts([verifier_text.as_bytes(), password.as_bytes()]);
        if lock(&self.0).contains(&fact) {
            return true;
        }
        let proves = verifier.verify(password);
        if proves {
            let mut facts = lock(&self.0);
            if facts.len() >= PROOFS_MAX {
                facts.clear();
            }
            facts.insert(fact);
        }
        proves
    }
}

/// The file for these names, sorted by name.
///
/// # Errors
/// Whatever `salt` returns when there is no randomness.
pub(crate) fn render<E>(
    existing: &Credentials,
    wanted: &BTreeMap<String, Login>,
    proofs: &Proofs,
    mut salt: impl FnMut() -> Result<[u8; SALT_BYTES], E>,
) -> Result<Credentials, E> {
    let mut credentials = Vec::with_capacity(wanted.len());
    for (username, login) in wanted {
        let former = existing.find(username);
        let verifiers = match login {
            Login::Password(password) => match proven(existing, username, password, proofs) {
                Some(verifier) => vec![verifier.clone()],
                None => vec![Verifier::derive(password, salt()?)],
            },
            Login::Former => former.map_or_else(Vec::new, |former| former.verifiers.clone()),
        };
        if !verifiers.is_empty() {
            credentials.push(Credential {
                username: username.clone(),
                verifiers,
            });
        }
    }
    Ok(Credentials { credentials })
}

/// The verifier in the file that proves the password of this name.
pub(crate) fn proven<'a>(
    file: &'a Credentials,
    username: &str,
    password: &str,
    proofs: &Proofs,
) -> Option<&'a Verifier> {
    let mut verifiers = file.find(username)?.verifiers.iter();
    verifiers.find(|verifier| proofs.proves(verifier, password))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn wanted(pairs: &[(&str, &str)]) -> BTreeMap<String, Login> {
        pairs
            .iter()
            .map(|(name, password)| ((*name).into(), Login::Password((*password).into())))
            .collect()
    }

    fn proven<'a>(file: &'a Credentials, username: &str, password: &str) -> Option<&'a Verifier> {
        super::proven(file, username, password, &Proofs::default())
    }

    fn file(existing: &Credentials, pairs: &[(&str, &str)], salt: u8) -> Credentials {
        render(existing, &wanted(pairs), &Proofs::default(), || {
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

    #[test]
    fn a_password_that_is_not_taken_leaves_the_former_one_in_force() {
        let first = file(&Credentials::default(), &[("a", "1"), ("b", "2")], 1);
        for (password, former) in [
            ("", true),
            ("elevenchars", true),
            ("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", true),
            ("twelve chars", false),
        ] {
            let login = Login::of(password.into());
            let wanted = [("a".to_owned(), login.clone()), ("new".to_owned(), login)];
            let salt = || Ok::<_, Infallible>([9; SALT_BYTES]);
            let second = render(&first, &wanted.into(), &Proofs::default(), salt).unwrap();
            assert_eq!(second.find("a") == first.find("a"), former, "{password}");
            assert_eq!(second.find("new").is_none(), former, "{password}");
            assert!(second.render().is_ok());
        }
    }

    #[test]
    fn what_has_been_proven_is_not_found_out_again_and_nothing_else_is_believed() {
        let (proofs, other) = (Proofs::default(), Verifier::derive("2", [1; SALT_BYTES]));
        let verifier = Verifier::derive("1", [1; SALT_BYTES]);
        for _ in 0..2 {
            assert!(proofs.proves(&verifier, "1"));
            assert!(!proofs.proves(&verifier, "2"));
            assert!(!proofs.proves(&other, "1"));
            assert_eq!(lock(&proofs.0).len(), 1);
        }
        // Proof that it is remembered: what was put there by hand is believed.
        let fact = digest::of_parts([verifier.to_string().as_bytes(), b"2".as_slice()]);
        lock(&proofs.0).insert(fact);
        assert!(proofs.proves(&verifier, "2"));
    }
}

//! Who may authenticate.

use serde::{Deserialize, Serialize};

use crate::{Error, Verifier, parse, render};

/// The credentials file: every name that may authenticate at one relay.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credentials {
    /// Sorted by name, each name once.
    pub credentials: Vec<Credential>,
}

/// One name and what proves it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credential {
    /// The user name that the client sends.
    pub username: String,
    /// Any of these proves it: more than one while a password is being rotated.
    pub verifiers: Vec<Verifier>,
}

impl Credentials {
    /// Parses and checks a credentials file.
    ///
    /// # Errors
    /// [`Error::Parse`] for what is no YAML of this shape or no verifier, [`Error::Invalid`] for a
    /// name that stands twice.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let credentials: Self = parse(text)?;
        credentials.check()?;
        Ok(credentials)
    }

    /// The file that [`Self::parse`] reads back as an equal value.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a name stands twice.
    pub fn render(&self) -> Result<String, Error> {
        self.check()?;
        render(self)
    }

    /// The entry of a user name, compared byte for byte.
    #[must_use]
    pub fn find(&self, username: &str) -> Option<&Credential> {
        self.credentials
            .binary_search_by(|credential| credential.username.as_str().cmp(username))
            .ok()
            .and_then(|index| self.credentials.get(index))
    }

    fn check(&self) -> Result<(), Error> {
        // Strictly ascending says both: sorted (find relies on it) and unique.
        match self
            .credentials
            .windows(2)
            .find(|pair| pair[0].username >= pair[1].username)
        {
            Some(pair) => Err(Error::invalid(
                "credentials",
                format!("{:?} stands twice or out of order", pair[1].username),
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(username: &str, password: &str) -> Credential {
        Credential {
            username: username.into(),
            verifiers: vec![Verifier::derive(password, [7; crate::SALT_BYTES])],
        }
    }

    #[test]
    fn what_is_rendered_parses_back_equal_and_holds_no_password() {
        let file = Credentials {
            credentials: vec![credential("a", "secret-1"), credential("b", "secret-2")],
        };
        let text = file.render().unwrap();
        assert_eq!(Credentials::parse(&text).unwrap(), file);
        assert!(!text.contains("secret-"), "{text}");
    }

    #[test]
    fn what_cannot_be_parsed_is_not_quoted() {
        let verifier = credential("a", "secret").verifiers[0].to_string();
        let file = |rest: &str| {
            format!("credentials:\n- username: a\n  verifiers:\n  - {verifier}\n{rest}")
        };
        for text in [
            file("  password: x\n"),
            file("  - nonsense\n"),
            file("- [\n"),
            verifier.clone(),
            format!("credentials:\n- {verifier}\n"),
            format!("credentials:\n- username: a\n  verifiers: {verifier}\n"),
            format!("credentials:\n- username: a\n  verifiers:\n  - {verifier}x\n"),
        ] {
            let error = Credentials::parse(&text).unwrap_err().to_string();
            assert!(!error.contains(&verifier[..30]), "{error}");
            assert!(error.contains("line "), "{error}");
        }
    }

    #[test]
    fn a_name_that_stands_twice_is_refused() {
        let file = Credentials {
            credentials: vec![credential("a", "1"), credential("a", "2")],
        };
        assert!(
            file.render()
                .unwrap_err()
                .to_string()
                .contains("stands twice")
        );
    }

    #[test]
    fn names_are_found_exactly() {
        let file = Credentials {
            credentials: vec![credential("a", "1"), credential("b", "2")],
        };
        assert_eq!(file.find("b"), Some(&file.credentials[1]));
        assert_eq!(file.find("B"), None);
        assert_eq!(file.find(""), None);
    }
}

//! Takes our own login out of what a server says.
//!
//! Some servers repeat the command that they refuse, and what they say is shown in status, logs and events. What is
//! hidden: the user name, the password, and what AUTH PLAIN and LOGIN made of them (RFC 4616), whole or in pieces, in
//! any case.

use super::Login;
use crate::{Reply, sasl};

/// What stands in the place of what is hidden.
const HIDDEN: &str = "[hidden]";

/// Servers cut what they repeat: a piece of base64 of this length is six octets of the login.
const PIECE_MIN: usize = 8;

/// The reply without our login.
pub(super) fn redact(reply: &Reply, login: &Login) -> Reply {
    let secrets = Secrets::of(login);
    let lines = reply.lines().iter().map(|line| secrets.hide_in(line));
    let text = lines.collect::<Vec<_>>().join("\n");
    Reply::new(reply.code(), reply.status(), text)
}

struct Secrets {
    username: String,
    /// As a reply would show it: what cannot be shown is replaced there too.
    password: Vec<String>,
    /// What AUTH sent.
    responses: [String; 3],
}

impl Secrets {
    fn of(login: &Login) -> Self {
        let password = login.password.as_str();
        Self {
            username: login.username.clone(),
            password: Reply::new(500, None, password).lines().to_vec(),
            responses: [
                sasl::encode_plain(&login.username, &login.password),
                sasl::encode(&login.username),
                sasl::encode(password),
            ],
        }
    }

    fn hide_in(&self, line: &str) -> String {
        let mut hidden = vec![false; line.len()];
        let mut hide = |at: usize, length: usize| hidden[at..at + length].fill(true);
        for at in find_words(line, &self.username) {
            hide(at, self.username.len());
        }
        for part in &self.password {
            let found = match part.len() {
                // A gap within "password" would spell the password "pass".
                ..PIECE_MIN => find_words(line, part),
                _ => find(line, part.as_bytes()),
            };
            found.into_iter().for_each(|at| hide(at, part.len()));
        }
        for response in &self.responses {
            let unpadded = response.trim_end_matches('=');
            for at in find_words(line, unpadded) {
                hide(at, unpadded.len());
            }
            for piece in response.as_bytes().windows(PIECE_MIN) {
                for at in find(line, piece) {
                    hide(at, PIECE_MIN);
                }
            }
        }
        without(line, &hidden)
    }
}

/// Where octets stand in a line, in any case of ASCII letters.
fn find(line: &str, octets: &[u8]) -> Vec<usize> {
    if octets.is_empty() {
        return Vec::new();
    }
    let windows = line.as_bytes().windows(octets.len()).enumerate();
    windows
        .filter(|(_, window)| window.eq_ignore_ascii_case(octets))
        .map(|(at, _)| at)
        .collect()
}

/// Where a text stands by itself: a part of a longer word is not it.
fn find_words(line: &str, text: &str) -> Vec<usize> {
    let mut found = find(line, text.as_bytes());
    found.retain(|at| {
        let before = line[..*at].chars().next_back();
        let after = line[at + text.len()..].chars().next();
        let mut neighbours = before.into_iter().chain(after);
        !neighbours.any(char::is_alphanumeric)
    });
    found
}

/// The line with each run of hidden octets replaced.
fn without(line: &str, hidden: &[bool]) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut in_run = false;
    for (at, c) in line.char_indices() {
        match (hidden[at], in_run) {
            (false, _) => shown.push(c),
            (true, false) => shown.push_str(HIDDEN),
            (true, true) => {}
        }
        in_run = hidden[at];
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Password;

    fn shown(username: &str, password: &str, text: &str) -> String {
        let login = Login {
            username: username.to_owned(),
            password: Password::new(password),
        };
        redact(&Reply::new(535, None, text), &login).to_string()
    }

    #[test]
    fn nothing_of_the_login_survives_in_a_reply() {
        let plain = sasl::encode_plain("relay@example.com", &Password::new("s3cret-Word"));
        let cases = [
            (
                "relay@example.com is unknown".to_owned(),
                "535 [hidden] is unknown",
            ),
            (
                "for RELAY@EXAMPLE.COM: no".to_owned(),
                "535 for [hidden]: no",
            ),
            ("s3cret-Word is wrong".to_owned(), "535 [hidden] is wrong"),
            (
                format!("AUTH PLAIN {plain} what?"),
                "535 AUTH PLAIN [hidden] what?",
            ),
            (format!("cut: {}", &plain[..20]), "535 cut: [hidden]"),
            (format!("cut: {}", &plain[9..]), "535 cut: [hidden]"),
            (
                format!("AUTH PLAIN {}", plain.to_ascii_uppercase()),
                "535 AUTH PLAIN [hidden]",
            ),
            (
                format!("({})", sasl::encode("relay@example.com")),
                "535 ([hidden])",
            ),
            (sasl::encode("s3cret-Word"), "535 [hidden]"),
            (
                "first\ns3cret-Word\nlast".to_owned(),
                "535 first [hidden] last",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(shown("relay@example.com", "s3cret-Word", &text), expected);
        }
    }

    #[test]
    fn what_has_nothing_of_the_login_stays() {
        let text = "relaying is fine, authentication failed: UGFzc3dvcmQ6";
        assert_eq!(shown("relay", "s3cret-Word", text), format!("535 {text}"));
    }

    #[test]
    fn a_short_password_is_not_spelled_by_a_gap_in_a_word() {
        assert_eq!(shown("u", "pass", "wrong password"), "535 wrong password");
        assert_eq!(
            shown("u", "pass", "got: ?u?pass"),
            "535 got: ?[hidden]?[hidden]"
        );
        assert_eq!(shown("u", "pass", "got: cGFzcw"), "535 got: [hidden]");
    }

    #[test]
    fn a_password_that_no_reply_can_show_is_hidden_as_it_would_be_shown() {
        assert_eq!(
            shown("u", "tab\there", "wrong: tab\there"),
            "535 wrong: [hidden]"
        );
        assert_eq!(
            shown("u", "gr\u{fc}n.tee", "gr\u{fc}n.tee!"),
            "535 [hidden]!"
        );
    }
}

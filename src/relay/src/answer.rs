//! What the status shows of a server's answer. Pure.
//!
//! Whoever may read the status of a relay need not know to whom it sends: an answer often repeats the recipient's address, and that is left out. The
//! text has been cleaned of controls when it was read ([`Reply`]).

use std::sync::Arc;

use postroad_smtp::Reply;

/// Octets that are shown, a few lines of a terminal: a destination that is no failure keeps one of it.
const SHOWN_MAX: usize = 200;

/// Stands for what holds an address.
const ADDRESS: &str = "<...>";

/// One line, without the words that hold an address.
#[must_use]
pub fn shown(reply: &Reply) -> Arc<str> {
    let text = reply.to_string();
    let mut is_quoted = false;
    // What is quoted is one word: a local part may have spaces (RFC 5321 §4.1.2).
    let words = text.split(|c| {
        is_quoted ^= c == '"';
        c == ' ' && !is_quoted
    });
    let words: Vec<_> = words.map(without_address).collect();
    let mut shown = words.join(" ");
    shown.truncate(shown.floor_char_boundary(SHOWN_MAX));
    shown.into()
}

/// Links to help often have the address in them, encoded.
fn without_address(word: &str) -> &str {
    match word.contains('@') || word.contains("%40") {
        true => ADDRESS,
        false => word,
    }
}

#[cfg(test)]
mod tests {
    use postroad_smtp::EnhancedStatus;

    use super::*;

    #[test]
    fn shows_one_short_line_without_addresses() {
        let status = EnhancedStatus::new(4, 2, 0);
        let busy = "<defer@example.org>: Recipient address rejected: Mailbox busy";
        for (text, expected) in [
            ("try again later", "450 4.2.0 try again later"),
            (
                busy,
                "450 4.2.0 <...> Recipient address rejected: Mailbox busy",
            ),
            (
                "user=a@b.example,\nsee\u{1b}[2J https://example.com/?u=a@b.example",
                "450 4.2.0 <...> see?[2J <...>",
            ),
            (
                "SPF: https://example.com/Why?s=mfrom;id=bob%40example.org now",
                "450 4.2.0 SPF: <...> now",
            ),
            (
                "mailbox <\"john smith\"@example.org> is \"too full\"",
                "450 4.2.0 mailbox <...> is \"too full\"",
            ),
        ] {
            assert_eq!(&*shown(&Reply::new(450, status, text)), expected);
        }
        let long = shown(&Reply::new(450, status, "é".repeat(500)));
        assert_eq!(long.len(), SHOWN_MAX);
        assert!(long.ends_with('é'), "{long}");
    }
}

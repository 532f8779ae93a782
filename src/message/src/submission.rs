//! Headers that a submission server adds (RFC 6409 §8). Only for mail that our own users submit: on other mail
//! they would break signatures and hide where it came from.

use bytes::Bytes;
use jiff::Timestamp;

use crate::inspect::HeaderSummary;
use crate::text;

/// Writes `Date:` and `Message-ID:` as far as the message lacks them; empty if it lacks neither.
///
/// `id` must be unique at this host; it becomes the left side of the Message-ID.
#[must_use]
pub fn missing_headers(summary: &HeaderSummary, hostname: &str, id: &str, now: Timestamp) -> Bytes {
    let mut headers = String::new();
    if !summary.has_date {
        headers.push_str(&format!("Date: {}\r\n", text::date(now)));
    }
    if !summary.has_message_id {
        let (id, host) = (text::token(id), text::host(hostname));
        headers.push_str(&format!("Message-ID: <{id}@{host}>\r\n"));
    }
    Bytes::from(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &str, expected: &str) {
        let summary = crate::inspect::headers(content.as_bytes());
        let headers = missing_headers(&summary, "mail.example.com", "01A", Timestamp::UNIX_EPOCH);
        assert_eq!(headers, expected.as_bytes());
    }

    #[test]
    fn adds_what_is_missing_and_nothing_else() {
        let date = "Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n";
        let id = "Message-ID: <01A@mail.example.com>\r\n";
        check("Subject: x\r\n\r\n", &format!("{date}{id}"));
        check("Message-ID: <y@z>\r\n\r\n", date);
        check("Date: today\r\n\r\n", id);
        check("Date: today\r\nMessage-ID: <y@z>\r\n\r\n", "");
    }
}

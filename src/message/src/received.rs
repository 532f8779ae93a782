//! The trace header that every server puts on top (RFC 5321 §4.4).

use std::net::IpAddr;

use bytes::Bytes;
use jiff::Timestamp;
use postroad_smtp::ForwardPath;

use crate::text;

/// Longest TLS comment in octets: `TLSv1.3 TLS_AES_256_GCM_SHA384` with room to spare.
const TLS_MAX: usize = 100;

/// What is known of how a message came in.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// The name in EHLO or HELO; characters that a host name cannot have become `?`.
    pub helo: &'a str,
    /// The client's address.
    pub peer_ip: IpAddr,
    /// Our name.
    pub hostname: &'a str,
    /// The keyword of RFC 3848 §1 or RFC 6531 §4.3: `SMTP`, `ESMTP`, `ESMTPS`, `UTF8SMTPSA`, ...
    pub protocol: &'a str,
    /// Our id of the message.
    pub id: &'a str,
    /// The recipient, if it is the only one: with several, this would disclose them to one another.
    /// Left out if it is no forward-path.
    pub recipient: Option<&'a str>,
    /// Version and cipher suite, if under TLS.
    pub tls: Option<&'a str>,
    /// When it came.
    pub now: Timestamp,
}

/// Writes `Received:`, folded, with its CRLF.
#[must_use]
pub fn header(trace: &Trace<'_>) -> Bytes {
    let Trace {
        helo,
        peer_ip,
        hostname,
        protocol,
        id,
        recipient,
        tls,
        now,
    } = trace;
    let peer = match peer_ip.to_canonical() {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    };
    let mut lines = vec![
        format!("Received: from {} ({peer})", text::host(helo)),
        format!(
            "by {} (Postroad) with {} id {}",
            text::host(hostname),
            text::token(protocol),
            text::token(id)
        ),
    ];
    lines.extend(tls.map(|tls| format!("({})", comment(tls))));
    let recipient = recipient.and_then(|path| path.parse::<ForwardPath>().ok());
    lines.extend(recipient.map(|path| format!("for <{path}>")));
    let mut header = lines.join("\r\n\t");
    header.push_str(&format!(";\r\n\t{}\r\n", text::date(*now)));
    Bytes::from(header)
}

/// What has to stand between our headers and content: nothing, or the empty line that ends a header section.
///
/// Content that begins with a space or a tab has no header section of its own (RFC 5322 §2.2.3: such a line continues
/// the field before it). Without the empty line its first lines would become part of our last field, and with it of
/// what we say about where it comes from.
#[must_use]
pub fn separator(content: &[u8]) -> &'static [u8] {
    match content.first() {
        Some(b' ' | b'\t') => b"\r\n",
        _ => b"",
    }
}

/// Text without the three characters that mean something in a comment (RFC 5322 §3.2.2).
fn comment(text: &str) -> String {
    text::ascii(text, TLS_MAX).replace(['(', ')', '\\'], "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace<'a>() -> Trace<'a> {
        Trace {
            helo: "client.example.org",
            peer_ip: IpAddr::from([192, 0, 2, 1]),
            hostname: "mail.example.com",
            protocol: "ESMTPSA",
            id: "01ABC",
            recipient: Some("you@example.net"),
            tls: Some("TLSv1.3 TLS_AES_256_GCM_SHA384"),
            now: Timestamp::UNIX_EPOCH,
        }
    }

    fn check(trace: &Trace<'_>, expected: &str) {
        let header = header(trace);
        assert_eq!(
            String::from_utf8_lossy(&header),
            expected.replace('\n', "\r\n")
        );
    }

    #[test]
    fn tells_where_the_message_came_from_and_how() {
        check(
            &trace(),
            "Received: from client.example.org ([192.0.2.1])\n\
             \tby mail.example.com (Postroad) with ESMTPSA id 01ABC\n\
             \t(TLSv1.3 TLS_AES_256_GCM_SHA384)\n\
             \tfor <you@example.net>;\n\
             \tThu, 01 Jan 1970 00:00:00 +0000\n",
        );
    }

    #[test]
    fn leaves_out_what_is_not_known() {
        let trace = Trace {
            helo: "",
            peer_ip: "2001:db8::1".parse().unwrap(),
            protocol: "SMTP",
            recipient: None,
            tls: None,
            ..trace()
        };
        check(
            &trace,
            "Received: from unknown ([IPv6:2001:db8::1])\n\
             \tby mail.example.com (Postroad) with SMTP id 01ABC;\n\
             \tThu, 01 Jan 1970 00:00:00 +0000\n",
        );
    }

    #[test]
    fn writes_an_ipv4_client_of_an_ipv6_socket_as_ipv4() {
        let trace = Trace {
            peer_ip: "::ffff:192.0.2.7".parse().unwrap(),
            ..trace()
        };
        assert!(String::from_utf8_lossy(&header(&trace)).contains("([192.0.2.7])"));
    }

    #[test]
    fn nothing_of_the_peer_can_break_out() {
        let trace = Trace {
            helo: "x)\r\nBcc: victim@example.com",
            protocol: "ESMTP\r\nX: y",
            id: "a;b\nc",
            recipient: Some("a@b>\r\nX: y"),
            tls: Some("v1)\r\n(\\"),
            ..trace()
        };
        check(
            &trace,
            "Received: from x???Bcc??victim?example.com ([192.0.2.1])\n\
             \tby mail.example.com (Postroad) with ESMTP??X??y id a?b?c\n\
             \t(v1?????);\n\
             \tThu, 01 Jan 1970 00:00:00 +0000\n",
        );
    }
    #[test]
    fn content_cannot_continue_our_header() {
        for (content, expected) in [
            (" from elsewhere by mail.example.com\r\n", "\r\n"),
            ("\tfolded\r\nSubject: x\r\n", "\r\n"),
            ("Subject: x\r\n", ""),
            ("\r\n body\r\n", ""),
            ("", ""),
        ] {
            let actual = separator(content.as_bytes());
            assert_eq!(actual, expected.as_bytes(), "{content:?}");
        }
    }
}

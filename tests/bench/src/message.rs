//! The message that is sent: one template, with the id patched in.

/// The header that carries the id.
pub(crate) const ID_HEADER: &[u8] = b"X-Bench-Id: ";

/// What every relay puts before a message (RFC 5321 §4.4), and the load does not.
const TRACE_HEADER: &[u8] = b"Received:";

/// Decimal digits of an id.
const ID_DIGITS: usize = 12;

/// Octets per line of the body, with CRLF.
const LINE: usize = 78;

/// What ends content after DATA. No line of the template begins with a dot, so that nothing has to be stuffed.
const END: &[u8] = b".\r\n";

/// Content of a given size with the final dot, ready to be written to the wire.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    octets: Vec<u8>,
    id_at: usize,
}

impl Template {
    /// Content of `size` octets, headers included, the final dot not. At least a few hundred octets.
    #[must_use]
    pub(crate) fn new(size: usize) -> Self {
        let mut octets = b"From: <load@example.com>\r\nTo: <sink@example.org>\r\nSubject: load\r\n\
            Date: Mon, 02 Jan 2006 15:04:05 +0000\r\nMessage-ID: <load@example.com>\r\n"
            .to_vec();
        octets.extend_from_slice(ID_HEADER);
        let id_at = octets.len();
        octets.extend_from_slice(&[b'0'; ID_DIGITS]);
        octets.extend_from_slice(b"\r\n\r\n");
        while octets.len() < size {
            let line = LINE.min(size - octets.len()).max(2);
            octets.resize(octets.len() + line - 2, b'x');
            octets.extend_from_slice(b"\r\n");
        }
        octets.extend_from_slice(END);
        Self { octets, id_at }
    }

    /// What follows DATA for this id.
    pub(crate) fn with_id(&mut self, id: usize) -> &[u8] {
        let digits = format!("{id:0ID_DIGITS$}");
        self.octets[self.id_at..self.id_at + ID_DIGITS]
            .copy_from_slice(&digits.as_bytes()[..ID_DIGITS]);
        &self.octets
    }

    /// The content alone, which follows BDAT.
    pub(crate) fn content_with_id(&mut self, id: usize) -> &[u8] {
        let octets = self.with_id(id);
        &octets[..octets.len() - END.len()]
    }
}

/// What a message says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Label {
    /// Which it is.
    pub(crate) id: usize,
    /// Whether a relay has had it in its hands.
    pub(crate) relayed: bool,
}

/// Reads the label from the first octets of a message.
#[must_use]
pub(crate) fn label_in(head: &[u8]) -> Option<Label> {
    let header = memchr::memmem::find(head, ID_HEADER)?;
    let at = header + ID_HEADER.len();
    let digits = head.get(at..at + ID_DIGITS)?;
    Some(Label {
        id: std::str::from_utf8(digits).ok()?.parse().ok()?,
        relayed: memchr::memmem::find(&head[..header], TRACE_HEADER).is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_as_asked_and_the_label_is_read_back() {
        for size in [400, 4096, 4097, 102_400] {
            let mut template = Template::new(size);
            let mut label = Label {
                id: 4711,
                relayed: false,
            };
            let octets = template.with_id(4711).to_vec();
            assert!(octets.len().abs_diff(size + 3) <= 1, "{}", octets.len());
            assert!(octets.ends_with(b"\r\n.\r\n"));
            assert_eq!(label_in(&octets), Some(label));
            label.relayed = true;
            let relayed = [b"Received: from a by b\r\n", template.content_with_id(4711)].concat();
            assert_eq!(label_in(&relayed), Some(label));
            assert_eq!(octets.len(), relayed.len() - 23 + 3);
        }
        assert_eq!(label_in(b"Subject: x\r\n"), None);
    }
}

//! The lines of a transcript that the test acts on.

use std::collections::VecDeque;

/// A parsed transcript.
pub(crate) struct Script {
    lines: Vec<Line>,
}

/// One line that the test acts on.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// A comment, `with:` or `unsplit:`; kept as it is.
    Kept(String),
    /// Octets that arrive, and the line as written.
    Read(Vec<u8>, String),
    /// What the driver does.
    Act(String),
    /// Content of `! send`, and the line as written.
    Content(Vec<u8>, String),
    /// Something that the session gives; it parts two reads.
    Given,
}

/// A transcript while it is replayed: the lines that are left, and the transcript as it is written anew.
pub(crate) struct Dialogue {
    lines: VecDeque<Line>,
    written: String,
}

/// How reads are split.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Split {
    None,
    /// In two, behind this many octets.
    At(usize),
    EveryOctet,
}

impl Script {
    /// Parses a transcript in which lines that begin with `reads` arrive at the session.
    pub(crate) fn parse(text: &str, reads: char) -> Self {
        let lines = text.lines().map(|line| Line::parse(line, reads));
        Self {
            lines: lines.collect(),
        }
    }

    /// The transcript from its beginning. Comments and settings at the top stand before what the session says first.
    pub(crate) fn begin(&self) -> Dialogue {
        let mut dialogue = Dialogue {
            lines: self.lines.iter().cloned().collect(),
            written: String::new(),
        };
        while let Some(Line::Kept(text)) = dialogue.next_if(|line| matches!(line, Line::Kept(_))) {
            dialogue.note(&text);
        }
        dialogue
    }

    /// The value of a key in `with:`.
    pub(crate) fn setting(&self, key: &str) -> Option<&str> {
        self.kept("with: ")?.split(' ').find_map(|setting| {
            let (name, value) = setting.split_once('=')?;
            (name == key).then_some(value)
        })
    }

    pub(crate) fn may_be_split(&self) -> bool {
        self.kept("unsplit: ").is_none()
    }

    /// The longest run of octets that arrive together.
    pub(crate) fn longest_read(&self) -> usize {
        let mut longest = 0;
        let mut current = 0;
        for line in &self.lines {
            match line {
                Line::Read(octets, _) => current += octets.len(),
                _ => current = 0,
            }
            longest = longest.max(current);
        }
        longest
    }

    fn kept(&self, prefix: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| match line {
            Line::Kept(text) => text.strip_prefix(prefix),
            _ => None,
        })
    }
}

impl Dialogue {
    pub(crate) fn note(&mut self, line: &str) {
        self.written.push_str(line);
        self.written.push('\n');
    }

    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    pub(crate) fn next(&mut self) -> Option<Line> {
        self.lines.pop_front()
    }

    /// The next line if it is one of these.
    pub(crate) fn next_if(&mut self, wanted: impl Fn(&Line) -> bool) -> Option<Line> {
        match self.lines.front() {
            Some(line) if wanted(line) => self.lines.pop_front(),
            _ => None,
        }
    }

    /// A read with those that follow it: they arrive together.
    pub(crate) fn whole_read(&mut self, octets: Vec<u8>, text: &str) -> Vec<u8> {
        let mut whole = octets;
        self.note(text);
        while let Some(Line::Read(more, text)) = self.next_if(|line| matches!(line, Line::Read(..)))
        {
            whole.extend_from_slice(&more);
            self.note(&text);
        }
        whole
    }

    /// The content that follows `! send`.
    pub(crate) fn content(&mut self) -> Vec<Vec<u8>> {
        let mut content = Vec::new();
        while let Some(Line::Content(octets, text)) =
            self.next_if(|line| matches!(line, Line::Content(..)))
        {
            content.push(octets);
            self.note(&text);
        }
        content
    }
}

impl Line {
    fn parse(line: &str, reads: char) -> Self {
        if line.is_empty() || line.starts_with(['#', 'w', 'u']) {
            return Self::Kept(line.to_owned());
        }
        if let Some(action) = line.strip_prefix("! ") {
            return Self::Act(action.to_owned());
        }
        if let Some(content) = line.strip_prefix("+< ") {
            return Self::Content(unescape(content), line.to_owned());
        }
        if let Some(content) = line.strip_prefix('+') {
            let content = format!("{}\r\n", content.strip_prefix(' ').unwrap_or(content));
            return Self::Content(content.into_bytes(), line.to_owned());
        }
        let Some(rest) = line.strip_prefix(reads) else {
            return Self::Given;
        };
        let octets = match (rest.strip_prefix(':'), rest.strip_prefix("< ")) {
            (Some(text), _) => {
                format!("{}\r\n", text.strip_prefix(' ').unwrap_or(text)).into_bytes()
            }
            (_, Some(text)) => unescape(text),
            (None, None) => panic!("no transcript line: {line}"),
        };
        Self::Read(octets, line.to_owned())
    }
}

impl Split {
    /// The pieces in which a read arrives.
    pub(crate) fn apply(self, read: &[u8]) -> Vec<&[u8]> {
        match self {
            Self::None => vec![read],
            Self::EveryOctet => read.chunks(1).collect(),
            Self::At(at) => {
                let (head, tail) = read.split_at(at % read.len().max(1));
                vec![head, tail]
            }
        }
    }
}

/// Printable ASCII as it is, the rest as escapes.
pub(crate) fn escape(octets: &[u8]) -> String {
    octets
        .escape_ascii()
        .to_string()
        .replace("\\'", "'")
        .replace("\\\"", "\"")
}

fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'\\' {
            octets.push(octet);
            continue;
        }
        octets.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => panic!("unknown escape {other:?} in {text}"),
        });
    }
    octets
}

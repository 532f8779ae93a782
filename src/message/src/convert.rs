//! Conversion of a message for a next hop that cannot take it as it is (RFC 6152 §3, RFC 3030 §3): parts with eight-bit or
//! binary content become quoted-printable or base64, whichever is shorter. Pure.
//!
//! # Contract
//! - Only what has to change does: the bodies of parts that do not fit, and the `Content-Transfer-Encoding` of these and of
//!   what is around them. Every other octet stays where it is, whether it is understood or not.
//! - What is decoded from a converted part is, octet for octet, what was there before.
//! - Content that fits is given back as it is, however malformed.
//! - Conversion breaks signatures over the body as DKIM makes them: there is no way around that. A `multipart/signed`, whose
//!   signature is the point of it, is not touched (RFC 1847 §2.1).
//! - Bounded: [`DEPTH_MAX`], [`PARTS_MAX`]. The result has at most half as many octets again, and 1 MiB for the headers of the parts.
//!
//! # When it cannot be done
//! [`Unconvertible`] says why. The message fails for good: 554 5.6.3 (RFC 3463 §3.7). Eight-bit headers are among the reasons: what
//! they mean is known only for SMTPUTF8, and servers that have that have 8BITMIME (RFC 6531 §3.1). So are NUL and bare newlines in a
//! header, which BINARYMIME lets in and no other server reads alike.

mod entity;
mod parts;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use crate::encode::{self, Form};
use entity::{Entity, Label, Media};

/// Deepest nesting of multiparts and messages; mail that was forwarded ten times has ten.
pub const DEPTH_MAX: usize = 32;
/// Most parts of a message; each costs a bounded amount of work and memory.
pub const PARTS_MAX: usize = 10_000;

/// What a next hop takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Width {
    /// ASCII in lines: neither 8BITMIME nor BINARYMIME.
    SevenBit,
    /// Octets in lines: 8BITMIME without BINARYMIME.
    EightBit,
}

/// Why a message cannot be converted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unconvertible {
    /// The header of the message or of a part has octets beyond ASCII.
    #[error("a header has eight-bit octets")]
    EightBitHeader,
    /// The header of the message or of a part has NUL, or CR or LF alone.
    #[error("a header has NUL or a bare newline")]
    BinaryHeader,
    /// A change would break the signature.
    #[error("the content is signed")]
    Signed,
    /// Not to be encoded (RFC 2046 §5.2), as message/partial.
    #[error("a part is of a type that must not be encoded")]
    Restricted,
    /// A part is not of the encoding that it claims, or the encoding is unknown.
    #[error("a part is not encoded as its header says")]
    Mislabelled,
    /// The structure cannot be read with certainty.
    #[error("the MIME structure is malformed")]
    Malformed,
    /// More than [`DEPTH_MAX`] or [`PARTS_MAX`].
    #[error("the MIME structure is too large")]
    TooLarge,
}

impl Width {
    /// Whether content can go out as it is.
    #[must_use]
    pub fn fits(self, content: &[u8]) -> bool {
        match self {
            Self::SevenBit => encode::form(content) <= Form::SevenBit,
            Self::EightBit => encode::form(content) <= Form::EightBit,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::SevenBit => "7bit",
            Self::EightBit => "8bit",
        }
    }
}

/// Converts a message, headers and all, for a next hop of this width.
///
/// # Errors
/// [`Unconvertible`] if it does not fit and cannot be made to.
pub fn convert(content: &[u8], to: Width) -> Result<Cow<'_, [u8]>, Unconvertible> {
    let mut plan = Plan {
        content,
        to,
        edits: Vec::new(),
        parts: 0,
    };
    plan.entity(0..content.len(), Role::Message, 0)?;
    Ok(plan.carry_out())
}

/// What is to be changed, found before anything is.
struct Plan<'a> {
    content: &'a [u8],
    to: Width,
    edits: Vec<Edit>,
    parts: usize,
}

/// A change of some octets, perhaps of none.
struct Edit {
    at: Range<usize>,
    to: Change,
}

enum Change {
    Text(String),
    QuotedPrintable,
    Base64,
}

/// Where an entity stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    /// It is a message of its own.
    Message,
    /// In a multipart.
    Part,
    /// In a multipart/digest, where a part is a message unless it says otherwise (RFC 2046 §5.1.5).
    DigestPart,
}

impl Plan<'_> {
    /// Plans for one entity. An error within it is none if the entity can stay as it is.
    fn entity(&mut self, at: Range<usize>, role: Role, depth: usize) -> Result<(), Unconvertible> {
        let before = self.edits.len();
        let octets = &self.content[at.clone()];
        match self.planned(at, role, depth) {
            Err(_) if self.to.fits(octets) => {
                self.edits.truncate(before);
                Ok(())
            }
            planned => planned,
        }
    }

    fn planned(&mut self, at: Range<usize>, role: Role, depth: usize) -> Result<(), Unconvertible> {
        self.parts += 1;
        if depth > DEPTH_MAX || self.parts > PARTS_MAX {
            return Err(Unconvertible::TooLarge);
        }
        let entity = Entity::parse(self.content, at, role)?;
        self.check(&self.content[entity.header.clone()])?;
        match &entity.media {
            Media::Multipart { .. } | Media::Message if entity.label.is_encoded() => {
                self.leaf(&entity, role)
            }
            Media::Multipart { boundary, kind } => {
                self.multipart(&entity, boundary, *kind, depth)?;
                Ok(())
            }
            Media::Message => {
                let before = self.edits.len();
                self.entity(entity.body.clone(), Role::Message, depth + 1)?;
                self.relabel(&entity, before);
                Ok(())
            }
            Media::Leaf | Media::Restricted => self.leaf(&entity, role),
        }
    }

    /// Whether a header can go out: no encoding is there for it. Lines that are too long for the RFC go as they do in a message
    /// that nobody converts.
    fn check(&self, header: &[u8]) -> Result<(), Unconvertible> {
        if encode::form(header) == Form::Binary {
            Err(Unconvertible::BinaryHeader)
        } else if self.to == Width::SevenBit && !header.is_ascii() {
            Err(Unconvertible::EightBitHeader)
        } else {
            Ok(())
        }
    }

    fn multipart(
        &mut self,
        entity: &Entity,
        boundary: &[u8],
        kind: entity::Kind,
        depth: usize,
    ) -> Result<(), Unconvertible> {
        let before = self.edits.len();
        let split = parts::split(self.content, entity.body.clone(), boundary)?;
        if !self.to.fits(&self.content[split.preamble])
            || !self.to.fits(&self.content[split.epilogue])
        {
            return Err(Unconvertible::Malformed);
        }
        let role = match kind {
            entity::Kind::Digest => Role::DigestPart,
            entity::Kind::Signed | entity::Kind::Other => Role::Part,
        };
        for part in split.parts {
            self.entity(part, role, depth + 1)?;
        }
        if kind == entity::Kind::Signed && self.edits.len() > before {
            return Err(Unconvertible::Signed);
        }
        self.relabel(entity, before);
        Ok(())
    }

    /// Has what is around other entities say what they are now, if that was changed behind the edits `before`.
    fn relabel(&mut self, entity: &Entity, before: usize) {
        let is_wider = match entity.label {
            Label::Binary => true,
            Label::EightBit => self.to == Width::SevenBit && self.edits.len() > before,
            _ => false,
        };
        if is_wider {
            self.label(entity, self.to.label());
        }
    }

    fn leaf(&mut self, entity: &Entity, role: Role) -> Result<(), Unconvertible> {
        let body = &self.content[entity.body.clone()];
        if self.to.fits(body) {
            self.relabel(entity, self.edits.len());
            return Ok(());
        }
        match entity.label {
            Label::Unsaid | Label::SevenBit | Label::EightBit | Label::Binary => {}
            Label::Encoded | Label::Unknown => return Err(Unconvertible::Mislabelled),
        }
        if entity.media == Media::Restricted {
            return Err(Unconvertible::Restricted);
        }
        let is_text = encode::form(body) < Form::Binary && encode::is_mostly_text(body);
        let (change, label) = match is_text {
            true => (Change::QuotedPrintable, "quoted-printable"),
            false => (Change::Base64, "base64"),
        };
        self.declare(entity, role);
        self.label(entity, label);
        self.edits.push(Edit {
            at: entity.body.clone(),
            to: change,
        });
        Ok(())
    }

    /// Adds the headers without which an encoding means nothing (RFC 2045 §4). Which characters they were that somebody sent without
    /// saying so is unknown (RFC 1428 §3).
    fn declare(&mut self, entity: &Entity, role: Role) {
        let end = entity.header.end;
        if role == Role::Message && !entity.has_mime_version {
            self.insert(end, "MIME-Version: 1.0\r\n");
        }
        if !entity.has_type {
            self.insert(end, "Content-Type: text/plain; charset=unknown-8bit\r\n");
        }
    }

    fn label(&mut self, entity: &Entity, label: &str) {
        let at = match &entity.label_at {
            Some(at) => at.clone(),
            None => entity.header.end..entity.header.end,
        };
        let field = format!("Content-Transfer-Encoding: {label}\r\n");
        self.edits.push(Edit {
            at,
            to: Change::Text(field),
        });
    }

    fn insert(&mut self, at: usize, text: &str) {
        self.edits.push(Edit {
            at: at..at,
            to: Change::Text(text.to_owned()),
        });
    }
}

impl<'a> Plan<'a> {
    fn carry_out(mut self) -> Cow<'a, [u8]> {
        let content = self.content;
        if self.edits.is_empty() {
            return Cow::Borrowed(content);
        }
        // Stable: what is inserted at one place keeps its order.
        self.edits.sort_by_key(|edit| (edit.at.start, edit.at.end));
        let mut out = Vec::with_capacity(content.len() + content.len() / 2);
        let mut done = 0;
        for edit in self.edits {
            out.extend_from_slice(&content[done..edit.at.start]);
            let octets = &content[edit.at.clone()];
            match edit.to {
                Change::Text(text) => out.extend_from_slice(text.as_bytes()),
                Change::QuotedPrintable => encode::quoted_printable(&mut out, octets),
                Change::Base64 => encode::base64(&mut out, octets),
            }
            done = edit.at.end;
        }
        out.extend_from_slice(&content[done..]);
        Cow::Owned(out)
    }
}

//! Names of messages: unique everywhere, in order of time.
//!
//! 128 bits: the milliseconds since the epoch (48), then 80 bits that begin at a random seed and count up. Two
//! processes collide only if their seeds lie closer together than the messages of one millisecond.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// Crockford's alphabet: no I, L, O, U, so that an id survives being read out.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Characters of an id: 128 bits at 5 each.
const CHARS: usize = 26;

/// Bits below the time.
const LOW_BITS: u32 = 80;

/// The name of a message. Sorts by time of creation.
///
/// Big-endian bytes and no number: the alignment of a `u128` would make every entry of the maps over messages larger.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MessageId([u8; 16]);

/// Hands out ids that only ever grow, even if the clock steps back.
#[derive(Debug)]
pub struct IdGenerator {
    last: Mutex<u128>,
    seed: u128,
}

/// The text is not an id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a message id: 26 characters of Crockford's base 32")]
pub struct IdError;

impl MessageId {
    pub(crate) const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl IdGenerator {
    /// A generator; make the seed random.
    #[must_use]
    pub fn new(seed: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        bytes[6..].copy_from_slice(&seed);
        Self {
            last: Mutex::new(0),
            seed: u128::from_be_bytes(bytes),
        }
    }

    /// The next id. `now_ms` is the time since the epoch in milliseconds.
    pub fn next(&self, now_ms: u64) -> MessageId {
        let fresh = (u128::from(now_ms) << LOW_BITS) | self.seed;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = fresh.max(last.wrapping_add(1));
        MessageId(last.to_be_bytes())
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'0'; CHARS];
        let mut rest = u128::from_be_bytes(self.0);
        for place in text.iter_mut().rev() {
            let digit = usize::try_from(rest & 31).unwrap_or_default();
            *place = ALPHABET.get(digit).copied().unwrap_or(b'0');
            rest >>= 5;
        }
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // The first character holds the top 3 bits only.
        if text.len() != CHARS || text.as_bytes()[0] > b'7' {
            return Err(IdError);
        }
        let mut value = 0_u128;
        for byte in text.bytes() {
            let digit = ALPHABET
                .iter()
                .position(|known| *known == byte)
                .ok_or(IdError)?;
            value = (value << 5) | u128::try_from(digit).map_err(|_| IdError)?;
        }
        Ok(Self(value.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_even_when_the_clock_steps_back() {
        let ids = IdGenerator::new([0xff; 10]);
        let handed_out: Vec<_> = [5, 5, 3, 9, 0]
            .into_iter()
            .map(|now| ids.next(now))
            .collect();
        assert!(
            handed_out.windows(2).all(|pair| pair[0] < pair[1]),
            "{handed_out:?}"
        );
    }

    #[test]
    fn ids_survive_being_written_down() {
        let ids = IdGenerator::new([7; 10]);
        for now in [0, 1, 1_700_000_000_000, u64::MAX >> 16] {
            let id = ids.next(now);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().len(), 26);
        }
    }

    #[test]
    fn refuses_what_is_no_id() {
        for text in ["", "0", &"U".repeat(26), &"8".repeat(26), &"é".repeat(13)] {
            assert_eq!(text.parse::<MessageId>(), Err(IdError), "{text}");
        }
    }
}

//! Domains and user names, each kept once, however much mail names it. Pure.

use std::collections::HashMap;
use std::mem::size_of;
use std::sync::Arc;

use postroad_spool::cost::allocated;

use crate::slab::Slab;

/// Most memory for one name, its text apart, in bytes: its slot, its entry in the map, which is half empty at times, and the counts of the
/// text.
const NAME_BYTES: u64 = Slab::<Known>::ENTRY_BYTES
    + 2 * (size_of::<(Arc<str>, Name)>() + 1) as u64
    + 2 * size_of::<usize>() as u64;

/// A name that is known; each was counted once by [`Names::get`] and must be given back once.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(u32);

/// All names that are in use.
#[derive(Debug, Default)]
pub struct Names {
    known: Slab<Known>,
    /// Hashed with a secret: senders choose domains.
    numbers: HashMap<Arc<str>, Name>,
    bytes: u64,
}

#[derive(Debug)]
struct Known {
    text: Arc<str>,
    uses: u32,
}

impl Names {
    /// The number of a name, counted as used once more.
    pub fn get(&mut self, text: &str) -> Name {
        if let Some(&name) = self.numbers.get(text) {
            self.share(name);
            return name;
        }
        let text: Arc<str> = text.into();
        self.bytes += cost(&text);
        let known = Known {
            text: Arc::clone(&text),
            uses: 1,
        };
        let name = Name(self.known.insert(known));
        self.numbers.insert(text, name);
        name
    }

    /// The number of a name that is in use.
    pub fn find(&self, text: &str) -> Option<Name> {
        self.numbers.get(text).copied()
    }

    /// Counts a name as used once more.
    pub fn share(&mut self, name: Name) {
        self.known[name.0].uses += 1;
    }

    /// Counts a name as used once less; the last use forgets it.
    pub fn give_back(&mut self, name: Name) {
        let known = &mut self.known[name.0];
        known.uses -= 1;
        if known.uses == 0
            && let Some(known) = self.known.remove(name.0)
        {
            self.bytes -= cost(&known.text);
            self.numbers.remove(&known.text);
        }
    }

    /// The text.
    pub fn text(&self, name: Name) -> &Arc<str> {
        &self.known[name.0].text
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        u64::from(self.known.count())
    }

    /// Most memory that they take, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Most memory that a name takes, in bytes.
pub fn cost(text: &str) -> u64 {
    NAME_BYTES + allocated(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_for_as_long_as_it_is_used() {
        let mut names = Names::default();
        let (one, other) = (names.get("example.com"), names.get("example.org"));
        assert_eq!(names.get("example.com"), one);
        assert_ne!(one, other);
        assert_eq!(names.bytes(), 2 * cost("example.com"));
        names.give_back(one);
        assert_eq!(
            (&**names.text(one), names.find("example.com")),
            ("example.com", Some(one))
        );
        names.give_back(one);
        assert_eq!(
            (names.find("example.com"), names.bytes()),
            (None, cost("example.org"))
        );
        names.give_back(other);
        assert_eq!(names.bytes(), 0);
    }
}

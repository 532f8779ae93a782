//! Where mail goes to: what is ready for it, what is known of it, and where it waits for a connection.

use super::lanes::{Ready, Turn};
use super::site::{Site, Standing};
use crate::names::Name;
use crate::slab::{Link, Linked, Slab};
use crate::wheel::Timed;

/// Most memory for a destination, in bytes; the map is half empty at times, and a failure has a text. A login has lines instead, which take
/// less.
pub(super) const PLACE_BYTES: u64 =
    Slab::<Destination>::ENTRY_BYTES + 2 * (size_of::<(Id, u32)>() + 1) as u64 + 640;

/// What kind of destination it is: with its name, [`crate::route::Key`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Default,
    Route,
    Domain,
    Hold,
    Bounce,
}

/// A destination's identity.
pub(super) type Id = (Kind, Name);

/// A destination.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) id: Id,
    pub(super) ready: Ready,
    /// Messages with an open recipient here.
    pub(super) pieces: u32,
    /// Those of them with a failed attempt.
    pub(super) deferred: u32,
    /// When the oldest arrived since it was last empty.
    pub(super) oldest_ms: u64,
    pub(super) site: Site,
    /// For whom each connection was opened. Which is whose does not matter.
    pub(super) owners: Vec<Turn>,
    pub(super) link: Link,
    pub(super) queued: Queued,
    /// While it is in the wheel.
    pub(super) alarm_ms: u64,
}

/// Where the destination waits for a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Queued {
    Nowhere,
    Line(Standing, Turn),
    Wheel,
    /// In the wheel too, until it is forgotten.
    Remembered,
}

impl Linked for Destination {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl Timed for Destination {
    fn due_ms(&self) -> u64 {
        self.alarm_ms
    }
}

impl Destination {
    /// Whether it has more work than connections that are about to take it.
    pub(super) fn wants_connection(&self) -> bool {
        self.ready.count() > self.site.opening && self.site.idle == 0
    }

    pub(super) fn is_unused(&self) -> bool {
        self.pieces == 0 && self.site.connections == 0 && self.site.idle == 0
    }
}

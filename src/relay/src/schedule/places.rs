//! The destinations, and to which of them a connection is opened next.
//!
//! Every domain with work that may have another connection stands in a line of those of its standing ([`super::lines`]); one that may have
//! it later is in a wheel. So the choice costs the same however many destinations there are, and each has its turn. How many connections
//! there may be, and how many of them for whose mail, says [`super::connections`]. What goes to upstreams is chosen by
//! [`crate::upstreams`]: of those destinations there are as many as routes.

use std::collections::HashMap;
use std::sync::Arc;

use postroad_config::status::UpstreamFailure;

use super::connections::Ledger;
use super::destination::{Destination, Id, Kind, Queued};
use super::lanes::{Lanes, Ready, Turn};
use super::lines::Lines;
use super::site::{Bears, Site, SiteLimits, Standing};
use crate::names::Names;
use crate::route::Key;
use crate::slab::{Link, Slab};
use crate::wheel::Wheel;

/// In the order of their turns.
const STANDINGS: [Standing; 3] = [Standing::Proven, Standing::Fresh, Standing::Failing];

/// Those with mail for a domain whose lines are compared: those whose turn it is next.
const LINES_COMPARED: usize = 8;

/// How long a domain is remembered for which nothing waits, in milliseconds.
const REMEMBERED_MS: u64 = 3_600_000;

/// Most domains that are remembered without mail.
const REMEMBERED_MAX: u32 = 10_000;

/// All destinations.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) all: Slab<Destination>,
    numbers: HashMap<Id, u32>,
    /// Those that are no domains.
    pub(super) special: Vec<u32>,
    /// By standing.
    lines: [Lines; 3],
    /// The standing that is asked first.
    first: usize,
    wheel: Wheel,
    pub(super) ledger: Ledger,
    /// Domains by standing.
    pub(super) domains: [u64; 3],
    /// Domains without mail.
    remembered: u32,
    pub(super) limits: SiteLimits,
    /// Why a domain failed last.
    pub(super) last_failure: Option<Arc<UpstreamFailure>>,
}

impl Places {
    /// The destination of this identity, whose name was counted for it.
    pub(super) fn get(&mut self, names: &mut Names, id: Id) -> u32 {
        if let Some(&place) = self.numbers.get(&id) {
            return place;
        }
        names.share(id.1);
        let place = self.all.insert(Destination {
            id,
            ready: Ready::default(),
            pieces: 0,
            deferred: 0,
            oldest_ms: u64::MAX,
            site: Site::new(match id.0 {
                Kind::Domain => Standing::Fresh,
                // Whether these work is not known here.
                Kind::Default | Kind::Route | Kind::Hold | Kind::Bounce => Standing::Proven,
            }),
            owners: Vec::new(),
            link: Link::default(),
            queued: Queued::Nowhere,
            alarm_ms: 0,
        });
        self.numbers.insert(id, place);
        match id.0 {
            Kind::Domain => self.domains[Standing::Fresh as usize] += 1,
            Kind::Default | Kind::Route | Kind::Hold | Kind::Bounce => self.special.push(place),
        }
        place
    }

    /// The destination of this identity, if there is one.
    pub(super) fn find(&self, id: Id) -> Option<u32> {
        self.numbers.get(&id).copied()
    }

    /// How the destination is called outside.
    pub(super) fn key(&self, names: &Names, place: u32) -> Key {
        let (kind, name) = self.all[place].id;
        let name = Arc::clone(names.text(name));
        match kind {
            Kind::Default => Key::Default,
            Kind::Route => Key::Route(name),
            Kind::Domain => Key::Domain(name),
            Kind::Hold => Key::Hold(name),
            Kind::Bounce => Key::Bounce(name),
        }
    }

    /// Brings the destination to where it belongs after anything about it has changed.
    pub(super) fn update(&mut self, names: &mut Names, lanes: &Lanes, place: u32, now_ms: u64) {
        let destination = &self.all[place];
        let kind = destination.id.0;
        if destination.is_unused() && !self.is_remembered(destination, now_ms) {
            return self.forget(names, place);
        }
        if kind != Kind::Domain {
            return;
        }
        let site = &destination.site;
        let wanted = match site.bears(&self.limits, now_ms) {
            _ if destination.is_unused() => {
                let until_ms = site.used_ms.saturating_add(REMEMBERED_MS);
                (Queued::Remembered, until_ms)
            }
            _ if !destination.wants_connection() => (Queued::Nowhere, 0),
            Bears::Enough => (Queued::Nowhere, 0),
            Bears::Another => match self.line(lanes, destination) {
                Some(turn) => (Queued::Line(site.standing, turn), 0),
                None => (Queued::Nowhere, 0),
            },
            Bears::After(after_ms) => (Queued::Wheel, after_ms),
        };
        if wanted != (destination.queued, destination.alarm_ms) {
            self.unqueue(place);
            self.queue(place, wanted);
        }
    }

    /// In whose line a domain stands: in the shortest of those who may have a connection to it. It changes lines among these only for one that is
    /// less than half as long, so that it does not lose its place again and again.
    fn line(&self, lanes: &Lanes, destination: &Destination) -> Option<Turn> {
        let standing = destination.site.standing;
        let lines = &self.lines[standing as usize];
        let demand = |turn: Turn| {
            let demand = lines.count(turn) + self.ledger.held(standing, turn);
            let is_here = destination.queued == Queued::Line(standing, turn);
            let must_wait = !self.ledger.allows(standing, turn);
            (must_wait, if is_here { demand / 2 } else { demand })
        };
        let mut turns = lanes.turns(&destination.ready).take(LINES_COMPARED);
        let first = turns.next()?;
        let Some(second) = turns.next() else {
            return Some(first);
        };
        let all = [first, second].into_iter().chain(turns);
        all.min_by_key(|turn| demand(*turn))
    }

    /// A domain without mail, connections or news is forgotten; the others are for a while, as long as they are not too many.
    fn is_remembered(&self, destination: &Destination, now_ms: u64) -> bool {
        let site = &destination.site;
        destination.id.0 == Kind::Domain
            && site.standing != Standing::Fresh
            && now_ms.saturating_sub(site.used_ms) < REMEMBERED_MS
            && self.remembered < REMEMBERED_MAX
    }

    fn forget(&mut self, names: &mut Names, place: u32) {
        self.unqueue(place);
        let Some(destination) = self.all.remove(place) else {
            return;
        };
        let (kind, name) = destination.id;
        match kind {
            Kind::Domain => self.domains[destination.site.standing as usize] -= 1,
            _ => self.special.retain(|special| *special != place),
        }
        self.numbers.remove(&destination.id);
        names.give_back(name);
    }

    fn queue(&mut self, place: u32, (queued, alarm_ms): (Queued, u64)) {
        let destination = &mut self.all[place];
        (destination.queued, destination.alarm_ms) = (queued, alarm_ms);
        self.remembered += u32::from(queued == Queued::Remembered);
        match queued {
            Queued::Nowhere => {}
            Queued::Line(standing, turn) => {
                self.lines[standing as usize].push(&mut self.all, turn, place);
            }
            Queued::Wheel | Queued::Remembered => self.wheel.insert(&mut self.all, place),
        }
    }

    fn unqueue(&mut self, place: u32) {
        let destination = &mut self.all[place];
        let queued = std::mem::replace(&mut destination.queued, Queued::Nowhere);
        match queued {
            Queued::Nowhere => {}
            Queued::Line(standing, turn) => {
                self.lines[standing as usize].remove(&mut self.all, turn, place);
            }
            Queued::Wheel | Queued::Remembered => self.wheel.remove(&mut self.all, place),
        }
        self.remembered -= u32::from(queued == Queued::Remembered);
        self.all[place].alarm_ms = 0;
    }

    /// Brings those to their lines whose time has come. Ends, because nothing is put into the wheel that is due.
    pub(super) fn advance(&mut self, names: &mut Names, lanes: &Lanes, now_ms: u64) {
        while let Some(place) = self.wheel.pop(&mut self.all, now_ms) {
            let destination = &mut self.all[place];
            self.remembered -= u32::from(destination.queued == Queued::Remembered);
            (destination.queued, destination.alarm_ms) = (Queued::Nowhere, 0);
            self.update(names, lanes, place, now_ms);
        }
    }

    /// When the next one's time comes.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.wheel.next_ms()
    }

    /// Whether any domain may have another connection.
    pub(super) fn wants_connection(&self) -> bool {
        STANDINGS
            .iter()
            .any(|standing| self.next(*standing).is_some())
    }

    /// The domain of this standing whose turn it is, and for whom it is to have another connection, if it may.
    fn next(&self, standing: Standing) -> Option<(Turn, u32)> {
        let lines = &self.lines[standing as usize];
        if lines.is_empty() || !self.ledger.all.allows(standing) {
            return None;
        }
        lines.next(|turn| self.ledger.allows(standing, turn))
    }

    /// The domain to which a connection is to be opened; it counts as being opened.
    pub(super) fn choose(&mut self, names: &mut Names, lanes: &Lanes, now_ms: u64) -> Option<u32> {
        self.advance(names, lanes, now_ms);
        for step in 0..3 {
            let standing = (self.first + step) % 3;
            if let Some((turn, place)) = self.next(STANDINGS[standing]) {
                self.first = (standing + 1) % 3;
                self.lines[standing].served(turn);
                self.opened(names, lanes, (place, Some(turn)), now_ms);
                return Some(place);
            }
        }
        None
    }

    /// A connection is being opened, for whose turn it is if it is to a domain.
    pub(super) fn opened(
        &mut self,
        names: &mut Names,
        lanes: &Lanes,
        (place, owner): (u32, Option<Turn>),
        now_ms: u64,
    ) {
        // To the end of its line, if it is to have another.
        self.unqueue(place);
        let destination = &mut self.all[place];
        let site = &mut destination.site;
        site.connections += 1;
        site.opening += 1;
        site.used_ms = now_ms;
        self.ledger.moved((site.standing, 0), (site.standing, 1));
        if let Some(owner) = owner {
            destination.owners.push(owner);
            self.ledger.add(owner, site.standing);
            owner.names().for_each(|name| names.share(name));
        }
        self.update(names, lanes, place, now_ms);
    }

    /// Changes what is known of a site, with all counts in step.
    pub(super) fn change<T>(
        &mut self,
        names: &mut Names,
        lanes: &Lanes,
        place: u32,
        now_ms: u64,
        change: impl FnOnce(&mut Site, &SiteLimits) -> T,
    ) -> T {
        let destination = &mut self.all[place];
        let is_domain = destination.id.0 == Kind::Domain;
        let site = &mut destination.site;
        let (before, connections) = (site.standing, site.connections);
        let result = change(site, &self.limits);
        site.used_ms = now_ms;
        let (after, left) = (site.standing, site.connections);
        self.ledger.moved((before, connections), (after, left));
        if is_domain {
            self.domains[before as usize] -= 1;
            self.domains[after as usize] += 1;
            self.settle_owners(names, place, before);
        }
        self.update(names, lanes, place, now_ms);
        result
    }

    /// Brings whose connections a domain's are in step with how many there are, and with its standing.
    fn settle_owners(&mut self, names: &mut Names, place: u32, before: Standing) {
        let destination = &mut self.all[place];
        let (standing, left) = (destination.site.standing, destination.site.connections);
        while destination.owners.len() > left as usize {
            if let Some(owner) = destination.owners.pop() {
                self.ledger.remove(owner, before);
                owner.names().for_each(|name| names.give_back(name));
            }
        }
        if standing != before {
            for owner in &destination.owners {
                self.ledger.remove(*owner, before);
                self.ledger.add(*owner, standing);
            }
        }
    }
}

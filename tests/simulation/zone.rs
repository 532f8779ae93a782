//! The DNS of direct delivery: a few domains with everything that a mail domain can have, and answers that do not come.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postroad_config::IpFamily;
use postroad_relay::dns::{Answer, Dns, Exchange, LookupError};
use tokio::time::sleep;

use crate::dice::Dice;

/// Domains of the recipients, in what the DNS says of them: two exchangers that are equally good, one, one behind a host that is gone, the domain
/// itself, one behind a name that leads nowhere; and one that does not exist, so that its mail comes back.
pub(crate) const DOMAINS: [&str; 6] = [
    "a.example",
    "b.example",
    "c.example",
    "d.example",
    "e.example",
    "none.example",
];

/// Longest that an answer takes, in milliseconds.
const ANSWER_MS_MAX: u64 = 3_000;

/// The name servers.
pub(crate) struct Zone {
    dice: Dice,
    /// The exchangers; `gone` is none.
    hosts: [IpAddr; 3],
    /// In so many of 1,000 cases there is no answer.
    trouble: AtomicU64,
}

impl Zone {
    pub(crate) fn new(dice: Dice, hosts: [IpAddr; 3], trouble: u64) -> Self {
        Self {
            dice,
            hosts,
            trouble: AtomicU64::new(trouble),
        }
    }

    /// Every question is answered from now on.
    pub(crate) fn mend(&self) {
        self.trouble.store(0, Ordering::Relaxed);
    }

    fn answer<'a, T: Send + 'a>(&'a self, known: Result<Vec<T>, LookupError>) -> Answer<'a, T> {
        Box::pin(async move {
            let trouble = self.trouble.load(Ordering::Relaxed);
            if self.dice.permille(trouble) {
                sleep(Duration::from_millis(self.dice.between(0, ANSWER_MS_MAX))).await;
            }
            match self.dice.permille(trouble) {
                true => Err(LookupError::Temporary("SERVFAIL".into())),
                false => known,
            }
        })
    }
}

impl Dns for Zone {
    fn exchanges<'a>(&'a self, domain: &'a str) -> Answer<'a, Exchange> {
        let found: &[(u16, &str)] = match domain {
            "a.example" => &[(10, "first.example"), (10, "second.example")],
            "b.example" => &[(10, "second.example")],
            "c.example" => &[(10, "gone.example"), (20, "third.example")],
            "d.example" => return self.answer(Err(LookupError::NoRecords)),
            "e.example" => &[(5, "nowhere.example"), (10, "third.example")],
            "sender.example" => &[(10, "first.example"), (20, "third.example")],
            _ => return self.answer(Err(LookupError::NoSuchName)),
        };
        let exchange = |(preference, host): &(u16, &str)| Exchange {
            preference: *preference,
            host: (*host).to_owned(),
        };
        self.answer(Ok(found.iter().map(exchange).collect()))
    }

    fn addresses<'a>(&'a self, host: &'a str, family: IpFamily) -> Answer<'a, IpAddr> {
        let address = match (host, family) {
            ("first.example" | "d.example", IpFamily::Ipv4) => self.hosts[0],
            ("second.example", IpFamily::Ipv4) => self.hosts[1],
            ("third.example", IpFamily::Ipv4) => self.hosts[2],
            // Nobody is there: a connection is refused.
            ("gone.example", IpFamily::Ipv4) => IpAddr::V4(Ipv4Addr::new(192, 168, 0, 99)),
            ("nowhere.example", _) => return self.answer(Err(LookupError::NoSuchName)),
            _ => return self.answer(Err(LookupError::NoRecords)),
        };
        self.answer(Ok(vec![address]))
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Zone").finish_non_exhaustive()
    }
}

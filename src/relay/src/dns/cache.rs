//! Answers that are remembered. What is kept of one is what is used of it ([`EXCHANGES_MAX`], [`ADDRESSES_MAX`]): an answer may have 64 KiB
//! and four thousand records, which take 3 MiB as they are parsed, and whoever has a domain decides about that.
//! Bounded in bytes ([`CACHE_BYTES`]); the oldest goes first.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::time::Instant;

use super::{Exchange, LookupError, host, some};

/// Exchanges that are kept of one answer, those that are preferred: eight times as many as are tried.
pub(super) const EXCHANGES_MAX: usize = 64;

/// Addresses that are kept of one answer: four times as many as are tried.
pub(super) const ADDRESSES_MAX: usize = 8;

/// All answers together: of domains with five exchanges each, eight thousand. A part of what the program takes
/// ([`postroad_config::memory`]).
pub(super) const CACHE_BYTES: usize = 4 << 20;

/// What an answer takes beside its text: entries of two maps, and of a list.
const ANSWER_BYTES: usize = 256;

/// What an exchange takes beside its name.
const EXCHANGE_BYTES: usize = 64;

/// A record may live for days. An hour is soon enough to notice that it was mended, and rare enough to ask.
pub(super) const TTL_MAX: Duration = Duration::from_secs(3600);

/// That something does not exist makes mail bounce: what was forgotten and is added should count soon.
pub(super) const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(60);

/// What is used of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Found {
    Exchanges(Vec<Exchange>),
    Addresses(Vec<IpAddr>),
}

/// An answer, or that there is none.
pub(super) type Known = Result<Found, LookupError>;

#[derive(Debug, Default)]
pub(super) struct Cache {
    answers: HashMap<Question, Kept>,
    /// The oldest first.
    order: BTreeMap<u64, Question>,
    next: u64,
    bytes: usize,
}

type Question = (Box<str>, RecordType);

#[derive(Debug)]
struct Kept {
    known: Known,
    until: Instant,
    bytes: usize,
    order: u64,
}

impl Cache {
    /// What is known now.
    pub(super) fn get(&mut self, name: &str, kind: RecordType, now: Instant) -> Option<Known> {
        let question = (name.into(), kind);
        let kept = self.answers.get(&question)?;
        if now < kept.until {
            return Some(kept.known.clone());
        }
        self.forget(&question);
        None
    }

    /// Remembers what is known until then.
    pub(super) fn put(&mut self, name: &str, kind: RecordType, known: &Known, until: Instant) {
        let question: Question = (name.into(), kind);
        self.forget(&question);
        let bytes = ANSWER_BYTES + 2 * name.len() + weight(known);
        let order = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.order.insert(order, question.clone());
        let kept = Kept {
            known: known.clone(),
            until,
            bytes,
            order,
        };
        self.answers.insert(question, kept);
        while self.bytes > CACHE_BYTES
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, question: &Question) {
        if let Some(kept) = self.answers.remove(question) {
            self.order.remove(&kept.order);
            self.bytes -= kept.bytes;
        }
    }
}

fn weight(known: &Known) -> usize {
    match known {
        Ok(Found::Exchanges(exchanges)) => {
            let each = exchanges.iter();
            each.map(|exchange| EXCHANGE_BYTES + exchange.host.len())
                .sum()
        }
        Ok(Found::Addresses(addresses)) => size_of_val(&addresses[..]),
        Err(_) => 0,
    }
}

/// What is used of an answer, and for how long it is true.
pub(super) fn trimmed(kind: RecordType, lookup: &Lookup) -> (Known, Duration) {
    let records = lookup.answers();
    let known = match kind {
        RecordType::MX => some(records.iter().filter_map(|record| match &record.data {
            RData::MX(mx) => Some(mx),
            _ => None,
        }))
        .map(|mut exchanges| {
            exchanges.sort_by_key(|mx| mx.preference);
            let best = exchanges.into_iter().take(EXCHANGES_MAX);
            let exchange = best.map(|mx| Exchange {
                preference: mx.preference,
                host: host(&mx.exchange),
            });
            Found::Exchanges(exchange.collect())
        }),
        _ => {
            let addresses = records.iter().filter_map(|record| record.data.ip_addr());
            some(addresses.take(ADDRESSES_MAX)).map(Found::Addresses)
        }
    };
    let ttl = records.iter().map(|record| record.ttl).min();
    let most = match known {
        Ok(_) => TTL_MAX,
        Err(_) => NEGATIVE_TTL_MAX,
    };
    let ttl = Duration::from_secs(ttl.unwrap_or(0).into()).min(most);
    (known, ttl)
}

/// For how long it is true that there is nothing. Only an answer that says so counts (RFC 2308 §5).
pub(super) fn nothing(error: &NetError) -> Option<Duration> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let ttl = Duration::from_secs(none.negative_ttl?.into());
            Some(ttl.min(NEGATIVE_TTL_MAX))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::Query;
    use hickory_resolver::proto::rr::rdata::{A, MX};
    use hickory_resolver::proto::rr::{Name, Record};

    use super::*;

    fn lookup(kind: RecordType, data: impl Iterator<Item = RData>) -> Lookup {
        let name = Name::from_ascii("example.org.").unwrap();
        let records = data.map(|data| Record::from_rdata(name.clone(), 300, data));
        let records: Vec<_> = records.collect();
        Lookup::new_with_max_ttl(Query::query(name, kind), records)
    }

    #[test]
    fn of_a_huge_answer_what_is_used_is_kept() {
        let host = |number: u16| {
            let label = |number: u16| format!("{number:060}");
            let labels: Vec<String> = (0..4).map(|part| label(part * 10_000 + number)).collect();
            Name::from_ascii(format!("{}.", labels.join("."))).unwrap()
        };
        let records = (0..4000).rev().map(|number| {
            let mx = MX::new(number, host(number));
            RData::MX(mx)
        });
        let (known, ttl) = trimmed(RecordType::MX, &lookup(RecordType::MX, records));
        assert_eq!(ttl, Duration::from_secs(300));
        // What it weighs bounds what it takes.
        assert!(weight(&known) <= EXCHANGES_MAX * (EXCHANGE_BYTES + 255));
        let Ok(Found::Exchanges(exchanges)) = known else {
            panic!("{known:?}")
        };
        let preferences: Vec<u16> = exchanges.iter().map(|found| found.preference).collect();
        assert_eq!(preferences, (0..64).collect::<Vec<_>>());
        let room: usize = exchanges.iter().map(|found| found.host.capacity()).sum();
        assert!(exchanges.capacity() == EXCHANGES_MAX && room <= EXCHANGES_MAX * 256);

        let records = (0..4000).map(|number: u32| RData::A(A(number.to_be_bytes().into())));
        let (known, _) = trimmed(RecordType::A, &lookup(RecordType::A, records));
        let Ok(Found::Addresses(addresses)) = known else {
            panic!("{known:?}")
        };
        assert_eq!(addresses.len(), ADDRESSES_MAX);
    }

    #[test]
    fn all_answers_together_are_bounded_and_the_oldest_goes_first() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let until = now + TTL_MAX;
        let exchange = Exchange {
            preference: 0,
            host: "x".repeat(250),
        };
        let large: Known = Ok(Found::Exchanges(vec![exchange; EXCHANGES_MAX]));
        let name = |number: u32| format!("d{number}.example.org");
        for number in 0..500 {
            cache.put(&name(number), RecordType::MX, &large, until);
            assert!(cache.bytes <= CACHE_BYTES);
        }
        assert!((150..300).contains(&cache.answers.len()));
        assert_eq!(cache.answers.len(), cache.order.len());
        assert_eq!(cache.get(&name(0), RecordType::MX, now), None);
        assert_eq!(cache.get(&name(499), RecordType::MX, now), Some(large));
        let nothing: Known = Err(LookupError::NoSuchName);
        for number in 0..100_000 {
            cache.put(&name(number), RecordType::A, &nothing, until);
        }
        assert!(cache.bytes <= CACHE_BYTES && cache.answers.len() <= CACHE_BYTES / ANSWER_BYTES);
    }

    #[test]
    fn an_answer_is_known_for_its_time_and_replaced_by_the_next() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let second = Duration::from_secs(1);
        let nothing: Known = Err(LookupError::NoRecords);
        let one: Known = Ok(Found::Addresses(vec![[192, 0, 2, 1].into()]));
        cache.put("a", RecordType::A, &nothing, now + second);
        cache.put("a", RecordType::A, &one, now + second);
        assert_eq!(cache.get("a", RecordType::A, now), Some(one));
        assert_eq!(cache.get("a", RecordType::AAAA, now), None);
        assert_eq!(cache.get("a", RecordType::A, now + second), None);
        assert_eq!(
            (cache.bytes, cache.answers.len(), cache.order.len()),
            (0, 0, 0)
        );
    }
}

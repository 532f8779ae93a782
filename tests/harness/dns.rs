//! A name server that says what a test wants it to say.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// How long answers may be remembered, in seconds: not long, because tests change them.
const TTL: u32 = 1;

/// Most aliases that are followed for one question.
const ALIASES_MAX: usize = 8;

/// An authoritative server for every name, over UDP. It knows nothing until it is told; a name that it does not know does not
/// exist. Ends when dropped.
pub struct NameServer {
    /// Where it is asked.
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Zone {
    records: BTreeMap<String, Vec<RData>>,
    trouble: BTreeMap<String, Trouble>,
}

/// What a name server does instead of answering.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// Says SERVFAIL.
    ServFail,
    /// Says REFUSED.
    Refused,
    /// Says nothing.
    Silence,
}

impl NameServer {
    /// One that knows nothing yet.
    ///
    /// # Panics
    /// If there is no socket.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        let task = tokio::spawn(serve(socket, Arc::clone(&zone)));
        Self {
            address,
            zone,
            task,
        }
    }

    /// Adds an MX record; the host is "." for the null MX.
    pub fn mx(&self, domain: &str, preference: u16, host: &str) {
        self.add(domain, RData::MX(MX::new(preference, name(host))));
    }

    /// Adds an A or AAAA record.
    ///
    /// # Panics
    /// If it is no address.
    pub fn address(&self, host: &str, address: &str) {
        let data = match address.parse().unwrap() {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        self.add(host, data);
    }

    /// Adds a CNAME record.
    pub fn alias(&self, from: &str, to: &str) {
        self.add(from, RData::CNAME(CNAME(name(to))));
    }

    /// Whatever is asked about the name, this happens; `None` mends it.
    pub fn trouble(&self, of: &str, trouble: Option<Trouble>) {
        let (mut zone, key) = (self.zone(), name(of).to_ascii());
        match trouble {
            Some(trouble) => zone.trouble.insert(key, trouble),
            None => zone.trouble.remove(&key),
        };
    }

    fn add(&self, owner: &str, data: RData) {
        let key = name(owner).to_ascii();
        self.zone().records.entry(key).or_default().push(data);
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4096];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let Ok(question) = Message::from_vec(&buffer[..length]) else {
            continue;
        };
        let reply = zone.lock().unwrap().reply(&question);
        if let Some(bytes) = reply.and_then(|reply| reply.to_vec().ok()) {
            // Who asked may be gone.
            let _ = socket.send_to(&bytes, client).await;
        }
    }
}

impl Zone {
    fn reply(&self, question: &Message) -> Option<Message> {
        let query = question.queries.first()?;
        let key = query.name().to_lowercase().to_ascii();
        let trouble = self.trouble.get(&key).copied();
        let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
        reply.metadata.recursion_available = true;
        reply.metadata.authoritative = true;
        reply.add_query(query.clone());
        reply.metadata.response_code = match trouble {
            Some(Trouble::Silence) => return None,
            Some(Trouble::ServFail) => ResponseCode::ServFail,
            Some(Trouble::Refused) => ResponseCode::Refused,
            None => self.answer(query, &mut reply),
        };
        Some(reply)
    }

    fn answer(&self, query: &Query, reply: &mut Message) -> ResponseCode {
        let mut owner = query.name().to_lowercase();
        for _ in 0..ALIASES_MAX {
            let Some(records) = self.records.get(&owner.to_ascii()) else {
                reply.add_authorities([soa()]);
                return ResponseCode::NXDomain;
            };
            let fits = |data: &&RData| data.record_type() == query.query_type();
            let found: Vec<&RData> = records.iter().filter(fits).collect();
            let record = |data: &RData| Record::from_rdata(owner.clone(), TTL, data.clone());
            if !found.is_empty() {
                reply.add_answers(found.into_iter().map(record));
                return ResponseCode::NoError;
            }
            let alias = records.iter().find_map(|data| match data {
                RData::CNAME(CNAME(target)) => Some((data, target.clone())),
                _ => None,
            });
            let Some((data, target)) = alias else { break };
            reply.add_answers([record(data)]);
            owner = target;
        }
        if query.query_type() != RecordType::CNAME {
            reply.add_authorities([soa()]);
        }
        ResponseCode::NoError
    }
}

/// An absolute name.
fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap().to_lowercase();
    name.set_fqdn(true);
    name
}

/// What makes a "no" one that may be believed, for as long as anything else (RFC 2308 §3).
fn soa() -> Record {
    let (server, mailbox) = (name("ns.test"), name("postmaster.test"));
    let ttl = i32::try_from(TTL).unwrap();
    let data = SOA::new(server, mailbox, 1, ttl, ttl, ttl, TTL);
    Record::from_rdata(Name::root(), TTL, RData::SOA(data))
}

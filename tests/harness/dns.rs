//! A name server that says what a test wants it to say.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

/// How long answers may be remembered, in seconds: not long, because tests change them.
const TTL: u32 = 1;

/// Longest answer over UDP, in octets; what is longer has to be asked for over TCP (RFC 1035 §4.2.1).
const UDP_MAX: usize = 1232;

/// Most aliases that are followed for one question.
const ALIASES_MAX: usize = 8;

/// An authoritative server for every name, over UDP and TCP. It knows nothing until it is told; a name that it does not know does not
/// exist. Ends when dropped.
pub struct NameServer {
    /// Where it is asked.
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Default)]
struct Zone {
    records: BTreeMap<String, Vec<RData>>,
    crowds: Vec<Crowd>,
    trouble: BTreeMap<String, Trouble>,
}

/// Names that have very many exchangers.
struct Crowd {
    /// Their last labels.
    below: String,
    exchangers: u16,
    /// How long the answer takes.
    delay: Duration,
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
        let (socket, listener) = sockets().await;
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        let tasks = [
            tokio::spawn(serve(socket, Arc::clone(&zone))),
            tokio::spawn(serve_streams(listener, Arc::clone(&zone))),
        ];
        Self {
            address,
            zone,
            tasks,
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

    /// Every name below this one has so many MX records, each with a host of its own that has no address. Answers that are too long for UDP
    /// take so long.
    pub fn crowd(&self, below: &str, exchangers: u16, delay: Duration) {
        let below = format!(".{}", name(below).to_ascii());
        self.zone().crowds.push(Crowd {
            below,
            exchangers,
            delay,
        });
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
        self.tasks.iter().for_each(JoinHandle::abort);
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
        let Some(reply) = reply else { continue };
        let mut bytes = reply.to_vec().unwrap();
        if bytes.len() > UDP_MAX {
            bytes = reply.truncate().to_vec().unwrap();
        }
        // Who asked may be gone.
        let _ = socket.send_to(&bytes, client).await;
    }
}

async fn serve_streams(listener: TcpListener, zone: Arc<Mutex<Zone>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let zone = Arc::clone(&zone);
        // A connection that breaks is the resolver's to judge.
        tokio::spawn(async move { serve_stream(stream, &zone).await.ok() });
    }
}

/// RFC 1035 §4.2.2: each message follows its length. RFC 7766 §6.2.1.1: an answer does not wait for those to earlier questions.
async fn serve_stream(stream: TcpStream, zone: &Mutex<Zone>) -> std::io::Result<()> {
    let (mut questions, answers) = stream.into_split();
    let answers = Arc::new(tokio::sync::Mutex::new(answers));
    loop {
        let mut question = vec![0; usize::from(questions.read_u16().await?)];
        questions.read_exact(&mut question).await?;
        let Ok(question) = Message::from_vec(&question) else {
            return Ok(());
        };
        let (reply, delay) = {
            let zone = zone.lock().unwrap();
            (zone.reply(&question), zone.delay(&question))
        };
        let Some(reply) = reply else { continue };
        let bytes = reply.to_vec().unwrap();
        let mut message = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        message.extend_from_slice(&bytes);
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // Who asked may be gone.
            let _ = answers.lock().await.write_all(&message).await;
        });
    }
}

/// The two sockets of a server, at one port.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        // Somebody else may have it.
        if let Ok(listener) = TcpListener::bind(address).await {
            return (socket, listener);
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
        if let Some(crowd) = self.exchangers(&owner) {
            if query.query_type() == RecordType::MX {
                reply.add_answers(crowd.map(|data| Record::from_rdata(owner.clone(), TTL, data)));
            } else {
                reply.add_authorities([soa()]);
            }
            return ResponseCode::NoError;
        }
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

impl Zone {
    /// The exchangers of a name that has very many.
    fn exchangers(&self, owner: &Name) -> Option<impl Iterator<Item = RData> + use<>> {
        let (owner, count) = (owner.to_ascii(), self.crowd(owner)?.exchangers);
        let host = move |number| name(&format!("mx{number}.{owner}"));
        Some((0..count).map(move |number| RData::MX(MX::new(number, host(number)))))
    }

    /// How long the answer to a question takes.
    fn delay(&self, question: &Message) -> Duration {
        let asked = question.queries.first().map(Query::name);
        let crowd = asked.and_then(|name| self.crowd(name));
        crowd.map_or(Duration::ZERO, |crowd| crowd.delay)
    }

    fn crowd(&self, name: &Name) -> Option<&Crowd> {
        let name = name.to_lowercase().to_ascii();
        let mut crowds = self.crowds.iter();
        crowds.find(|crowd| name.ends_with(&crowd.below))
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

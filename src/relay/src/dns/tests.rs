use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, MessageType};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, NS, SOA};
use hickory_resolver::proto::rr::{RData, Record};
use tokio::net::UdpSocket;

use super::*;

/// What a name server says to a question: code, answers, authorities. `None`: nothing.
type Script = fn(&Name, RecordType) -> Option<(ResponseCode, Vec<Record>, Vec<Record>)>;

/// A name server with a script; the second value counts the questions.
async fn serve(script: Script) -> (Resolver, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    let servers = vec![name_server(&socket.local_addr().unwrap())];
    let mut config = ResolverConfig::from_name_servers(servers);
    // As in a pod.
    config.add_search(name("cluster.local"));
    let resolver = Resolver::assemble(config, TRY_TIMEOUT).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            count.fetch_add(1, Ordering::SeqCst);
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let query = question.queries[0].clone();
            let Some((code, answers, authorities)) = script(query.name(), query.query_type())
            else {
                continue;
            };
            let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
            assert_eq!(reply.metadata.message_type, MessageType::Response);
            reply.metadata.response_code = code;
            reply.metadata.recursion_available = true;
            reply.add_query(query);
            reply.add_answers(answers);
            reply.add_authorities(authorities);
            let bytes = reply.to_vec().unwrap();
            socket.send_to(&bytes, client).await.unwrap();
        }
    });
    (resolver, asked)
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn record(owner: &Name, data: RData) -> Record {
    Record::from_rdata(owner.clone(), 300, data)
}

fn soa(owner: &Name) -> Record {
    let data = SOA::new(
        name("ns.example.org"),
        name("post.example.org"),
        1,
        60,
        60,
        60,
        60,
    );
    record(owner, RData::SOA(data))
}

#[tokio::test]
async fn exchanges_and_addresses_are_found_and_remembered() {
    let (resolver, asked) = serve(|owner, kind| {
        let data = match kind {
            RecordType::MX => vec![
                RData::MX(MX::new(20, name("MX2.example.org"))),
                RData::MX(MX::new(10, name("mx1.example.org"))),
                RData::MX(MX::new(30, Name::root())),
            ],
            RecordType::A => vec![
                RData::A(A::new(192, 0, 2, 1)),
                RData::A(A::new(192, 0, 2, 2)),
            ],
            _ => vec![RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))],
        };
        let answers = data.into_iter().map(|data| record(owner, data)).collect();
        Some((ResponseCode::NoError, answers, Vec::new()))
    })
    .await;
    let exchange = |preference, host: &str| Exchange {
        preference,
        host: host.to_owned(),
    };
    let mut found = resolver.exchanges("example.org").await.unwrap();
    found.sort_by_key(|exchange| exchange.preference);
    let expected = [(10, "mx1.example.org"), (20, "mx2.example.org"), (30, "")];
    assert_eq!(
        found,
        expected.map(|(preference, host)| exchange(preference, host))
    );
    let mut found = resolver
        .addresses("example.org", IpFamily::Ipv4)
        .await
        .unwrap();
    found.sort();
    assert_eq!(
        found,
        ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap())
    );
    let found = resolver
        .addresses("example.org", IpFamily::Ipv6)
        .await
        .unwrap();
    assert_eq!(found, ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    resolver.exchanges("example.org").await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 3, "the fourth is remembered");
}

#[tokio::test]
async fn aliases_are_followed_also_where_the_server_does_not() {
    let (resolver, _) = serve(|owner, _| {
        let alias = |from: &str, to: &str| record(&name(from), RData::CNAME(CNAME(name(to))));
        let exchange =
            |from: &str| record(&name(from), RData::MX(MX::new(5, name("mx.example.net"))));
        let answers = match owner.to_ascii().as_str() {
            "whole.example.org." => vec![
                alias("whole.example.org", "target.example.org"),
                exchange("target.example.org"),
            ],
            "half.example.org." => vec![alias("half.example.org", "target.example.org")],
            _ => vec![exchange("target.example.org")],
        };
        Some((ResponseCode::NoError, answers, Vec::new()))
    })
    .await;
    for domain in ["whole.example.org", "half.example.org"] {
        let found = resolver.exchanges(domain).await.unwrap();
        assert_eq!(found.len(), 1, "{domain}");
        assert_eq!(found[0].host, "mx.example.net", "{domain}");
    }
}

/// A loop ends as a name without the record, like an alias of a name that has none: no name in it has one. Nobody asks for ever, however
/// the server tells it: one alias at a time, or all of the loop at once.
#[tokio::test]
async fn a_loop_of_aliases_is_no_record_after_few_questions() {
    let (resolver, asked) = serve(|owner, _| {
        let alias = |from: &str, to: &str| record(&name(from), RData::CNAME(CNAME(name(to))));
        let answers = match owner.to_ascii().as_str() {
            "self.example.org." => vec![alias("self.example.org", "self.example.org")],
            "one.example.org." => vec![alias("one.example.org", "two.example.org")],
            "two.example.org." => vec![alias("two.example.org", "one.example.org")],
            _ => vec![
                alias("whole.example.org", "back.example.org"),
                alias("back.example.org", "whole.example.org"),
            ],
        };
        Some((ResponseCode::NoError, answers, Vec::new()))
    })
    .await;
    for domain in ["self.example.org", "one.example.org", "whole.example.org"] {
        let before = asked.load(Ordering::SeqCst);
        let found = resolver.exchanges(domain).await;
        assert_eq!(found, Err(LookupError::NoRecords), "{domain}");
        let found = resolver.addresses(domain, IpFamily::Ipv4).await;
        assert_eq!(found, Err(LookupError::NoRecords), "{domain}");
        let questions = asked.load(Ordering::SeqCst) - before;
        assert!(questions <= 2 * 8, "{domain}: {questions}");
    }
}

#[tokio::test]
async fn names_are_asked_as_they_are() {
    let (resolver, asked) = serve(|owner, _| {
        let code = match owner.to_ascii().as_str() {
            "single." | "example.org." | "a.b.c.d.e.f.example.org." => ResponseCode::NXDomain,
            other => panic!("{other} was asked for"),
        };
        Some((code, Vec::new(), vec![soa(owner)]))
    })
    .await;
    let domains = ["single", "example.org", "a.b.c.d.e.f.example.org"];
    for (count, domain) in domains.into_iter().enumerate() {
        let error = resolver.exchanges(domain).await.unwrap_err();
        assert_eq!(error, LookupError::NoSuchName, "{domain}");
        assert_eq!(asked.load(Ordering::SeqCst), count + 1, "{domain}");
    }
}

#[tokio::test]
async fn only_an_answer_says_no() {
    let (resolver, _) = serve(|owner, _| {
        let text = owner.to_ascii();
        Some(match text.as_str() {
            "gone.example.org." => (ResponseCode::NXDomain, Vec::new(), vec![soa(owner)]),
            "bare.example.org." => (ResponseCode::NXDomain, Vec::new(), Vec::new()),
            "empty.example.org." => (ResponseCode::NoError, Vec::new(), vec![soa(owner)]),
            "refers.example.org." => {
                let elsewhere = record(owner, RData::NS(NS(name("ns.example.net"))));
                (ResponseCode::NoError, Vec::new(), vec![elsewhere])
            }
            "broken.example.org." => (ResponseCode::ServFail, Vec::new(), Vec::new()),
            "refused.example.org." => (ResponseCode::Refused, Vec::new(), Vec::new()),
            other => panic!("{other} was not asked for"),
        })
    })
    .await;
    for (domain, expected) in [
        ("gone.example.org", Some(LookupError::NoSuchName)),
        ("bare.example.org", Some(LookupError::NoSuchName)),
        ("empty.example.org", Some(LookupError::NoRecords)),
        ("refers.example.org", None),
        ("broken.example.org", None),
        ("refused.example.org", None),
    ] {
        let error = resolver.exchanges(domain).await.unwrap_err();
        match expected {
            Some(expected) => assert_eq!(error, expected, "{domain}"),
            None => assert!(
                matches!(error, LookupError::Temporary(_)),
                "{domain}: {error}"
            ),
        }
    }
    let long = format!("{}.example.org", "x".repeat(64));
    let error = resolver.exchanges(&long).await.unwrap_err();
    assert_eq!(error, LookupError::NoSuchName);
}

#[tokio::test]
async fn a_server_that_does_not_answer_says_nothing_about_the_name() {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    let silent = [socket.local_addr().unwrap()];
    let config = ResolverConfig::from_name_servers(silent.iter().map(name_server).collect());
    let resolver = Resolver::assemble(config, Duration::from_millis(50)).unwrap();
    let error = resolver.exchanges("example.org").await.unwrap_err();
    let expected = LookupError::Temporary("the name servers did not answer".into());
    assert_eq!(error, expected);
}

#[test]
fn domains_are_known_to_the_dns_in_ascii_and_lower_case() {
    for (domain, expected) in [
        ("Example.ORG", Some("example.org")),
        ("b\u{fc}cher.example", Some("xn--bcher-kva.example")),
        ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
        ("_tcp.example", Some("_tcp.example")),
        ("", None),
        (".", None),
        ("a..example", None),
    ] {
        assert_eq!(to_ascii(domain).as_deref(), expected, "{domain}");
    }
    assert_eq!(to_ascii(&format!("{}.example", "x".repeat(64))), None);
    assert_eq!(to_ascii(&"abcdefg.".repeat(40)), None);
}

mod patience;
mod protection;

use std::net::IpAddr;
use std::sync::Mutex;

use postroad_config::status::FailureReason;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::dns::LookupError;
use crate::dns::fake::Zone;
use crate::net::{TcpListener, TcpStream};
use crate::pki::{NAME, Pki};
use crate::rig::Rig;
use crate::stream::Stream;

/// What a mail exchanger does.
#[derive(Clone)]
enum Manner {
    /// Greets with this line and goes on if it is 220.
    Greets(&'static str),
    /// Greets after so long.
    Late(Duration),
    /// Says this name after EHLO.
    Named(&'static str),
    /// Says nothing at all.
    Silent,
    /// Offers STARTTLS and shakes hands, and offers REQUIRETLS or not.
    Secure(Arc<Pki>, &'static str),
    /// Offers STARTTLS, and closes in the middle of the handshake.
    Broken,
}

/// A mail exchanger at an address of this machine.
#[derive(Clone, Default)]
struct Exchanger {
    /// The dialogues, each from the first command on.
    heard: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Exchanger {
    async fn start(address: &str, port: u16, manner: Manner) -> (Self, u16) {
        let address: IpAddr = address.parse().unwrap();
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let exchanger = Self::default();
        let serving = exchanger.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (serving, manner) = (serving.clone(), manner.clone());
                // A connection that breaks is the opener's to judge.
                tokio::spawn(async move { serving.serve(stream, manner).await.ok() });
            }
        });
        (exchanger, port)
    }

    fn dialogues(&self) -> Vec<Vec<String>> {
        self.heard.lock().unwrap().clone()
    }

    async fn serve(&self, stream: TcpStream, manner: Manner) -> std::io::Result<()> {
        let number = {
            let mut heard = self.heard.lock().unwrap();
            heard.push(Vec::new());
            heard.len() - 1
        };
        let mut stream = BufReader::new(Stream::Plain(stream));
        let greeting = match &manner {
            Manner::Silent => std::future::pending().await,
            Manner::Greets(line) => line,
            Manner::Late(pause) => {
                tokio::time::sleep(*pause).await;
                "220 mx"
            }
            _ => "220 mx ready",
        };
        stream
            .write_all(format!("{greeting}\r\n").as_bytes())
            .await?;
        let mut offer = match &manner {
            Manner::Named(name) => format!("250 {name}"),
            Manner::Secure(..) | Manner::Broken => "250-mx\r\n250 STARTTLS".to_owned(),
            _ => "250 mx".to_owned(),
        };
        let mut line = String::new();
        while stream.read_line(&mut line).await? > 0 {
            let command = std::mem::take(&mut line).trim_end().to_owned();
            self.heard.lock().unwrap()[number].push(command.clone());
            let reply = match command.as_str() {
                "STARTTLS" => "220 go",
                "QUIT" => "221 bye",
                _ => &offer,
            };
            stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
            if command == "STARTTLS" {
                let Stream::Plain(mut plain) = stream.into_inner() else {
                    return Ok(());
                };
                let Manner::Secure(pki, offered) = &manner else {
                    return plain.read_exact(&mut [0; 1]).await.map(|_| ());
                };
                let acceptor = TlsAcceptor::from(pki.served().config);
                let secured = Box::new(acceptor.accept(plain).await?.into());
                stream = BufReader::new(Stream::Tls(secured));
                (*offered).clone_into(&mut offer);
            }
        }
        Ok(())
    }
}

/// A relay that finds exchangers by this zone at this port.
fn opener(zone: Zone, port: u16) -> Opener {
    opener_with(zone, port, |_| ())
}

fn opener_with(zone: Zone, port: u16, change: impl FnOnce(&mut RelayConfig)) -> Opener {
    let mut config = Rig::new(1 << 20).context.live().config.clone();
    config.hostname = "relay.example.com".into();
    config.delivery.direct.port = port;
    config.delivery.direct.allowed_networks = loopback();
    change(&mut config);
    Opener::with_dns(&config, Arc::new(zone))
}

fn loopback() -> Vec<ipnet::IpNet> {
    ["127.0.0.0/8", "::1/128"]
        .map(|text| text.parse().unwrap())
        .into()
}

/// What an attempt came to: the host that let us in and how it is protected, or why none did.
async fn attempt(
    opener: &Opener,
    demand: TlsDemand,
) -> Result<(String, Protection), DirectFailure> {
    let connection = sendable(opener.open("example.org", &None, demand)).await?;
    let result = (connection.remote().to_owned(), connection.protection());
    connection.quit().await;
    Ok(result)
}

/// What may be awaited in a task of its own, as workers do.
fn sendable<F: Future + Send>(future: F) -> F {
    future
}

fn status(result: Result<(String, Protection), DirectFailure>) -> String {
    match result {
        Err(DirectFailure::Final(reply)) => {
            format!("{} {}", reply.code(), reply.status().unwrap())
        }
        other => panic!("{other:?}"),
    }
}

fn held(result: Result<(String, Protection), DirectFailure>) -> UpstreamFailure {
    match result {
        Err(DirectFailure::Hold(failed)) => failed,
        other => panic!("{other:?}"),
    }
}

/// Two hosts: `first` at 127.0.0.2, preferred to `second` at 127.0.0.3.
fn two() -> Zone {
    Zone::default()
        .mx("example.org", 10, "first.example.net")
        .mx("example.org", 20, "second.example.net")
        .address("first.example.net", "127.0.0.2")
        .address("second.example.net", "127.0.0.3")
}

#[tokio::test]
async fn a_host_that_stands_in_for_a_better_one_is_known_to_do_so() {
    use crate::delivery::connect::Rank;
    let (_, port) = Exchanger::start("127.0.0.3", 0, Manner::Greets("220 mx")).await;
    for (zone, rank) in [
        (two(), Rank::Substitute),
        (two().address("first.example.net", "127.0.0.3"), Rank::First),
    ] {
        let opener = opener(zone, port);
        let opened = opener.open("example.org", &None, TlsDemand::Default).await;
        let connection = opened.unwrap_or_else(|failure| panic!("{failure:?}"));
        let best = connection.remote() == "first.example.net";
        assert_eq!((connection.rank(), best), (rank, rank == Rank::First));
        connection.quit().await;
    }
}

#[tokio::test]
async fn a_host_stands_in_for_one_whose_address_is_not_known_now_and_not_for_one_that_has_none() {
    use crate::delivery::connect::Rank;
    let (_, port) = Exchanger::start("127.0.0.3", 0, Manner::Greets("220 mx")).await;
    let at = |address: &str| {
        Zone::default()
            .mx("example.org", 10, "first.example.net")
            .mx("example.org", 20, "second.example.net")
            .address("first.example.net", address)
            .address("second.example.net", "127.0.0.3")
    };
    let failing = |failure| two().failing("first.example.net", failure);
    for (zone, rank) in [
        (
            failing(LookupError::Temporary("SERVFAIL".into())),
            Rank::Substitute,
        ),
        (failing(LookupError::NoSuchName), Rank::First),
        (failing(LookupError::NoRecords), Rank::First),
        // In a private network that may be allowed tomorrow; nobody's.
        (at("10.1.2.3"), Rank::Substitute),
        (at("0.0.0.0"), Rank::First),
    ] {
        let described = format!("{zone:?}");
        let opened = opener(zone, port)
            .open("example.org", &None, TlsDemand::Default)
            .await;
        let connection = opened.unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(connection.rank(), rank, "{described}");
    }
}

#[tokio::test]
async fn a_host_that_refuses_the_connection_is_passed_over() {
    let (_, port) = Exchanger::start("127.0.0.3", 0, Manner::Greets("220 mx")).await;
    let result = attempt(&opener(two(), port), TlsDemand::Default).await;
    assert_eq!(result, Ok(("second.example.net".into(), Protection::None)));
}

#[tokio::test]
async fn a_host_that_greets_with_a_refusal_is_passed_over_with_all_its_addresses() {
    for refusal in ["554 go away", "421 too busy"] {
        let (one, port) = Exchanger::start("127.0.0.2", 0, Manner::Greets(refusal)).await;
        let (other, _) = Exchanger::start("127.0.0.4", port, Manner::Greets(refusal)).await;
        let (_, _) = Exchanger::start("127.0.0.3", port, Manner::Greets("220 mx")).await;
        let zone = two().address("first.example.net", "127.0.0.4");
        let result = attempt(&opener(zone, port), TlsDemand::Default).await;
        assert_eq!(result.unwrap().0, "second.example.net");
        assert_eq!(one.dialogues().len() + other.dialogues().len(), 1);
    }
}

#[tokio::test]
async fn what_all_hosts_refuse_is_held_with_what_the_preferred_one_said() {
    let (_, port) = Exchanger::start("127.0.0.2", 0, Manner::Greets("421 4.7.0 later")).await;
    let (_, _) = Exchanger::start("127.0.0.3", port, Manner::Greets("554 5.7.1 never")).await;
    let failed = held(attempt(&opener(two(), port), TlsDemand::Default).await);
    assert_eq!(failed.reason, FailureReason::Throttled);
    for part in ["first.example.net (127.0.0.2)", "421 4.7.0 later"] {
        assert!(failed.message.contains(part), "{failed:?}");
    }
}

#[tokio::test]
async fn a_private_network_is_reached_only_if_it_is_allowed() {
    let (exchanger, port) = Exchanger::start("127.0.0.2", 0, Manner::Greets("220 mx")).await;
    let zone = || {
        Zone::default()
            .mx("example.org", 10, "inside.example.net")
            .address("inside.example.net", "10.1.2.3")
    };
    let failed = held(attempt(&opener(zone(), port), TlsDemand::Default).await);
    assert_eq!(failed.reason, FailureReason::NetworkNotAllowed);
    let message = failed.message;
    assert!(
        message.contains("delivery.direct.allowedNetworks"),
        "{message}"
    );
    assert!(!message.contains("10.1.2.3"), "{message}");
    // This machine is nobody's exchanger.
    let opener = opener_with(two(), port, |config| {
        config.delivery.direct.allowed_networks = vec!["0.0.0.0/0".parse().unwrap()];
    });
    let result = attempt(&opener, TlsDemand::Default).await;
    assert_eq!(status(result), "550 5.4.4");
    assert!(exchanger.dialogues().is_empty());
}

#[tokio::test]
async fn a_host_that_calls_itself_as_we_do_is_this_relay() {
    let (_, port) = Exchanger::start("127.0.0.2", 0, Manner::Named("Relay.Example.com")).await;
    let (second, _) = Exchanger::start("127.0.0.3", port, Manner::Greets("220 mx")).await;
    let result = attempt(&opener(two(), port), TlsDemand::Default).await;
    assert_eq!(status(result), "554 5.4.6");
    assert!(second.dialogues().is_empty());
    // As the second choice we wait for the first.
    let (_, port) = Exchanger::start("127.0.0.3", 0, Manner::Named("relay.example.com")).await;
    let failed = held(attempt(&opener(two(), port), TlsDemand::Default).await);
    assert_eq!(failed.reason, FailureReason::ConnectionRefused);
}

#[tokio::test]
async fn a_host_with_our_name_or_our_address_is_this_relay() {
    let zone = Zone::default()
        .mx("example.org", 10, "relay.example.com")
        .mx("example.org", 20, "second.example.net")
        .address("relay.example.com", "192.0.2.1")
        .address("second.example.net", "127.0.0.3");
    let result = attempt(&opener(zone, 9), TlsDemand::Default).await;
    assert_eq!(status(result), "554 5.4.6");
    let opener = opener_with(two(), 2525, |config| {
        config.listeners[0].listen = "127.0.0.2:2525".parse().unwrap();
    });
    let result = attempt(&opener, TlsDemand::Default).await;
    assert_eq!(status(result), "554 5.4.6");
}

#[tokio::test]
async fn a_host_with_nothing_but_an_ipv6_address_is_reached() {
    let (_, port) = Exchanger::start("::1", 0, Manner::Greets("220 mx")).await;
    let zone = || {
        Zone::default()
            .mx("example.org", 10, "six.example.net")
            .address("six.example.net", "::1")
    };
    let result = attempt(&opener(zone(), port), TlsDemand::Default).await;
    assert_eq!(result.unwrap().0, "six.example.net");
    let opened = opener(Zone::default(), port)
        .open("[IPv6:::1]", &None, TlsDemand::Default)
        .await;
    let remote = opened.map(|connection| connection.remote().to_owned());
    assert_eq!(remote, Ok("[IPv6:::1]".into()));
    // Who allows IPv4 alone cannot get there.
    let opener = opener_with(zone(), port, |config| {
        config
            .delivery
            .direct
            .families
            .retain(|family| *family == postroad_config::IpFamily::Ipv4);
    });
    assert_eq!(
        status(attempt(&opener, TlsDemand::Default).await),
        "550 5.4.4"
    );
}

#[tokio::test]
async fn what_the_dns_says_is_final_or_held() {
    let broken = || LookupError::Temporary("SERVFAIL".into());
    let mx = || Zone::default().mx("example.org", 10, "first.example.net");
    for (zone, expected) in [
        (Zone::default(), Some("550 5.1.2")),
        (Zone::default().mx("example.org", 0, ""), Some("556 5.1.10")),
        (mx(), Some("550 5.4.4")),
        (
            mx().failing("first.example.net", LookupError::NoRecords),
            Some("550 5.4.4"),
        ),
        (mx().failing("first.example.net", broken()), None),
        (Zone::default().failing("example.org", broken()), None),
        (
            Zone::default().failing("example.org", LookupError::NoRecords),
            Some("550 5.1.2"),
        ),
    ] {
        let described = format!("{zone:?}");
        let result = attempt(&opener(zone, 9), TlsDemand::Default).await;
        match expected {
            Some(expected) => assert_eq!(status(result), expected, "{described}"),
            None => {
                let failed = held(result);
                assert_eq!(
                    failed.reason,
                    FailureReason::NameServerFailed,
                    "{described}"
                );
                assert!(failed.message.contains("SERVFAIL"), "{failed:?}");
            }
        }
    }
}

#[tokio::test]
async fn name_servers_are_kept_while_they_are_the_same() {
    let mut config = Rig::new(1 << 20).context.live().config.clone();
    let nameservers = ["127.0.0.1:1".parse().unwrap()];
    config.delivery.default_route = postroad_config::Target::Direct;
    config.delivery.direct.nameservers = nameservers.to_vec();
    let first = Opener::new(&config, None);
    config.delivery.direct.port = 26;
    let second = Opener::new(&config, Some(&first));
    config
        .delivery
        .direct
        .nameservers
        .push("127.0.0.1:2".parse().unwrap());
    let third = Opener::new(&config, Some(&second));
    let dns = |opener: &Opener| Arc::clone(&opener.means.as_ref().unwrap().dns);
    assert!(Arc::ptr_eq(&dns(&first), &dns(&second)) && !Arc::ptr_eq(&dns(&second), &dns(&third)));
    assert_eq!((second.config.port, first.config.port), (26, 25));
}

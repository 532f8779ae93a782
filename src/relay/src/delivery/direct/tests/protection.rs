//! STARTTLS and REQUIRETLS.

use super::*;

#[tokio::test]
async fn starttls_is_used_where_it_is_offered() {
    let manner = Manner::Secure(Arc::new(Pki::new()), "250 mx");
    let (first, port) = Exchanger::start("127.0.0.2", 0, manner).await;
    let result = attempt(&opener(two(), port), TlsDemand::Default).await;
    assert_eq!(
        result,
        Ok(("first.example.net".into(), Protection::Unverified))
    );
    let opener = opener_with(two(), port, |config| {
        config.delivery.direct.tls = DirectTls::Disabled
    });
    let result = attempt(&opener, TlsDemand::Optional).await;
    assert_eq!(result, Ok(("first.example.net".into(), Protection::None)));
    let ehlo = "EHLO relay.example.com";
    let expected = [vec![ehlo, "STARTTLS", ehlo, "QUIT"], vec![ehlo, "QUIT"]];
    assert_eq!(first.dialogues(), expected);
}

#[tokio::test]
async fn tls_that_does_not_work_is_done_without_unless_it_is_demanded() {
    let (first, port) = Exchanger::start("127.0.0.2", 0, Manner::Broken).await;
    let result = attempt(&opener(two(), port), TlsDemand::Default).await;
    assert_eq!(result, Ok(("first.example.net".into(), Protection::None)));
    assert_eq!(first.dialogues().len(), 2);
    let opener = opener_with(two(), port, |config| {
        config.delivery.direct.tls = DirectTls::Required
    });
    let failed = held(attempt(&opener, TlsDemand::Default).await);
    assert_eq!(failed.reason, FailureReason::TlsFailed);
    assert_eq!(first.dialogues().len(), 3);
}

#[tokio::test]
async fn requiretls_needs_a_host_that_has_proved_its_name_and_offers_it() {
    let zone = || Zone::default().address("example.org", "127.0.0.2");
    let pki = Arc::new(Pki::new());
    // The certificate is for another name than example.org.
    let stranger = Manner::Secure(Arc::clone(&pki), "250-mx\r\n250 REQUIRETLS");
    for (manner, part) in [
        (Manner::Greets("220 mx"), "does not offer STARTTLS"),
        (stranger, "TLS with example.org"),
    ] {
        let (first, port) = Exchanger::start("127.0.0.2", 0, manner).await;
        let result = attempt(&opener(zone(), port), TlsDemand::Required).await;
        let Err(DirectFailure::Final(reply)) = &result else {
            panic!("{result:?}")
        };
        assert!(reply.lines()[0].contains(part), "{reply}");
        assert_eq!(status(result), "550 5.7.30");
        assert_eq!(first.dialogues().len(), 1, "never without TLS");
    }
    for (offer, expected) in [
        ("250-mx\r\n250 REQUIRETLS", None),
        ("250 mx", Some("550 5.7.30")),
    ] {
        let manner = Manner::Secure(Arc::clone(&pki), offer);
        let (_, port) = Exchanger::start("127.0.0.2", 0, manner).await;
        let zone = Zone::default().address(NAME, "127.0.0.2");
        let mut opener = opener(zone, port);
        opener.means.as_mut().unwrap().proven = pki.verifying();
        let opened = opener.open(NAME, &None, TlsDemand::Required).await;
        match (opened, expected) {
            (Ok(connection), None) => {
                assert_eq!(connection.protection(), Protection::Verified);
                assert!(connection.satisfies(TlsDemand::Required));
            }
            (Err(DirectFailure::Final(reply)), Some(expected)) => {
                assert_eq!(
                    format!("{} {}", reply.code(), reply.status().unwrap()),
                    expected
                );
            }
            (Err(failed), _) => panic!("{failed:?}"),
            (Ok(_), _) => panic!("let in"),
        }
    }
}

#[tokio::test]
async fn requiretls_is_held_while_a_host_closes_in_the_middle_of_the_handshake() {
    let zone = Zone::default().address("example.org", "127.0.0.2");
    let (first, port) = Exchanger::start("127.0.0.2", 0, Manner::Broken).await;
    let failed = held(attempt(&opener(zone, port), TlsDemand::Required).await);
    assert_eq!(failed.reason, FailureReason::TlsFailed);
    assert_eq!(first.dialogues().len(), 1, "never without TLS");
}

#[tokio::test]
async fn requiretls_does_not_trust_mx_records_that_nobody_vouches_for() {
    let manner = Manner::Secure(Arc::new(Pki::new()), "250-mx\r\n250 REQUIRETLS");
    let (first, port) = Exchanger::start("127.0.0.2", 0, manner).await;
    let result = attempt(&opener(two(), port), TlsDemand::Required).await;
    assert_eq!(status(result), "550 5.7.30");
    assert!(first.dialogues().is_empty());
}

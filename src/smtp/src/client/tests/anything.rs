//! Servers that say whatever comes to them.

use proptest::prelude::*;

use super::*;

fn replies() -> impl Strategy<Value = Vec<u8>> {
    let known = proptest::sample::select(vec![
        "220 x\r\n",
        "250 x\r\n",
        "250-x\r\n",
        "250 PIPELINING\r\n",
        "354 x\r\n",
        "421 x\r\n",
        "550 x\r\n",
        "450 x\r\n",
        "\r\n",
        "\n",
        "334 \r\n",
        "530 x\r\n",
        "552 x\r\n",
        "2",
        "503 x\r\n",
    ]);
    let part = prop_oneof![
        12 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..10),
    ];
    proptest::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_a_server_says_every_recipient_gets_one_outcome(
        said in replies(),
        read in 1usize..40,
        count in 1usize..5,
        chunking in any::<bool>(),
    ) {
        let mut client = match chunking {
            true => ready_for("250-PIPELINING\r\n250-CHUNKING\r\n"),
            false => ready(),
        };
        let mut input = BytesMut::new();
        client.send(transaction(count, b"x\r\n"));
        let mut outcomes = Vec::new();
        for piece in said.chunks(read) {
            input.extend_from_slice(piece);
            loop {
                match client.step(&mut input) {
                    ClientStep::Finished(outcome) => outcomes.push(outcome),
                    ClientStep::Flush => {}
                    ClientStep::NeedInput | ClientStep::Ready | ClientStep::Closed => break,
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
        if outcomes.is_empty() {
            outcomes.push(finished(client.closed()));
        }
        prop_assert_eq!(outcomes.len(), 1);
        prop_assert_eq!(outcomes[0].recipients.len(), count);
        // Nobody counts as delivered unless the content was sent.
        let end: &[u8] = if chunking { b" LAST\r\nx\r\n" } else { b"\r\nx\r\n.\r\n" };
        let sent = client.output().ends_with(end);
        let delivered = outcomes[0].recipients.iter().any(|r| matches!(r, RecipientOutcome::Delivered(_)));
        prop_assert!(sent || !delivered);
    }

    #[test]
    fn whatever_a_server_says_before_ready_is_survived(said in replies(), read in 1usize..40) {
        for tls in [ClientTls::None, ClientTls::Opportunistic, ClientTls::Required, ClientTls::Active] {
            let mut client = client(tls);
            let mut input = BytesMut::new();
            for piece in said.chunks(read) {
                input.extend_from_slice(piece);
                if let ClientStep::StartTls = client.step(&mut input) {
                    client.tls_established(Certificate::Verified);
                }
            }
            client.closed();
            prop_assert!(matches!(client.closed(), ClientStep::Closed));
        }
    }
}

//! What senders are told: the real relay, and a next hop that does as it is told.

use harness::client::Client;
use harness::eventually;
use harness::hop::{Act, Hop};
use harness::relay::Relay;
use postroad_config::ListenerName;

const SENDER: &str = "a@example.com";
const CONTENT: &str = "Subject: hello\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Transfer-Encoding: 8bit\r\n\r\ngr\u{fc}n, the colour of the meadows\r\n";

/// A relay that tries again at once.
async fn relay(hop: &Hop) -> Relay {
    let mut relay = Relay::for_port(hop.port);
    relay.config.delivery.retry.initial_seconds = 1;
    relay.config.delivery.retry.maximum_seconds = 1;
    relay.start().await;
    relay
}

/// Sends [`CONTENT`] with these parameters.
async fn send(relay: &Relay, mail: &str, recipients: &[&str]) {
    let mut client: Client = relay.login(ListenerName::Submission).await.unwrap();
    let mut say = async |line: &str, code: u16| {
        let reply = client.command(line).await.unwrap();
        assert_eq!(reply.code, code, "{line}: {reply:?}");
    };
    say(&format!("MAIL FROM:<{SENDER}> BODY=8BITMIME {mail}"), 250).await;
    for recipient in recipients {
        say(&format!("RCPT TO:{recipient}"), 250).await;
    }
    say("DATA", 354).await;
    say(&format!("{CONTENT}."), 250).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notify_ret_envid_and_orcpt_make_the_report() {
    let refuse = |command: &str, _| {
        let refused = command.starts_with("RCPT TO:<r");
        refused.then_some(Act::Say("550 5.1.1 no such user"))
    };
    let hop = Hop::start(&["8BITMIME"], refuse).await;
    let relay = relay(&hop).await;
    let recipients = [
        "<r1@example.org> NOTIFY=FAILURE,DELAY ORCPT=rfc822;alias+2B1@example.net",
        "<r2@example.org> NOTIFY=NEVER",
        "<r3@example.org> NOTIFY=SUCCESS",
        "<r4@example.org>",
        "<good@example.org>",
    ];
    send(&relay, "RET=FULL ENVID=QQ+2B314159", &recipients).await;
    let report = hop.report().await;
    assert_eq!(report.recipients, ["RCPT TO:<a@example.com>"]);
    assert!(report.mail.contains(" BODY=8BITMIME"), "{}", report.mail);
    for text in [
        "\r\nOriginal-Envelope-Id: QQ+314159\r\n",
        "\r\nOriginal-Recipient: rfc822;alias+1@example.net\r\nFinal-Recipient: rfc822; r1@example.org\r\nAction: failed\r\n",
        "\r\nFinal-Recipient: rfc822; r4@example.org\r\nAction: failed\r\n",
        "\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
        "\r\nContent-Type: message/rfc822\r\n",
        "\r\n\r\ngr\u{fc}n, the colour of the meadows\r\n",
    ] {
        assert!(report.text().contains(text), "{text}: {}", report.text());
    }
    assert_eq!(report.text().matches("\r\nFinal-Recipient: ").count(), 2);
    relay.drained().await;
    assert_eq!(hop.reports().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn success_is_reported_here_only_if_the_next_hop_does_not_report_it() {
    let to = ["<r@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;alias@example.net"];
    let without = Hop::start(&["8BITMIME"], |_, _| None).await;
    let first = relay(&without).await;
    send(&first, "RET=HDRS ENVID=x", &to).await;
    let report = without.report().await;
    for text in [
        "\r\nSubject: Your message was passed on\r\n",
        "\r\nAction: relayed\r\nStatus: 2.0.0\r\n",
    ] {
        assert!(report.text().contains(text), "{text}: {}", report.text());
    }

    let with = Hop::start(&["8BITMIME", "DSN"], |_, _| None).await;
    let second = relay(&with).await;
    send(&second, "RET=HDRS ENVID=x", &to).await;
    let taken = eventually("the message", async || with.taken().pop()).await;
    assert!(
        taken.mail.contains(" RET=HDRS") && taken.mail.contains(" ENVID=x"),
        "{taken:?}"
    );
    let expected = format!("RCPT TO:{}", to[0]);
    assert_eq!(taken.recipients, [expected]);
    second.drained().await;
    assert_eq!(with.taken().len(), 1, "no report");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_recipients_have_each_their_outcome_and_one_report() {
    // Of three, one is refused, one is put off at first, and one is taken.
    let answer = |command: &str, before| {
        let number = command.strip_prefix("RCPT TO:<r")?.split('@').next()?;
        match (number.parse::<u32>().ok()? % 3, before) {
            (0, _) => Some(Act::Say("550 5.1.1 no such user")),
            (1, 0) => Some(Act::Say("450 4.2.1 not now")),
            _ => None,
        }
    };
    let hop = Hop::start(&["8BITMIME"], answer).await;
    let relay = relay(&hop).await;
    let recipients: Vec<String> = (0..100).map(|n| format!("<r{n}@example.org>")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    send(&relay, "", &recipients).await;
    relay.drained().await;
    let reports = hop.reports();
    assert_eq!(reports.len(), 1);
    let content = reports[0].text();
    assert_eq!(content.matches("\r\nAction: failed\r\n").count(), 34);
    assert_eq!(content.matches("\r\nFinal-Recipient: ").count(), 34);
    let third = |rest: usize| -> Vec<String> {
        let numbers = (0..100).filter(|number| number % 3 == rest);
        numbers
            .map(|n| format!("RCPT TO:<r{n}@example.org>"))
            .collect()
    };
    let messages = hop.taken().into_iter().filter(|taken| !taken.is_report());
    let taken: Vec<Vec<String>> = messages.map(|taken| taken.recipients).collect();
    assert_eq!(taken, [third(2), third(1)], "at once, and when tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_is_reported_once_and_then_the_mail_arrives() {
    let answer = |command: &str, before| {
        let put_off = command.starts_with("RCPT TO:<r") && before < 4;
        put_off.then_some(Act::Say("450 4.2.1 not now"))
    };
    let hop = Hop::start(&["8BITMIME"], answer).await;
    let mut relay = Relay::for_port(hop.port);
    relay.config.delivery.retry.initial_seconds = 1;
    relay.config.delivery.retry.maximum_seconds = 1;
    relay.config.delivery.retry.delay_warning_seconds = Some(1);
    relay.start().await;
    send(&relay, "", &["<r1@example.org>"]).await;
    relay.drained().await;
    let reports = hop.reports();
    assert_eq!(reports.len(), 1, "{reports:?}");
    for text in [
        "\r\nSubject: Your message is delayed\r\n",
        "\r\nAction: delayed\r\nStatus: 4.2.1\r\n",
        "\r\nWill-Retry-Until: ",
    ] {
        assert!(reports[0].text().contains(text), "{}", reports[0].text());
    }
    assert_eq!(hop.taken().len(), 2, "the report and the message");
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_bit_content_is_converted_for_a_next_hop_that_does_not_take_it() {
    let hop = Hop::start(&[], |_, _| None).await;
    let relay = relay(&hop).await;
    send(&relay, "", &["<r1@example.org>"]).await;
    let taken = eventually("the message", async || hop.taken().pop()).await;
    assert!(!taken.mail.contains("BODY="), "{}", taken.mail);
    let content = taken.text();
    assert!(content.is_ascii(), "{content}");
    let text = "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BCn, the colour of the meadows\r\n";
    assert!(content.contains(text), "{content}");
}

use std::time::Duration;

use super::*;
use crate::backoff::Backoff;
use crate::notify::DelayNotices;
use crate::rig::Rig;

/// When the message arrived, in milliseconds since the epoch.
const ARRIVAL_MS: u64 = 1_000_000;

fn rules() -> Rules {
    Rules {
        backoff: Backoff {
            initial: Duration::from_secs(60),
            maximum: Duration::from_secs(60),
        },
        lifetime: Duration::from_secs(1_000),
        delay_notices: DelayNotices::After(Duration::from_secs(100)),
    }
}

/// What there is to do about a message of this sender, whose only recipient has this NOTIFY, after so many seconds.
fn need_of(rig: &Rig, sender: &str, notify: Option<&str>, told: bool, seconds: u64) -> Need {
    let mut message = rig.message(1, 0);
    message.arrival_ms = ARRIVAL_MS;
    message.envelope.sender = sender.into();
    message.envelope.recipients[0].notify = notify.map(str::to_owned);
    let entry = Entry {
        open: [0].into(),
        recipients: 1,
        delay_notified: told,
        ..Entry::default()
    };
    let cause = Reply::new(451, None, "x");
    need(
        &message,
        &entry,
        &cause,
        rules(),
        ARRIVAL_MS + seconds * 1000,
    )
}

#[tokio::test]
async fn what_is_needed_follows_from_age_sender_and_what_it_wants_to_hear() {
    let rig = Rig::new(1 << 20);
    let (somebody, nobody) = ("s@example.com", "");
    for (sender, notify, told, seconds, expected) in [
        (somebody, None, false, 99, Need::Nothing),
        (somebody, None, false, 100, Need::TellOfDelay),
        (somebody, None, true, 100, Need::Nothing),
        (somebody, Some("FAILURE"), false, 100, Need::Nothing),
        (somebody, Some("NEVER"), false, 100, Need::Nothing),
        (nobody, None, false, 100, Need::Nothing),
        (somebody, None, true, 1_000, Need::GiveUp(Telling::Sender)),
        (
            somebody,
            Some("NEVER"),
            false,
            1_000,
            Need::GiveUp(Telling::Nobody),
        ),
        (nobody, None, false, 1_000, Need::GiveUp(Telling::Nobody)),
    ] {
        let found = need_of(&rig, sender, notify, told, seconds);
        assert_eq!(found, expected, "{sender:?} {notify:?} {told} {seconds}");
    }
}

#[tokio::test]
async fn who_is_told_follows_from_the_recipients_that_fail() {
    let rig = Rig::new(1 << 20);
    let mut message = rig.message(2, 0);
    message.envelope.recipients[0].notify = Some("NEVER".into());
    for (open, expected) in [
        (&[0][..], Telling::Nobody),
        (&[1], Telling::Sender),
        (&[0, 1], Telling::Sender),
        (&[2], Telling::Nobody),
    ] {
        assert_eq!(telling(&message, open), expected, "{open:?}");
    }
}

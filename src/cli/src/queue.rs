//! `kubectl postroad queue`: where mail waits, why, and what is done about it.

use std::fmt::Write as _;

use anyhow::Context as _;
use jiff::Timestamp;
use kube::Client;
use kube::api::Api;
use postroad_api::{Delivery, Override, QueueSummary, SmtpRelay};

use crate::cluster::explain;
use crate::figures::{age, waiting};
use crate::rates;
use crate::selection::Selection;

/// Prints the queue of one relay.
///
/// # Errors
/// What the API server says.
#[expect(clippy::print_stdout, reason = "a person asked for it")]
pub(crate) async fn run(client: Client, namespace: &str, name: &str) -> anyhow::Result<()> {
    let api: Api<SmtpRelay> = Api::namespaced(client, namespace);
    let relay = api
        .get(name)
        .await
        .map_err(explain)
        .with_context(|| format!("cannot show {namespace}/{name}"))?;
    let queue = relay
        .status
        .as_ref()
        .and_then(|status| status.queue.as_ref());
    let delivery = &relay.spec.delivery;
    print!("{}", describe(name, queue, delivery, Timestamp::now()));
    Ok(())
}

fn describe(
    name: &str,
    queue: Option<&QueueSummary>,
    delivery: &Delivery,
    now: Timestamp,
) -> String {
    let mut text = match queue {
        None => format!("{name}: no replica has said yet what waits\n"),
        Some(queue) => format!(
            "{name}: {}\n{}",
            waiting(queue, now),
            destinations(queue, now)
        ),
    };
    text.push_str(&rates::describe(delivery));
    // Writing to a String cannot fail.
    for found in &delivery.overrides {
        let Override {
            name,
            action,
            matches,
            arrived_before,
            reason,
        } = found;
        let _ = write!(
            text,
            "  {action:?} {name}: {}",
            Selection::of(matches.as_ref())
        );
        if let Some(time) = arrived_before {
            let _ = write!(text, " that arrived before {time}");
        }
        if let Some(reason) = reason {
            let _ = write!(text, " ({reason})");
        }
        text.push('\n');
    }
    text
}

fn destinations(queue: &QueueSummary, now: Timestamp) -> String {
    let destinations = &queue.destinations;
    let mut text = String::new();
    if destinations.is_empty() {
        return text;
    }
    let width = destinations
        .iter()
        .map(|found| found.destination.len())
        .max()
        .unwrap_or(0)
        .max("DESTINATION".len());
    let _ = writeln!(text, "  {:width$}  MESSAGES  OLDEST  WHY", "DESTINATION");
    for found in destinations {
        let oldest = found.oldest.as_deref();
        let oldest = oldest.map_or_else(|| "-".to_owned(), |since| age(since, now));
        let why = match (&found.reason, &found.message) {
            (Some(reason), Some(message)) => format!("{reason}: {message}"),
            (Some(why), None) | (None, Some(why)) => why.clone(),
            (None, None) => "put off by the server there".to_owned(),
        };
        let _ = writeln!(
            text,
            "  {:width$}  {:>8}  {oldest:<6}  {why}",
            found.destination, found.messages
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn delivery(overrides: &serde_json::Value) -> Delivery {
        let provider = json!({
            "name": "provider", "host": "smtp.example.com", "port": 587,
            "limits": {"rate": {"messages": 60, "per": "Minute"}},
        });
        serde_json::from_value(json!({"upstreams": [provider], "overrides": overrides})).unwrap()
    }

    #[test]
    fn says_where_mail_waits_and_what_is_done_about_it() {
        let queue: QueueSummary = serde_json::from_value(json!({
            "messages": 1200, "bytes": 5_600_000, "deferred": 800, "held": 3, "oldest": "2027-01-15T08:00:00Z",
            "destinations": [
                {"destination": "example.com", "messages": 900, "oldest": "2027-01-15T08:00:00Z",
                 "reason": "ConnectionTimedOut", "message": "mx.example.com:25 does not answer"},
                {"destination": "slow.example", "messages": 20, "reason": "Deferred", "message": "450 4.2.0 <...> Mailbox busy"},
                {"destination": "default", "messages": 10, "reason": "RateLimited", "message": "waits for the rate of upstream provider: 60 per minute"},
            ],
        }))
        .unwrap();
        let delivery = delivery(&json!([
            {"name": "hold-b", "action": "Hold", "match": {"recipients": ["b.example"], "credentials": ["shop.mail"]}},
            {"name": "flush", "action": "Flush", "arrivedBefore": "2027-01-15T09:00:00Z"},
            {"name": "gone", "action": "Bounce", "match": {"senders": ["<>"]}, "reason": "moved"},
        ]));
        let now = "2027-01-15T08:12:00Z".parse().unwrap();
        assert_eq!(
            describe("mail", Some(&queue), &delivery, now),
            "mail: 1200 messages (5.6 MB), 800 deferred, 3 held, oldest 12m\n\
             \x20 DESTINATION   MESSAGES  OLDEST  WHY\n\
             \x20 example.com        900  12m     ConnectionTimedOut: mx.example.com:25 does not answer\n\
             \x20 slow.example        20  -       Deferred: 450 4.2.0 <...> Mailbox busy\n\
             \x20 default             10  -       RateLimited: waits for the rate of upstream provider: 60 per minute\n\
             \x20 Rate provider: 60 per minute\n\
             \x20 Hold hold-b: mail for b.example of the login shop.mail\n\
             \x20 Flush flush: all mail that arrived before 2027-01-15T09:00:00Z\n\
             \x20 Bounce gone: mail from <> (moved)\n"
        );
    }

    #[test]
    fn says_when_nobody_knows() {
        assert_eq!(
            describe("mail", None, &delivery(&json!([])), Timestamp::UNIX_EPOCH),
            "mail: no replica has said yet what waits\n  Rate provider: 60 per minute\n"
        );
    }
}

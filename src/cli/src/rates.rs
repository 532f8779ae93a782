//! The rates of a relay, which keep mail waiting that nobody has put off.

use std::fmt::Write as _;

use postroad_api::{Delivery, Rate, Upstream};

/// A line for each rate.
pub(crate) fn describe(delivery: &Delivery) -> String {
    let mut text = String::new();
    for upstream in &delivery.upstreams {
        if let Some(rate) = of(upstream) {
            push(&mut text, &upstream.name, rate);
        }
    }
    if let Some(rate) = of_domains(delivery) {
        push(&mut text, "of each domain", rate);
    }
    text
}

fn push(text: &mut String, whose: &str, rate: Rate) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  Rate {whose}: {rate}");
}

fn of(upstream: &Upstream) -> Option<Rate> {
    upstream.limits.as_ref()?.rate
}

fn of_domains(delivery: &Delivery) -> Option<Rate> {
    delivery.direct.as_ref()?.limits.as_ref()?.rate
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_rate_has_a_line() {
        let delivery: Delivery = serde_json::from_value(json!({
            "upstreams": [
                {"name": "slow", "host": "slow.example", "port": 587, "limits": {"rate": {"messages": 60, "per": "Minute"}}},
                {"name": "free", "host": "free.example", "port": 587},
            ],
            "direct": {"limits": {"rate": {"messages": 1, "per": "Second"}}},
        }))
        .unwrap();
        assert_eq!(
            describe(&delivery),
            "  Rate slow: 60 per minute\n  Rate of each domain: 1 per second\n"
        );
        let free = Delivery {
            upstreams: delivery.upstreams[1..].to_vec(),
            direct: None,
            ..delivery
        };
        assert_eq!(describe(&free), "");
    }
}

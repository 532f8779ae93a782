//! The rates of a relay, which keep mail waiting that nobody has put off.
//!
//! A status does not say which mail waits for a rate; the specification says where there is one.

use std::fmt::Write as _;

use postroad_api::{Delivery, Rate, RateUnit, Upstream};

/// The destination of what no route fits.
const DEFAULT: &str = "default";

/// Whether a rate may be why mail waits for a destination of the status.
pub(crate) fn hold(delivery: &Delivery, destination: &str) -> bool {
    let route = delivery.routes.iter().find(|one| one.name == destination);
    let named = route.and_then(|route| route.to.upstreams.as_ref());
    match (route, named) {
        (None, _) if destination == DEFAULT => delivery.upstreams.iter().any(is_rated),
        (Some(_), Some(named)) => {
            let mut way = delivery.upstreams.iter();
            way.any(|upstream| named.contains(&upstream.name) && is_rated(upstream))
        }
        _ => of_domains(delivery).is_some(),
    }
}

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
    let Rate { messages, per } = rate;
    let per = match per {
        RateUnit::Second => "second",
        RateUnit::Minute => "minute",
        RateUnit::Hour => "hour",
        RateUnit::Day => "day",
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  Rate {whose}: {messages} per {per}");
}

fn is_rated(upstream: &Upstream) -> bool {
    of(upstream).is_some()
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
    fn a_rate_holds_what_goes_its_way() {
        let delivery: Delivery = serde_json::from_value(json!({
            "upstreams": [
                {"name": "slow", "host": "slow.example", "port": 587, "limits": {"rate": {"messages": 60, "per": "Minute"}}},
                {"name": "free", "host": "free.example", "port": 587},
            ],
            "routes": [
                {"name": "bulk", "to": {"upstreams": ["slow"]}},
                {"name": "letters", "to": {"upstreams": ["free"]}},
                {"name": "straight", "to": {"direct": true}},
            ],
            "direct": {"limits": {"rate": {"messages": 1, "per": "Second"}}},
        }))
        .unwrap();
        for (destination, expected) in [
            ("default", true),
            ("bulk", true),
            ("letters", false),
            ("example.com", true),
        ] {
            assert_eq!(hold(&delivery, destination), expected, "{destination}");
        }
        assert_eq!(
            describe(&delivery),
            "  Rate slow: 60 per minute\n  Rate of each domain: 1 per second\n"
        );
        let free = Delivery {
            upstreams: delivery.upstreams[1..].to_vec(),
            direct: None,
            ..delivery
        };
        assert!(!hold(&free, "default") && !hold(&free, "example.com"));
        assert_eq!(describe(&free), "");
    }
}

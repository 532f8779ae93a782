//! Metrics that are registered as they are made, so that none can be forgotten.

use prometheus_client::registry::{Metric, Registry, Unit};

/// A metric at its beginning. What counts and what is shown are the same: clones share their value.
pub fn register<M: Clone + Default + Metric>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// The same for one with a unit, which becomes part of its name.
pub fn register_with_unit<M: Clone + Default + Metric>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Unit,
) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, unit, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let mut registry = Registry::default();
        let mail: Counter = register(&mut registry, "mail", "Letters");
        let room: Gauge = register_with_unit(&mut registry, "room", "Left", Unit::Bytes);
        mail.inc();
        room.set(7);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("\nmail_total 1\n"), "{text}");
        assert!(text.contains("\nroom_bytes 7\n"), "{text}");
    }
}

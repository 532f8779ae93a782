use super::*;

use Standing::{Known, Stranger};

fn limits(connections: u32, connections_per_source: u32) -> Limits {
    Limits {
        connections,
        connections_per_source,
        ..Limits::default()
    }
}

fn sources() -> [IpAddr; 3] {
    ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|address| address.parse().unwrap())
}

#[test]
fn turns_away_what_is_over_either_limit_until_room_is_given_back() {
    let connections = Arc::new(Connections::default());
    let limits = limits(3, 2);
    let [a, b, _] = sources();
    let admit = |source| connections.admit(source, Known, &limits);
    let first = admit(a).unwrap();
    let _second = admit(a).unwrap();
    assert_eq!(admit(a).unwrap_err(), Refusal::SourceConnectionsFull);
    let _other = admit(b).unwrap();
    assert_eq!(admit(b).unwrap_err(), Refusal::ConnectionsFull);
    drop(first);
    let _again = admit(a).unwrap();
    assert_eq!(connections.lock().total, 3);
}

#[test]
fn strangers_cannot_keep_a_new_client_out() {
    let connections = Arc::new(Connections::default());
    let limits = limits(4, 4);
    let [a, b, c] = sources();
    let admit = |source| connections.admit(source, Stranger, &limits).unwrap();
    let other = admit(b);
    let crowd = [admit(a), admit(a), admit(a)];
    let new = admit(c);
    // Not the oldest of all, but the oldest of where the most come from.
    assert_eq!(
        crowd.each_ref().map(Admitted::is_displaced),
        [true, false, false]
    );
    assert!(!other.is_displaced() && !new.is_displaced());
    assert_eq!(connections.lock().total, 4);
    drop(crowd);
    assert_eq!(connections.lock().total, 2);
    drop((other, new));
    assert!(connections.lock().by_source.is_empty());
}

#[test]
fn a_full_source_displaces_its_own_stranger() {
    let connections = Arc::new(Connections::default());
    let limits = limits(10, 2);
    let [a, b, _] = sources();
    let admit = |source| connections.admit(source, Stranger, &limits).unwrap();
    let (other, first, second) = (admit(b), admit(a), admit(a));
    let third = admit(a);
    let lost = [&other, &first, &second, &third].map(Admitted::is_displaced);
    assert_eq!(lost, [false, true, false, false]);
}

#[test]
fn the_known_keep_their_connections() {
    let connections = Arc::new(Connections::default());
    let limits = limits(2, 2);
    let [a, b, c] = sources();
    let known = connections.admit(a, Stranger, &limits).unwrap();
    known.vouch().unwrap();
    let stranger = connections.admit(b, Stranger, &limits).unwrap();
    let trusted = connections.admit(c, Known, &limits).unwrap();
    assert!(stranger.is_displaced() && !known.is_displaced());
    assert_eq!(stranger.vouch(), Err(Displaced));
    let refusal = connections.admit(b, Stranger, &limits).unwrap_err();
    assert_eq!(refusal, Refusal::ConnectionsFull);
    drop(trusted);
    assert!(connections.admit(b, Stranger, &limits).is_ok());
}

#[test]
fn a_v6_source_is_its_64_and_a_mapped_v4_is_its_address() {
    let same = |a: &str, b: &str| source_of(a.parse().unwrap()) == source_of(b.parse().unwrap());
    assert!(same("2001:db8::1", "2001:db8::ffff:1"));
    assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
    assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
    assert!(!same("::ffff:192.0.2.1", "192.0.2.2"));
}

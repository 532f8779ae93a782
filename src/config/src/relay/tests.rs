use std::time::Duration;

use super::*;

fn example() -> RelayConfig {
    RelayConfig {
        version: VERSION,
        hostname: "mail.example.com".into(),
        listeners: vec![
            Listener {
                name: ListenerName::Smtp,
                listen: "[::]:10025".parse().unwrap(),
                tls: ListenerTls::Opportunistic,
                auth: AuthMode::Optional,
            },
            Listener {
                name: ListenerName::Submissions,
                listen: "127.0.0.1:10465".parse().unwrap(),
                tls: ListenerTls::Implicit,
                auth: AuthMode::Required,
            },
        ],
        tls: ServerTls {
            certificate: "/tls/tls.crt".into(),
            key: "/tls/tls.key".into(),
        },
        access: Access {
            trusted_networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            credentials: "/credentials/credentials.yaml".into(),
        },
        limits: Limits::default(),
        delivery: Delivery {
            upstreams: vec![Upstream {
                name: "provider".into(),
                host: "smtp.example.com".into(),
                port: 587,
                tls: UpstreamTls::Required,
                ca: None,
                auth: Some(UpstreamAuth {
                    username: "/up/u".into(),
                    password: "/up/p".into(),
                }),
                limits: UpstreamLimits::default(),
            }],
            ..Delivery::default()
        },
        spool: Spool {
            directory: "/spool".into(),
            persistent: true,
            bytes_max: None,
            mode: SpoolMode::Durable,
        },
        admin: Admin {
            listen: "[::]:8443".parse().unwrap(),
            certificate: "/admin/tls.crt".into(),
            key: "/admin/tls.key".into(),
            client_ca: "/admin/ca.crt".into(),
        },
        health: Health {
            listen: "[::]:8080".parse().unwrap(),
        },
    }
}

#[test]
fn what_is_rendered_parses_back_equal() {
    let config = example();
    assert_eq!(
        RelayConfig::parse(&config.render().unwrap()).unwrap(),
        config
    );
}

/// [`example`] with everything that was added since the first version of the file.
fn everything() -> RelayConfig {
    let mut config = example();
    let rate = Some(Rate {
        messages: 14,
        per_seconds: 2,
    });
    config.limits.index_bytes = 1 << 30;
    config.limits.hold_seconds = Some(3600);
    config.delivery.upstreams[0].limits.rate = rate;
    config.delivery.upstreams[0].limits.message_bytes = Some(10 << 20);
    config.delivery.routes = vec![
        Route {
            name: "bulk".into(),
            matches: Match {
                senders: vec!["news.example.com".parse().unwrap()],
                recipients: vec!["*.example".parse().unwrap(), "example.org".parse().unwrap()],
                credentials: vec!["shop.mail".into()],
            },
            to: Target::Upstreams(vec!["provider".into()]),
        },
        Route {
            name: "rest".into(),
            matches: Match::default(),
            to: Target::Direct,
        },
    ];
    config.delivery.default_route = Target::Direct;
    config.delivery.direct = Direct {
        tls: DirectTls::Required,
        families: vec![IpFamily::Ipv6],
        port: 2525,
        nameservers: vec!["127.0.0.1:53".parse().unwrap()],
        allowed_networks: vec!["10.0.0.0/8".parse().unwrap()],
        limits: DirectLimits {
            rate,
            ..DirectLimits::default()
        },
    };
    config.delivery.overrides = [
        Action::Hold,
        Action::Flush,
        Action::Bounce {
            reason: "closed for good".into(),
        },
    ]
    .into_iter()
    .enumerate()
    .map(|(index, action)| Override {
        name: format!("override-{index}"),
        matches: Match::default(),
        arrived_before: Some(1_800_000_000),
        action,
    })
    .collect();
    config.delivery.retry.delay_warning_seconds = None;
    config.delivery.retry.sender_hold_seconds = Some(0);
    config.spool.mode = SpoolMode::Relaxed { sync_ms: 100 };
    config
}

#[test]
fn what_was_added_parses_back_equal_too() {
    let mut config = everything();
    for mode in [config.spool.mode, SpoolMode::Passthrough] {
        config.spool.mode = mode;
        let text = config.render().unwrap();
        assert_eq!(RelayConfig::parse(&text).unwrap(), config, "{text}");
    }
}

/// A relay of an earlier release refuses what it does not know.
#[test]
fn a_field_that_was_added_is_not_written_where_nobody_asked_for_it() {
    let added = [
        "bytesMax:",
        "mode:",
        "indexBytes:",
        "routes:",
        "defaultRoute:",
        "direct:",
        "overrides:",
        "rate:",
        "messageBytes: 10485760",
        "delayWarningSeconds:",
        "senderHoldSeconds:",
    ];
    let usual = example().render().unwrap();
    let mut config = everything();
    config.spool.bytes_max = Some(1 << 30);
    let all = config.render().unwrap();
    for field in added.map(|field| format!("  {field}")) {
        assert!(!usual.contains(&field), "{field}: {usual}");
        assert!(all.contains(&field), "{field}: {all}");
    }
    assert_eq!(RelayConfig::parse(&all).unwrap(), config);
}

#[test]
fn a_target_without_names_is_all_upstreams_in_order() {
    let mut delivery = example().delivery;
    let backup = Upstream {
        name: "backup".into(),
        ..delivery.upstreams[0].clone()
    };
    delivery.upstreams.push(backup);
    for (names, expected) in [
        (&[][..], &["provider", "backup"][..]),
        (&["backup"], &["backup"]),
        (&["backup", "provider"], &["backup", "provider"]),
    ] {
        let target = Target::Upstreams(names.iter().map(|&name: &&str| name.to_owned()).collect());
        let found: Vec<_> = delivery
            .upstreams_of(&target)
            .iter()
            .map(|up| &up.name)
            .collect();
        assert_eq!(found, expected);
    }
    assert!(delivery.upstreams_of(&Target::Direct).is_empty());
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    let text = example().render().unwrap() + "surprise: 1\n";
    let error = RelayConfig::parse(&text).unwrap_err().to_string();
    assert!(error.contains("surprise"), "{error}");
}

type Change = fn(&mut RelayConfig);

/// Each change makes the field that it is listed with wrong.
fn refused(good: &RelayConfig, cases: &[(&str, Change)]) {
    for (expected, change) in cases {
        let mut config = good.clone();
        change(&mut config);
        let error = config.render().unwrap_err().to_string();
        assert!(
            error.starts_with(expected),
            "expected {expected:?}, got {error:?}"
        );
    }
}

#[test]
fn what_cannot_work_is_refused_with_the_field_and_the_way_out() {
    let cases: &[(&str, Change)] = &[
        ("version: is 2", |c| c.version = 2),
        ("hostname: ", |c| c.hostname = "no spaces allowed".into()),
        ("hostname: ", |c| c.hostname = String::new()),
        ("listeners: is empty", |c| c.listeners.clear()),
        ("listeners[1]: the same name", |c| {
            c.listeners[1].name = ListenerName::Smtp
        }),
        ("listeners[0]: AUTH needs TLS", |c| {
            c.listeners[0].tls = ListenerTls::Disabled
        }),
        ("limits.messageBytes: must be at least 1", |c| {
            c.limits.message_bytes = 0
        }),
        ("limits.messageBytes: must be at most", |c| {
            c.limits.message_bytes = 2 << 30
        }),
        ("limits.recipients: ", |c| c.limits.recipients = 0),
        ("limits.connections: ", |c| c.limits.connections = 0),
        ("limits.connectionsPerSource: ", |c| {
            c.limits.connections_per_source = 0
        }),
        ("limits.memoryBytes: ", |c| c.limits.memory_bytes = 1),
        ("spool.bytesMax: ", |c| c.spool.bytes_max = Some(64 << 20)),
        ("spool.bytesMax: ", |c| {
            c.limits.message_bytes = 1;
            c.spool.bytes_max = Some(31 << 20);
        }),
        ("limits.indexBytes: ", |c| c.limits.index_bytes = 0),
        ("spool.mode: ", |c| {
            c.spool.mode = SpoolMode::Relaxed { sync_ms: 0 }
        }),
        ("spool.mode: ", |c| {
            c.spool.mode = SpoolMode::Relaxed {
                sync_ms: SYNC_MS_MAX + 1,
            }
        }),
    ];
    refused(&example(), cases);
}

#[test]
fn an_upstream_that_cannot_work_is_refused() {
    let cases: &[(&str, Change)] = &[
        ("delivery.upstreams: is empty", |c| {
            c.delivery.upstreams.clear()
        }),
        ("delivery.upstreams: has 65 entries", |c| {
            let one = c.delivery.upstreams[0].clone();
            c.delivery.upstreams = vec![one; UPSTREAMS_MAX + 1];
        }),
        ("delivery.upstreams[0].limits.rate: ", |c| {
            c.delivery.upstreams[0].limits.rate = Some(Rate {
                messages: 0,
                per_seconds: 1,
            });
        }),
        ("delivery.upstreams[0].limits: ", |c| {
            c.delivery.upstreams[0].limits.message_bytes = Some(0);
        }),
        (
            "delivery.defaultRoute: there is no upstream \"other\"",
            |c| {
                c.delivery.default_route = Target::Upstreams(vec!["other".into()]);
            },
        ),
        ("delivery.retry.delayWarningSeconds: ", |c| {
            c.delivery.retry.delay_warning_seconds = Some(0);
        }),
        ("delivery.upstreams[1]: the same name", |c| {
            c.delivery.upstreams.push(c.delivery.upstreams[0].clone());
        }),
        ("delivery.upstreams[0].port: ", |c| {
            c.delivery.upstreams[0].port = 0
        }),
        ("delivery.upstreams[0].host: ", |c| {
            c.delivery.upstreams[0].host = "a_b".into()
        }),
        ("delivery.upstreams[0].tls: a login needs", |c| {
            c.delivery.upstreams[0].tls = UpstreamTls::Opportunistic;
        }),
        ("delivery.upstreams[0].limits: ", |c| {
            c.delivery.upstreams[0].limits.connections = 0;
        }),
        ("delivery.retry: ", |c| c.delivery.retry.maximum_seconds = 1),
        ("delivery.retry: ", |c| c.delivery.retry.initial_seconds = 0),
        ("delivery.retry.lifetimeSeconds: ", |c| {
            c.delivery.retry.lifetime_seconds = 0
        }),
    ];
    refused(&example(), cases);
}

#[test]
fn routes_overrides_and_direct_delivery_that_cannot_work_are_refused() {
    let cases: &[(&str, Change)] = &[
        ("delivery.routes[1]: the same name", |c| {
            c.delivery.routes[1].name = c.delivery.routes[0].name.clone();
        }),
        ("delivery.routes[0].to: there is no upstream", |c| {
            c.delivery.routes[0].to = Target::Upstreams(vec!["other".into()]);
        }),
        ("delivery.routes[0].match.recipients: has 65", |c| {
            c.delivery.routes[0].matches.recipients = vec![Pattern::Any; MATCHES_MAX + 1];
        }),
        ("delivery.routes: has 65", |c| {
            c.delivery.routes = vec![c.delivery.routes[1].clone(); ROUTES_MAX + 1];
        }),
        ("delivery.overrides[1]: the same name", |c| {
            c.delivery.overrides[1].name = c.delivery.overrides[0].name.clone();
        }),
        ("delivery.overrides: has 33", |c| {
            c.delivery.overrides = vec![c.delivery.overrides[0].clone(); OVERRIDES_MAX + 1];
        }),
        ("delivery.overrides[0].action.reason: ", |c| {
            c.delivery.overrides[0].action = Action::Bounce {
                reason: "two\r\nlines".into(),
            };
        }),
        ("delivery.overrides[0].action.reason: ", |c| {
            c.delivery.overrides[0].action = Action::Bounce {
                reason: String::new(),
            };
        }),
        ("delivery.direct.families: is empty", |c| {
            c.delivery.direct.families.clear()
        }),
        ("delivery.direct.families: the same family", |c| {
            c.delivery.direct.families = vec![IpFamily::Ipv4, IpFamily::Ipv4];
        }),
        ("delivery.direct.port: ", |c| c.delivery.direct.port = 0),
        ("delivery.direct.nameservers: ", |c| {
            let one = c.delivery.direct.nameservers[0];
            c.delivery.direct.nameservers = vec![one; NAMESERVERS_MAX + 1];
        }),
        ("delivery.direct.allowedNetworks: ", |c| {
            let one = c.delivery.direct.allowed_networks[0];
            c.delivery.direct.allowed_networks = vec![one; ALLOWED_NETWORKS_MAX + 1];
        }),
        ("delivery.direct.limits: ", |c| {
            c.delivery.direct.limits.connections = 0
        }),
        ("delivery.direct.limits.rate: ", |c| {
            c.delivery.direct.limits.rate = Some(Rate {
                messages: 1,
                per_seconds: RATE_SECONDS_MAX + 1,
            });
        }),
    ];
    refused(&everything(), cases);
}

#[test]
fn mail_is_held_for_as_long_as_it_lives_or_less() {
    for (hold_seconds, lifetime_seconds, expected) in [
        (None, 432_000, Some(432_000)),
        (None, u64::MAX, Some(u32::MAX)),
        (Some(0), 432_000, None),
        (Some(3600), 432_000, Some(3600)),
        (Some(3600), 60, Some(60)),
    ] {
        let mut config = example();
        config.limits.hold_seconds = hold_seconds;
        config.delivery.retry.lifetime_seconds = lifetime_seconds;
        assert_eq!(config.hold_seconds(), expected);
    }
}

#[test]
fn mail_of_a_rejected_sender_waits_for_a_day_or_as_said_and_never_longer_than_it_lives() {
    for (hold, lifetime, expected) in [
        (None, 432_000, 86_400),
        (None, 3600, 3600),
        (Some(0), 432_000, 0),
        (Some(7200), 432_000, 7200),
        (Some(432_000), 432_000, 432_000),
        (Some(432_001), 432_000, 432_000),
    ] {
        let retry = Retry {
            sender_hold_seconds: hold,
            lifetime_seconds: lifetime,
            ..Retry::default()
        };
        assert_eq!(retry.sender_hold(), Duration::from_secs(expected));
    }
}

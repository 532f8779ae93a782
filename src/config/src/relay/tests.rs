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
            retry: Retry::default(),
        },
        spool: Spool {
            directory: "/spool".into(),
            persistent: true,
            bytes_max: None,
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

#[test]
fn a_field_that_was_added_is_not_written_where_nobody_asked_for_it() {
    let mut config = example();
    assert!(!config.render().unwrap().contains("bytesMax"));
    config.spool.bytes_max = Some(1 << 30);
    let text = config.render().unwrap();
    assert_eq!(RelayConfig::parse(&text).unwrap(), config);
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    let text = example().render().unwrap() + "surprise: 1\n";
    let error = RelayConfig::parse(&text).unwrap_err().to_string();
    assert!(error.contains("surprise"), "{error}");
}

#[test]
fn what_cannot_work_is_refused_with_the_field_and_the_way_out() {
    type Change = fn(&mut RelayConfig);
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
        ("delivery.upstreams: is empty", |c| {
            c.delivery.upstreams.clear()
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
    for (expected, change) in cases {
        let mut config = example();
        change(&mut config);
        let error = config.render().unwrap_err().to_string();
        assert!(
            error.starts_with(expected),
            "expected {expected:?}, got {error:?}"
        );
    }
}

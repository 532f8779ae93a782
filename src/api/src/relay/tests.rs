use super::*;

fn parse(yaml: &str) -> SmtpRelaySpec {
    serde_saphyr::from_str(yaml).unwrap()
}

const MINIMAL: &str =
    "delivery: {upstreams: [{name: provider, host: smtp.example.com, port: 587}]}";

#[test]
fn the_smallest_spec_gets_every_default() {
    let spec = parse(MINIMAL);
    assert_eq!(spec.replicas, 2);
    assert_eq!(spec.listeners, Listeners::default());
    assert_eq!(spec.storage, Storage::default());
    assert_eq!(spec.limits, Limits::default());
    assert_eq!(spec.delivery.retry, Retry::default());
    assert_eq!(spec.service.kind, ServiceType::ClusterIP);
}

#[test]
fn a_listener_that_is_half_written_keeps_the_defaults_of_its_kind() {
    let spec = parse(&format!(
        "{MINIMAL}\nlisteners: {{submission: {{tls: Required}}, alternate: {{enabled: false}}}}"
    ));
    assert_eq!(
        spec.listeners.submission,
        Listener {
            enabled: true,
            port: 587,
            tls: ListenerTls::Required,
            auth: AuthMode::Required,
        }
    );
    assert_eq!(
        spec.listeners.alternate,
        Listener {
            enabled: false,
            ..Listeners::default().alternate
        }
    );
    assert_eq!(spec.listeners.smtp, Listeners::default().smtp);
}

#[test]
fn the_schema_has_the_defaults_that_parsing_fills_in() {
    let crd = serde_json::to_value(&crate::crds()[0]).unwrap();
    let listeners = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        ["properties"]["listeners"];
    let default = serde_json::to_value(Listeners::default()).unwrap();
    assert_eq!(listeners["default"], default);
    for (name, listener) in default.as_object().unwrap() {
        for (field, value) in listener.as_object().unwrap() {
            let schema = &listeners["properties"][name]["properties"][field];
            assert_eq!(&schema["default"], value, "{name}.{field}");
        }
    }
}

#[test]
fn port_465_means_implicit_tls_unless_said_otherwise() {
    for (upstream, mode) in [
        ("{name: a, host: h, port: 465}", UpstreamTlsMode::Implicit),
        ("{name: a, host: h, port: 587}", UpstreamTlsMode::Required),
        (
            "{name: a, host: h, port: 465, tls: {mode: Required}}",
            UpstreamTlsMode::Required,
        ),
        (
            "{name: a, host: h, port: 25, tls: {}}",
            UpstreamTlsMode::Required,
        ),
    ] {
        let upstream: Upstream = serde_saphyr::from_str(upstream).unwrap();
        assert_eq!(upstream.tls_mode(), mode, "{upstream:?}");
    }
}

/// The files in `testdata` are applied to a real API server by the cluster tests; here only what needs none.
fn files(folder: &str) -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.display().to_string(),
                std::fs::read_to_string(path).unwrap(),
            )
        })
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn what_the_api_server_accepts_can_be_read() {
    for (name, text) in files("accept") {
        let read = if text.contains("kind: SmtpRelay") {
            serde_saphyr::from_str::<SmtpRelay>(&text).map(drop)
        } else {
            serde_saphyr::from_str::<crate::SmtpCredential>(&text).map(drop)
        };
        assert!(read.is_ok(), "{name}: {read:?}");
    }
}

#[test]
fn every_refused_sample_says_what_to_expect() {
    for (name, text) in files("reject").into_iter().chain(files("update")) {
        let first = text.lines().next().unwrap_or_default();
        let expected = first.strip_prefix("# expect: ").unwrap_or_default();
        assert!(!expected.trim().is_empty(), "{name}");
    }
}

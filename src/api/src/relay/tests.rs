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

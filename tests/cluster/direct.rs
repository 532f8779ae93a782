//! Mail that goes straight to the mail exchangers of its recipients, found in the DNS of the cluster.

use harness::exchanger::{Exchanger, Manner, Taken};
use harness::{eventually, provider};

use crate::world::{Binding, RELAY, World};

/// The port of mail exchangers: only one test can have it.
const PORT: u16 = 25;

/// A domain below the other one that DNS does not know.
const NOBODY: &str = "nobody@nowhere";

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_to_the_mail_exchanger_of_its_domain_and_so_does_its_bounce() {
    let world = World::create("direct", 1).await;
    let binding = world.binding().await;
    let network = format!("{}/32", provider::address());
    let direct = format!("{{direct: {{ipFamilies: [IPv4], allowedNetworks: ['{network}']}}}}");
    world.delivering(1, &direct).await;
    // The Secrets of the upstream are no longer mounted: the pod is replaced.
    world.shows("Progressing", "False", Some("Settled")).await;
    let domain = domain(&world).await;
    world.shows("UpstreamReady", "True", Some("Direct")).await;
    let exchanger = Exchanger::start("0.0.0.0", PORT, Manner::Plain).await;

    send(&binding, &domain, &format!("b@{domain}"), "straight").await;
    let taken = taken(&exchanger, "Subject: straight").await;
    assert_eq!(taken.mail, format!("MAIL FROM:<a@{domain}>"));
    assert_eq!(taken.recipients, [format!("RCPT TO:<b@{domain}>")]);
    world
        .shows("UpstreamReady", "True", Some("Delivering"))
        .await;

    let nobody = format!("{NOBODY}.{domain}");
    send(&binding, &domain, &nobody, "for nobody").await;
    let bounce = self::taken(&exchanger, &format!("Final-Recipient: rfc822; {nobody}")).await;
    assert!(bounce.mail.starts_with("MAIL FROM:<>"), "{}", bounce.mail);
    assert_eq!(bounce.recipients, [format!("RCPT TO:<a@{domain}>")]);
    assert!(has(&bounce, "Action: failed") && has(&bounce, "Status: 5.1.2"));
    world.shows("Ready", "True", None).await;
    world.namespace.delete().await;
}

/// A domain whose mail exchanger is this machine: MAIL_DOMAIN where the cluster's DNS has one; otherwise the name of a Service,
/// which has an address and no MX record (RFC 5321 §5.1).
async fn domain(world: &World) -> String {
    if let Ok(domain) = std::env::var("MAIL_DOMAIN") {
        return domain;
    }
    let address = provider::address();
    world
        .namespace
        .apply(&format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: exchanger}}
spec: {{clusterIP: None, ports: [{{port: {PORT}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: exchanger, labels: {{kubernetes.io/service-name: exchanger}}}}
addressType: IPv4
endpoints: [{{addresses: ['{address}'], conditions: {{ready: true}}}}]
ports: [{{port: {PORT}}}]
"
        ))
        .await;
    // The name of the relay in the cluster ends with the domain of the cluster.
    let relay = world.namespace.get(RELAY.0, RELAY.1).await.unwrap();
    let host = relay["status"]["endpoints"][0]["host"].as_str().unwrap();
    host.replacen("mail.", "exchanger.", 1)
}

async fn send(binding: &Binding, domain: &str, recipient: &str, subject: &str) {
    // Where the only replica has just been replaced, the Service leads nowhere for a moment after it is ready.
    let connect = async || binding.client(587).await.ok();
    let mut client = eventually("a connection to the relay", connect).await;
    let content = format!("Subject: {subject}\r\n\r\nx\r\n");
    let sender = format!("a@{domain}");
    let sent = client
        .message(&sender, &[recipient], content.as_bytes())
        .await;
    assert_eq!(sent.unwrap().code, 250);
}

async fn taken(exchanger: &Exchanger, line: &str) -> Taken {
    let what = format!("a message with {line:?}");
    eventually(&what, async || {
        exchanger.taken().into_iter().find(|taken| has(taken, line))
    })
    .await
}

fn has(taken: &Taken, line: &str) -> bool {
    taken.lines.iter().any(|found| found == line)
}

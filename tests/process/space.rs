//! A volume that is full: mail is refused, that is said, and mail is taken again when what waited has gone. Needs root, for a volume
//! of its own.

use std::path::Path;
use std::process::Command;

use harness::eventually;
use harness::provider::Provider;
use harness::relay::Relay;
use postroad_config::ListenerName;
use tempfile::TempDir;

/// Smaller than one segment of the usual size.
const VOLUME_MIB: usize = 60;

/// So many messages of a MiB fit at least, beside what is kept free.
const FIT: usize = VOLUME_MIB / 2;

/// A small volume; gone when dropped.
struct Volume(TempDir);

impl Volume {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={VOLUME_MIB}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]);
        assert!(mount.arg(directory.path()).status().unwrap().success());
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // If this fails the directory cannot be removed either, and that is seen.
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// Sends messages of a MiB until one is refused; returns how many were taken, and the code of the refusal.
async fn send_until_refused(relay: &Relay) -> (usize, u16) {
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    let content = format!(
        "Subject: large\r\n\r\n{}",
        format!("{}\r\n", "x".repeat(62)).repeat(1 << 14)
    );
    for taken in 0..=VOLUME_MIB {
        let early = client.command("MAIL FROM:<a@example.com>").await.unwrap();
        if early.code != 250 {
            return (taken, early.code);
        }
        client.command("RSET").await.unwrap();
        let sent = client.message("a@example.com", &["b@example.org"], content.as_bytes());
        let reply = sent.await.unwrap();
        if reply.code != 250 {
            return (taken, reply.code);
        }
    }
    panic!("more is taken than the volume holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_volume_that_was_full_takes_mail_again_when_its_mail_has_gone() {
    let volume = Volume::mount();
    let provider = Provider::start().await;
    let mut relay = Relay::for_provider(&provider);
    relay.config.spool.directory = volume.path().join("queue");
    relay.write_login("wrong");
    relay.start().await;
    let (taken, code) = send_until_refused(&relay).await;
    assert!(taken >= FIT && code == 452, "{taken} taken, then {code}");
    assert!(relay.status().await.spool.disk_full);
    assert!(relay.page("/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = relay.page("/metrics").await;
    assert!(
        metrics.contains("postroad_relay_spool_disk_full 1"),
        "{metrics}"
    );
    // A start gives back what was set aside for the segment that was begun, and no more.
    relay.kill();
    relay.start().await;
    let (more, code) = send_until_refused(&relay).await;
    assert!(more <= 2 && code == 452, "{more} more, then {code}");
    relay.write_login(harness::provider::PASSWORD);
    relay.drained().await;
    eventually("all of it to arrive", async || {
        (provider.messages().len() == taken + more).then_some(())
    })
    .await;
    eventually("the disk to have room", async || {
        (!relay.status().await.spool.disk_full).then_some(())
    })
    .await;
    // A connection to the provider that is open would still be used.
    relay.kill();
    relay.write_login("wrong");
    relay.start().await;
    let (again, _) = send_until_refused(&relay).await;
    assert!(again >= FIT, "only {again} are taken the second time");
}

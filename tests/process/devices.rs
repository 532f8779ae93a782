//! Real devices that fill up, turn read-only or fail, and the order in which a message gets onto one. Needs root, for volumes of
//! their own, and strace.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::client::Client;
use harness::eventually;
use harness::provider::{self, Provider};
use harness::relay::Relay;
use postroad_config::ListenerName;
use tempfile::TempDir;

/// Runs a program that must succeed.
fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    assert!(status.unwrap().success(), "{program} {arguments:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An ext4 in an image, in a file system in memory that may be smaller than the image: then it is a device that fails. Gone when dropped.
struct Volume {
    directory: TempDir,
}

#[derive(Clone, Copy)]
enum Journal {
    Yes,
    /// A journal that fails turns the volume read-only for good.
    No,
}

impl Volume {
    /// A volume of so many MiB, of which the device can hold fewer.
    fn new(mib: usize, held_mib: usize, journal: Journal) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let volume = Self { directory };
        for name in ["device", "volume"] {
            std::fs::create_dir(volume.path(name)).unwrap();
        }
        let size = format!("size={held_mib}m");
        let device = volume.path("device");
        run(
            "mount",
            &["-t", "tmpfs", "-o", &size, "tmpfs", text(&device)],
        );
        let image = volume.path("device/image");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len((mib as u64) << 20).unwrap();
        let feature = match journal {
            Journal::Yes => "has_journal",
            Journal::No => "^has_journal",
        };
        run(
            "mkfs.ext4",
            &[
                "-q",
                "-m",
                "0",
                "-O",
                feature,
                "-E",
                "lazy_itable_init=0,nodiscard",
                text(&image),
            ],
        );
        volume.mount();
        volume
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn mount(&self) {
        let (image, point) = (self.path("device/image"), self.path("volume"));
        run("mount", &["-o", "loop", text(&image), text(&point)]);
    }

    fn unmount(&self) {
        run("umount", &[text(&self.path("volume"))]);
    }

    /// The kernel finds the file system broken: nothing can be written any more.
    fn break_down(&self) {
        run(
            "mount",
            &["-o", "remount,abort", text(&self.path("volume"))],
        );
    }

    /// The device holds so many MiB from now on.
    fn hold(&self, mib: usize) {
        let size = format!("remount,size={mib}m");
        run("mount", &["-o", &size, text(&self.path("device"))]);
    }

    fn queue(&self) -> PathBuf {
        self.path("volume/queue")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // If this fails the directory cannot be removed either, and that is seen.
        for name in ["volume", "device"] {
            let _ = Command::new("umount").arg(self.path(name)).status();
        }
    }
}

/// A relay on a volume, and a provider that it cannot log in to yet.
async fn relay_on(volume: &Volume, provider: &Provider) -> Relay {
    let mut relay = Relay::for_provider(provider);
    relay.config.spool.directory = volume.queue();
    relay.write_login("wrong");
    relay.start().await;
    relay
}

/// Sends messages of so many KiB until one is refused, or a number of them is taken; returns how many were, and the last code.
async fn send(relay: &Relay, kib: usize, most: usize) -> (usize, u16) {
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    let lines = format!("{}\r\n", "x".repeat(62)).repeat(kib * 16);
    let content = format!("Subject: device\r\n\r\n{lines}");
    for taken in 0..most {
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
    (most, 250)
}

/// All that was promised arrives, and nothing twice.
async fn arrives(relay: &Relay, provider: &Provider, promised: usize) {
    relay.write_login(provider::PASSWORD);
    relay.drained().await;
    eventually("all of it to arrive", async || {
        (provider.messages().len() >= promised).then_some(())
    })
    .await;
    assert_eq!(provider.messages().len(), promised);
}

async fn takes_mail_again(relay: &Relay) {
    eventually("mail to be taken again", async || {
        (send(relay, 1, 1).await == (1, 250)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_disk_fills_and_empties_again() {
    let volume = Volume::new(60, 80, Journal::Yes);
    let provider = Provider::start().await;
    let mut relay = relay_on(&volume, &provider).await;
    let (taken, code) = send(&relay, 1024, 60).await;
    assert!(taken >= 25 && code == 452, "{taken} taken, then {code}");
    assert!(relay.status().await.spool.disk_full);
    relay.kill();
    relay.start().await;
    let (more, code) = send(&relay, 1024, 60).await;
    assert!(more <= 2 && code == 452, "{more} more, then {code}");
    arrives(&relay, &provider, taken + more).await;
    eventually("the disk to have room", async || {
        (!relay.status().await.spool.disk_full).then_some(())
    })
    .await;
    takes_mail_again(&relay).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_turns_read_only_refuses_mail_and_loses_none() {
    let volume = Volume::new(200, 220, Journal::Yes);
    let provider = Provider::start().await;
    let mut relay = relay_on(&volume, &provider).await;
    assert_eq!(send(&relay, 10, 20).await, (20, 250));
    volume.break_down();
    let (taken, code) = send(&relay, 10, 1).await;
    assert!(
        taken == 0 && matches!(code, 451 | 452),
        "{taken} taken, then {code}"
    );
    eventually("the failure to show", async || {
        let page = relay.page("/readyz").await;
        (!page.starts_with("HTTP/1.1 200")).then_some(())
    })
    .await;
    relay.kill();
    volume.unmount();
    volume.mount();
    relay.start().await;
    arrives(&relay, &provider, 20).await;
    takes_mail_again(&relay).await;
}

/// The device holds less than it says, as a thinly provisioned one may: a flush fails, though the file system has room.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_fails_and_is_mended_costs_no_promise() {
    let volume = Volume::new(300, 24, Journal::No);
    let provider = Provider::start().await;
    let relay = relay_on(&volume, &provider).await;
    let (taken, code) = send(&relay, 256, 200).await;
    assert!(
        taken > 20 && matches!(code, 451 | 452),
        "{taken} taken, then {code}"
    );
    // Blocks that the device holds already can be written again, so that it may take some more.
    let (more, _) = send(&relay, 256, 1).await;
    volume.hold(320);
    takes_mail_again(&relay).await;
    arrives(&relay, &provider, taken + more + 1).await;
}

/// Lets strace write down what the kernel is asked to do, in order: a line per call that begins or ends, with the thread before it.
fn trace(relay: &Relay, lines: &Path) -> Child {
    const CALLS: &str = "trace=fdatasync,pwrite64,sendto,writev,write";
    Command::new("strace")
        .args(["-f", "-qq", "-s", "4096", "-e", CALLS, "-e", "signal=none"])
        .args(["-o", text(lines), "-p", &relay.pid().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn install_strace() {
    let version = Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status();
    if version.is_err() {
        run(
            "apt-get",
            &["install", "-y", "--no-install-recommends", "strace"],
        );
    }
}

/// 250 means kept: between the message on its way to the disk and the reply on its way to the client lies a flush that has returned.
#[tokio::test(flavor = "multi_thread")]
async fn the_flush_has_returned_before_the_reply_is_sent() {
    install_strace();
    let provider = Provider::start().await;
    let mut relay = Relay::for_provider(&provider);
    relay.config.access.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()];
    relay.write_login("wrong");
    relay.start().await;
    let lines = relay.path("calls");
    let mut tracer = trace(&relay, &lines);
    let port = relay.port(ListenerName::Smtp);
    let (mut client, _) = Client::connect(port).await.unwrap();
    client.command("EHLO client.example.net").await.unwrap();
    eventually("the trace to begin", async || {
        client.command("NOOP").await.unwrap();
        (std::fs::metadata(&lines).ok()?.len() > 0).then_some(())
    })
    .await;
    let mut replies = Vec::new();
    for number in 0..20 {
        let content = format!("Subject: traced {number};\r\n\r\nbody\r\n");
        let sent = client.message("a@example.com", &["b@example.org"], content.as_bytes());
        let reply = sent.await.unwrap();
        assert_eq!(reply.code, 250);
        replies.push(reply.text);
    }
    relay.terminate();
    assert!(relay.ended().await);
    // It ends with what it traces.
    tracer.wait().unwrap();
    let calls = std::fs::read_to_string(&lines).unwrap();
    for (number, reply) in replies.iter().enumerate() {
        check_order(&calls, &format!("Subject: traced {number};"), reply.trim());
    }
}

/// The thread that writes a message flushes, and the flush returns, before the reply is sent.
fn check_order(calls: &str, subject: &str, reply: &str) {
    let thread = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let calls: Vec<&str> = calls.lines().collect();
    let find = |from: usize, wanted: &dyn Fn(&str) -> bool| {
        let found = calls[from..].iter().position(|line| wanted(line));
        from + found.unwrap_or_else(|| panic!("{subject}: not in the trace from line {from}"))
    };
    let written = find(0, &|line| {
        line.contains("pwrite64(") && line.contains(subject)
    });
    let writer = thread(calls[written]);
    let flushed = find(written, &|line| {
        let ended = line.contains("fdatasync") && line.trim_end().ends_with("= 0");
        ended && thread(line) == writer
    });
    let sent = find(0, &|line| {
        line.contains(reply) && !line.contains("pwrite64(")
    });
    assert!(
        sent > flushed,
        "{subject}: written in line {written}, flushed in {flushed}, answered in {sent}"
    );
}

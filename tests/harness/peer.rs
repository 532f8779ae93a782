//! Mail servers of others: those of tests/peers, which send everything on to one port, and aiosmtpd, which does as it is told.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};

use tempfile::TempDir;

use crate::client::Client;
use crate::pki::Authority;
use crate::{eventually, free_port, root};

/// The name that their certificates are for.
pub const HOSTNAME: &str = "localhost";

/// A mail server that takes mail from this machine for anybody, offers STARTTLS, and sends all of it on. It lives in namespaces
/// of its own, which end when this is dropped, and everything in them with it.
pub struct Peer {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    directory: TempDir,
    child: Child,
}

impl Peer {
    /// Starts the one of that name; it sends to this port of 127.0.0.1, with STARTTLS where that is offered, and takes messages of so many
    /// bytes.
    ///
    /// # Panics
    /// If it does not start, or was not installed.
    pub async fn start(name: &str, next: u16, bytes_max: u64) -> Self {
        let directory = tempfile::Builder::new()
            .prefix(&format!("postroad-{name}"))
            .tempdir_in("/var/tmp")
            .unwrap();
        let path = |file: &str| directory.path().join(file);
        let authority = Authority::default();
        authority.write_server(HOSTNAME, &path("tls.crt"), &path("tls.key"));
        std::fs::write(path("ca.crt"), authority.pem()).unwrap();
        let port = free_port();
        let log = File::create(path("output")).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--mount-proc", "--pid", "--fork", "--kill-child"])
            .arg(root().join("tests/peers").join(name))
            .arg(directory.path())
            .args([port.to_string(), next.to_string(), bytes_max.to_string()])
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = command.spawn().unwrap();
        let mut peer = Self {
            port,
            directory,
            child,
        };
        eventually(&format!("{name} to greet"), async || {
            if let Some(status) = peer.child.try_wait().unwrap() {
                panic!("{name} ended: {status}\n{}", peer.output());
            }
            Client::connect(port).await.ok()
        })
        .await;
        peer
    }

    /// The certificate of its authority.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// What it has logged.
    #[must_use]
    pub fn output(&self) -> String {
        let read = |file: &str| std::fs::read_to_string(self.directory.path().join(file));
        let files = ["output", "maillog", "log/mainlog", "log/paniclog"];
        files.into_iter().flat_map(read).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the peer's log ---\n{}", self.output());
        }
    }
}

/// An aiosmtpd with a script of one step; ends when dropped.
pub struct Scripted {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    directory: TempDir,
    child: Child,
}

impl Scripted {
    /// Starts it. At this step (MAIL, RCPT, or the dot of the content) it gives this reply; with an empty one it closes.
    ///
    /// # Panics
    /// If it does not start, or was not installed.
    pub async fn start(step: &str, reply: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let output = File::create(directory.path().join("taken")).unwrap();
        let python = root().join("target/tools/aiosmtpd/bin/python3");
        assert!(
            python.exists(),
            "aiosmtpd is missing: run tests/peers/install"
        );
        let child = Command::new(python)
            .arg(root().join("tests/peers/scripted.py"))
            .args([&port.to_string(), step, reply])
            .stdout(output)
            .spawn()
            .unwrap();
        let server = Self {
            port,
            directory,
            child,
        };
        eventually("aiosmtpd to greet", async || {
            Client::connect(port).await.ok()
        })
        .await;
        server
    }

    /// Says yes to everything from now on.
    ///
    /// # Panics
    /// If the signal cannot be sent.
    pub fn mend(&self) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-USR1", &pid]).status().unwrap();
        assert!(status.success());
    }

    /// How many messages were there as a whole and were not refused.
    ///
    /// # Panics
    /// If that cannot be read.
    #[must_use]
    pub fn count(&self) -> usize {
        let taken = std::fs::read_to_string(self.directory.path().join("taken"));
        taken.unwrap().lines().count()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

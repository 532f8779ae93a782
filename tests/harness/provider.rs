//! A real Postfix at the other end: demands STARTTLS and AUTH, keeps what it gets in a Maildir.

use std::path::PathBuf;
use std::time::SystemTime;

use tempfile::TempDir;
use tokio::process::Command;

use crate::{free_port, root};

/// A Postfix of the test's own, stopped and removed when dropped.
pub struct Provider {
    directory: TempDir,
    address: &'static str,
    hostname: String,
    /// Where it listens.
    pub port: u16,
}

/// The name of one that stands on this machine, for this machine.
pub const HOSTNAME: &str = "localhost";
/// The login.
pub const USERNAME: &str = "relay";
/// The password it starts with.
pub const PASSWORD: &str = "stagecoach-1852";

/// The address under which pods of the cluster reach this machine.
///
/// # Panics
/// If PROVIDER_HOST does not say.
#[must_use]
pub fn address() -> String {
    std::env::var("PROVIDER_HOST").unwrap_or_else(|_| {
        panic!("set PROVIDER_HOST to the address at which pods reach this machine")
    })
}

impl Provider {
    /// Makes one that does not run yet.
    ///
    /// # Panics
    /// If there is no temporary directory.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("postroad-provider")
            .tempdir_in("/var/tmp")
            .unwrap();
        Self {
            directory,
            address: "127.0.0.1",
            hostname: HOSTNAME.to_owned(),
            port: free_port(),
        }
    }

    /// Makes one that does not run yet and that pods of a cluster can reach under this name.
    #[must_use]
    pub fn outside(hostname: String) -> Self {
        let mut provider = Self::new();
        (provider.address, provider.hostname) = ("0.0.0.0", hostname);
        provider
    }

    /// Makes one and starts it.
    pub async fn start() -> Self {
        let provider = Self::new();
        provider.run(&["start"]).await;
        provider
    }

    /// Runs a verb of the script.
    ///
    /// # Panics
    /// If it fails.
    pub async fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "provider {arguments:?}: {text}{errors}"
        );
        text
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(root().join("tests/demo/provider"));
        command
            .args(arguments)
            .env("PROVIDER_DIR", self.directory.path())
            .env("PROVIDER_HOSTNAME", &self.hostname)
            .env("PROVIDER_LISTEN", format!("{}:{}", self.address, self.port));
        command
    }

    /// Its name, which is also that of its certificate.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The certificate of its authority.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// Every message that has arrived, as Postfix stored it (lines end with LF).
    ///
    /// # Panics
    /// If the mailbox cannot be read.
    #[must_use]
    pub fn messages(&self) -> Vec<Vec<u8>> {
        let paths = self.files().into_iter();
        paths.map(|path| std::fs::read(path).unwrap()).collect()
    }

    /// When each message arrived, the first one first.
    ///
    /// # Panics
    /// If the mailbox cannot be read.
    #[must_use]
    pub fn arrivals(&self) -> Vec<SystemTime> {
        let written = |path: PathBuf| path.metadata().unwrap().modified().unwrap();
        let mut times: Vec<_> = self.files().into_iter().map(written).collect();
        times.sort();
        times
    }

    fn files(&self) -> Vec<PathBuf> {
        let inbox = self.directory.path().join("mail/inbox/new");
        let Ok(entries) = std::fs::read_dir(inbox) else {
            return Vec::new();
        };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

impl Default for Provider {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // Drop cannot wait for a future.
        let _ = self.command(&["stop"]).into_std().output();
    }
}

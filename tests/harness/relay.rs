//! The real relay program on loopback.

mod config;
mod program;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use postroad_config::status::RelayStatus;
use postroad_config::{
    Credential, Credentials, ListenerName, RelayConfig, Upstream, UpstreamAuth, UpstreamLimits,
    UpstreamTls, Verifier,
};
use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::eventually;
use crate::pki::Authority;
use crate::provider::{self, Provider};

/// The relay's name and that of its certificate.
pub const HOSTNAME: &str = "mail.example.com";
/// A user who may send.
pub const USERNAME: &str = "app";
/// The user's password.
pub const PASSWORD: &str = "correct horse battery staple";

/// A relay with a directory of its own; killed when dropped.
pub struct Relay {
    directory: TempDir,
    /// What it is told; [`Relay::write_config`] puts a change in force.
    pub config: RelayConfig,
    authority: Authority,
    child: Option<Child>,
}

impl Relay {
    /// A relay that has not been started, with all four listeners and no upstream yet.
    ///
    /// # Panics
    /// If its files cannot be written.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let authority = Authority::default();
        authority.write_server(HOSTNAME, &path("tls.crt"), &path("tls.key"));
        let admin_name = postroad_config::status::ADMIN_SERVER_NAME;
        authority.write_server(admin_name, &path("admin.crt"), &path("admin.key"));
        std::fs::write(path("ca.crt"), authority.pem()).unwrap();
        let config = config::without_upstreams(directory.path());
        let relay = Self {
            directory,
            config,
            authority,
            child: None,
        };
        relay.write_credentials(&[(USERNAME, PASSWORD)]);
        relay
    }

    /// A relay that sends to this provider with STARTTLS and AUTH.
    #[must_use]
    pub fn for_provider(provider: &Provider) -> Self {
        let mut relay = Self::new();
        relay.write_login(provider::PASSWORD);
        relay.config.delivery.upstreams = vec![Upstream {
            name: "provider".into(),
            host: provider::HOSTNAME.into(),
            port: provider.port,
            tls: UpstreamTls::Required,
            ca: Some(provider.ca()),
            auth: Some(UpstreamAuth {
                username: relay.path("login/username"),
                password: relay.path("login/password"),
            }),
            limits: UpstreamLimits::default(),
        }];
        relay
    }

    /// A relay that sends in plaintext to a port of loopback.
    #[must_use]
    pub fn for_port(port: u16) -> Self {
        let mut relay = Self::new();
        relay.config.delivery.upstreams = vec![Upstream {
            name: "sink".into(),
            host: "127.0.0.1".into(),
            port,
            tls: UpstreamTls::Disabled,
            ca: None,
            auth: None,
            limits: UpstreamLimits::default(),
        }];
        relay
    }

    /// A file of the relay's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the program and waits until it serves.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(&mut self) {
        self.spawn();
        let port = self.config.health.listen.port();
        let mut child = self.child.as_mut();
        eventually("the relay to be ready", async || {
            let ended = child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the relay has ended: {ended:?}");
            let answer = http_get(port, "/readyz").await?;
            answer.starts_with("HTTP/1.1 200").then_some(())
        })
        .await;
    }

    /// Starts the program.
    ///
    /// # Panics
    /// If there is none.
    pub fn spawn(&mut self) {
        self.write_config();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let child = Command::new(program::path())
            .arg("--config")
            .arg(self.path("relay.yaml"))
            .args(["--log-format", "text"])
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Writes the configuration; a running relay takes it over by itself.
    ///
    /// # Panics
    /// If it is not a valid one.
    pub fn write_config(&self) {
        replace(&self.path("relay.yaml"), &self.config.render().unwrap());
    }

    /// Writes who may authenticate.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn write_credentials(&self, users: &[(&str, &str)]) {
        let credential = |(username, password): &(&str, &str)| Credential {
            username: (*username).to_owned(),
            verifiers: vec![Verifier::derive(password, [3; postroad_config::SALT_BYTES])],
        };
        let file = Credentials {
            credentials: users.iter().map(credential).collect(),
        };
        replace(&self.path("credentials.yaml"), &file.render().unwrap());
    }

    /// Writes the password for the upstream.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn write_login(&self, password: &str) {
        std::fs::create_dir_all(self.path("login")).unwrap();
        replace(&self.path("login/username"), provider::USERNAME);
        replace(&self.path("login/password"), password);
    }

    /// The process.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// What a line of `/proc/PID/status` says of its memory, in bytes: `VmRSS`, and `VmHWM` for the most that it ever was.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let mut lines = status.lines();
        let text = lines.find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
        let kib = text.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() << 10
    }

    /// kill -9.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM.
    ///
    /// # Panics
    /// If the signal cannot be sent.
    pub fn terminate(&self) {
        let status = Command::new("kill")
            .arg(self.pid().to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the process; whether it was an orderly one.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn ended(&mut self) -> bool {
        let mut child = self.child.take().unwrap();
        let status = eventually("the relay to end", async || child.try_wait().unwrap()).await;
        status.success()
    }

    /// The port of a listener.
    ///
    /// # Panics
    /// If there is none of that name.
    #[must_use]
    pub fn port(&self, name: ListenerName) -> u16 {
        let listeners = &self.config.listeners;
        listeners
            .iter()
            .find(|listener| listener.name == name)
            .unwrap()
            .listen
            .port()
    }

    /// A client that trusts the relay's certificate.
    #[must_use]
    pub fn tls(&self) -> Arc<ClientConfig> {
        self.authority.client(false)
    }

    /// A client that has proved who it is, in the way that belongs to the port.
    ///
    /// # Errors
    /// What went wrong on the wire.
    pub async fn login(&self, name: ListenerName) -> std::io::Result<Client> {
        let (port, tls) = (self.port(name), self.tls());
        let mut client = match name {
            ListenerName::Submissions => {
                let mut client = Client::connect_tls(port, &tls, HOSTNAME).await?;
                client.command("EHLO client.example.net").await?;
                client
            }
            _ => {
                Client::connect(port)
                    .await?
                    .0
                    .starttls(&tls, HOSTNAME)
                    .await?
            }
        };
        let reply = client.login(USERNAME, PASSWORD).await?;
        if reply.code != 235 {
            return Err(std::io::Error::other(reply.text));
        }
        Ok(client)
    }

    /// What the relay says of itself over the admin API.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn status(&self) -> RelayStatus {
        let client = self.authority.client(true);
        self.admin(&client, "GET", postroad_config::status::STATUS_PATH)
            .await
            .unwrap()
    }

    /// Asks the admin API with any identity.
    ///
    /// # Errors
    /// If the relay does not talk to this client.
    pub async fn admin(
        &self,
        tls: &Arc<ClientConfig>,
        method: &str,
        path: &str,
    ) -> std::io::Result<RelayStatus> {
        let port = self.config.admin.listen.port();
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = postroad_config::status::ADMIN_SERVER_NAME
            .try_into()
            .unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls));
        let mut stream = connector.connect(name, stream).await?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let body = answer
            .split_once("\r\n\r\n")
            .ok_or(std::io::ErrorKind::InvalidData)?
            .1;
        serde_json::from_str(body).map_err(std::io::Error::other)
    }

    /// Asks the admin API for a drain.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn drain(&self) {
        let client = self.authority.client(true);
        self.admin(&client, "POST", postroad_config::status::DRAIN_PATH)
            .await
            .unwrap();
    }

    /// A page of the health server.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn page(&self, path: &str) -> String {
        http_get(self.config.health.listen.port(), path)
            .await
            .unwrap()
    }

    /// Waits until nothing is queued.
    pub async fn drained(&self) {
        eventually("the queue to be empty", async || {
            (self.status().await.queue.messages == 0).then_some(())
        })
        .await;
    }
}

impl Default for Relay {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
            let from = log.len().saturating_sub(6000);
            let from = (from..=log.len())
                .find(|at| log.is_char_boundary(*at))
                .unwrap_or(0);
            eprintln!("--- the relay's log ---\n{}", &log[from..]);
        }
    }
}

/// As Kubernetes does it: the new content appears all at once.
fn replace(path: &Path, content: &str) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, content).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

async fn http_get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

//! The servers under test: a script each, started afresh for every run with an empty queue.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::measure::Group;

/// How long a server may take until it listens; Exim looks for a port that is taken again after 30 seconds.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The name of ours; what follows it is how it is configured.
pub(crate) const OURS: &str = "postroad";

/// A server in one configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Server {
    /// Its name in the results.
    pub(crate) name: &'static str,
    /// The script below `servers/`, and its first argument; `None` if load and sink talk without anybody between them.
    script: Option<(&'static str, &'static str)>,
    /// What a 250 means: `durable`, `relaxed` (synced later), `none` (never synced).
    pub(crate) durability: &'static str,
    /// The part of a workload in percent: each is to run for seconds, slow or fast.
    pub(crate) percent: usize,
    /// Most runs of any workload.
    pub(crate) runs_max: usize,
    /// Whether somebody has to tell it that its next hop is back.
    pub(crate) must_be_told: bool,
}

/// Everything that can be compared.
pub(crate) const SERVERS: [Server; 7] = [
    Server {
        name: "direct",
        script: None,
        durability: "none",
        percent: 400,
        runs_max: usize::MAX,
        must_be_told: false,
    },
    Server {
        name: "postroad",
        script: Some(("postroad", "durable")),
        durability: "durable",
        percent: 400,
        runs_max: usize::MAX,
        must_be_told: false,
    },
    Server {
        name: "postroad-relaxed",
        script: Some(("postroad", "relaxed")),
        durability: "relaxed",
        percent: 400,
        runs_max: usize::MAX,
        must_be_told: false,
    },
    Server {
        name: "postfix-tuned",
        script: Some(("postfix", "tuned")),
        durability: "durable",
        percent: 50,
        runs_max: usize::MAX,
        must_be_told: true,
    },
    Server {
        name: "postfix-shipped",
        script: Some(("postfix", "shipped")),
        durability: "durable",
        percent: 25,
        runs_max: usize::MAX,
        must_be_told: true,
    },
    Server {
        name: "exim",
        script: Some(("exim", "tuned")),
        durability: "durable",
        percent: 10,
        runs_max: usize::MAX,
        must_be_told: false,
    },
    Server {
        name: "opensmtpd",
        script: Some(("opensmtpd", "tuned")),
        durability: "none",
        percent: 2,
        runs_max: 3,
        must_be_told: false,
    },
];

/// A server that runs; stopped when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    command: Option<(PathBuf, &'static str)>,
    directory: PathBuf,
    ports: Ports,
    settings: Vec<(&'static str, String)>,
    group: Group,
}

/// Where the server listens and where it sends to, both on 127.0.0.1.
///
/// They lie below those that the kernel gives out by itself, and this program has a network of its own: nobody else has them. A
/// server on the sink's port would look like the fastest in the world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// The server's own; TLS from the first octet is one higher, where a server has it.
    pub(crate) server: u16,
    /// The sink's.
    pub(crate) sink: u16,
}

impl Ports {
    /// Without a server in between the load goes straight to the sink.
    #[must_use]
    pub(crate) const fn of(server: Server) -> Self {
        let sink = 10_025;
        let server = if server.is_direct() { sink } else { 10_587 };
        Self { server, sink }
    }
}

impl Server {
    /// Whether it is our relay, in whatever configuration.
    #[must_use]
    pub(crate) fn is_ours(&self) -> bool {
        self.name.starts_with(OURS)
    }

    /// Whether load and sink talk without anybody between them.
    #[must_use]
    pub(crate) const fn is_direct(self) -> bool {
        self.script.is_none()
    }

    /// What its program calls itself; nothing if there is none.
    ///
    /// # Errors
    /// If its script fails.
    pub(crate) fn version(self, scripts: &Path) -> anyhow::Result<Option<String>> {
        let Some((script, _)) = self.script else {
            return Ok(None);
        };
        let script = scripts.join(script);
        let output = Command::new(&script).arg("version").output();
        let output = output.with_context(|| script.display().to_string())?;
        if !output.status.success() {
            bail!("{} version: {}", script.display(), output.status);
        }
        Ok(Some(
            String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        ))
    }
}

impl Running {
    /// Starts it with its queue in a directory of its own, in a control group of its own. The script finds the settings in its
    /// environment.
    ///
    /// # Errors
    /// If the script fails; what it printed is shown.
    pub(crate) fn start(
        server: Server,
        scripts: &Path,
        directory: PathBuf,
        settings: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        let running = Self {
            command: server
                .script
                .map(|(script, mode)| (scripts.join(script), mode)),
            directory,
            ports: Ports::of(server),
            settings,
            group: Group::create("postroad-bench")?,
        };
        running.begin()?;
        Ok(running)
    }

    /// Its processes.
    #[must_use]
    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// Kills all of it, and starts it again on what it left behind.
    ///
    /// # Errors
    /// If something survives, or the script fails.
    pub(crate) fn crash_and_restart(&self) -> anyhow::Result<()> {
        self.group.kill()?;
        self.begin()
    }

    /// Some scripts end before their server listens.
    fn begin(&self) -> anyhow::Result<()> {
        self.script("start")?;
        let deadline = Instant::now() + LISTEN_TIMEOUT;
        while self.command.is_some() {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.server)) {
                Ok(_) => break,
                Err(error) if Instant::now() > deadline => {
                    return Err(error).context("the server does not listen");
                }
                Err(_) => std::thread::park_timeout(LOOK_INTERVAL),
            }
        }
        Ok(())
    }

    /// Tells it that the next hop is back.
    ///
    /// # Errors
    /// If the script fails.
    pub(crate) fn tell(&self) -> anyhow::Result<()> {
        self.script("tell")
    }

    fn script(&self, verb: &str) -> anyhow::Result<()> {
        let Some((script, mode)) = &self.command else {
            return Ok(());
        };
        // The shell joins the group before it becomes the script: all that the script starts is counted.
        let status = Command::new("sh")
            .args(["-c", r#"echo $$ >"$1" && shift && exec "$@""#, "sh"])
            .arg(self.group.door())
            .arg(script)
            .args([verb, mode])
            .arg(&self.directory)
            .args([self.ports.server.to_string(), self.ports.sink.to_string()])
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .status()
            .with_context(|| script.display().to_string())?;
        if !status.success() {
            bail!("{} {verb} {mode}: {status}", script.display());
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What outlives its server has the port that the next one needs.
        if let Err(error) = self.script("stop").and_then(|()| self.group.kill()) {
            crate::say(&format!("{error:#}"));
        }
    }
}

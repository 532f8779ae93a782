//! `postroad-relay send-test`: sends one mail the way an application would. Used by `helm test`, where the image has
//! no other program to do it with.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::ValueEnum;
use postroad_config::{Upstream, UpstreamLimits, UpstreamTls};
use postroad_smtp::client::{RecipientOutcome, Transaction};
use postroad_smtp::{ForwardPath, Mailbox, Password, ReversePath};

use crate::clock;
use crate::delivery::connect::{Connection, Sent};
use crate::live::{LiveUpstream, Login};
use crate::tls;

/// What to send where.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server, as HOST:PORT.
    #[arg(long)]
    to: String,
    /// How to speak TLS there.
    #[arg(long, value_enum, default_value = "starttls")]
    tls: Tls,
    /// File with the user name; without it there is no AUTH.
    #[arg(long, requires = "password_file")]
    username_file: Option<PathBuf>,
    /// File with the password.
    #[arg(long, requires = "username_file")]
    password_file: Option<PathBuf>,
    /// PEM file with the authorities to trust, instead of the public ones.
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// The originator.
    #[arg(long)]
    from: Mailbox,
    /// The recipient.
    #[arg(long)]
    rcpt: Mailbox,
}

/// How to speak TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Tls {
    /// From the first byte.
    Implicit,
    /// Not at all.
    None,
    /// STARTTLS, certificate verified.
    Starttls,
}

/// Sends the mail.
///
/// # Errors
/// What the server said, or what kept it from being asked.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let reply = runtime.block_on(send(args))?;
    tracing::info!(to = args.to, reply, "accepted");
    Ok(())
}

async fn send(args: &Args) -> anyhow::Result<String> {
    let upstream = upstream(args)?;
    let mut connection = Connection::open(&upstream, "postroad-test.localdomain")
        .await
        .map_err(|failure| anyhow::anyhow!("{}: {}", failure.reason.as_str(), failure.message))?;
    let sent = connection.send(transaction(args)).await;
    let outcome = match sent {
        Sent::Finished(outcome) => outcome,
        Sent::Held(failure) => bail!("{}", failure.message),
        Sent::Lost(why) => bail!("connection lost: {why}"),
    };
    connection.quit().await;
    match outcome.recipients.into_iter().next() {
        Some(RecipientOutcome::Delivered(reply)) => Ok(reply.to_string()),
        Some(RecipientOutcome::Deferred(reply) | RecipientOutcome::Failed(reply)) => {
            bail!("refused: {reply}")
        }
        None => bail!("no outcome"),
    }
}

fn upstream(args: &Args) -> anyhow::Result<LiveUpstream> {
    let (host, port) = args.to.rsplit_once(':').context("--to must be HOST:PORT")?;
    let tls_mode = match args.tls {
        Tls::Implicit => UpstreamTls::Implicit,
        Tls::None => UpstreamTls::Disabled,
        Tls::Starttls => UpstreamTls::Required,
    };
    let ca = args.ca_file.as_deref().map(read).transpose()?;
    let login = match (&args.username_file, &args.password_file) {
        (Some(username), Some(password)) => Login::Present {
            username: line(username)?,
            password: Password::new(line(password)?),
        },
        _ => Login::None,
    };
    Ok(LiveUpstream {
        config: Upstream {
            name: "test".into(),
            host: host.to_owned(),
            port: port.parse().context("--to must be HOST:PORT")?,
            tls: tls_mode,
            ca: None,
            auth: None,
            limits: UpstreamLimits::default(),
        },
        login,
        tls: Ok(tls::upstream(tls_mode, ca.as_deref())?),
        fingerprint: String::new(),
    })
}

fn transaction(args: &Args) -> Transaction {
    let now = clock::timestamp(clock::now_ms());
    let date =
        jiff::fmt::rfc2822::to_string(&now.to_zoned(jiff::tz::TimeZone::UTC)).unwrap_or_default();
    let content = format!(
        "Date: {date}\r\nFrom: <{from}>\r\nTo: <{to}>\r\nMessage-ID: <{id}@postroad-test.localdomain>\r\n\
         Subject: Postroad test mail\r\n\r\nIf you can read this, mail flows.\r\n",
        from = args.from,
        to = args.rcpt,
        id = tls::hex(&clock::random_bytes::<16>()),
    );
    Transaction {
        sender: ReversePath::Mailbox(args.from.clone()),
        recipients: vec![ForwardPath::Mailbox(args.rcpt.clone()).into()],
        content: vec![Bytes::from(content)],
        ..Transaction::default()
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn line(path: &Path) -> anyhow::Result<String> {
    let text = String::from_utf8(read(path)?).with_context(|| path.display().to_string())?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

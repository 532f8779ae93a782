//! `postroad-relay spool`: looks at a spool that no relay has open, most often a copy of its volume. Nothing is written there.
//!
//! `check` succeeds only if nothing is damaged, `list` prints what is queued, `export` writes messages as files that other programs read.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;
use postroad_spool::offline::{Damaged, Fault, Segment, Volume};
use postroad_spool::{BodyType, Message, MessageId, Queued, Ret, TlsDemand};
use serde_json::{Value, json};

use crate::clock;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reads all of a spool and tells what is damaged; fails if anything is.
    Check {
        /// The directory with the segments.
        directory: PathBuf,
    },
    /// Lists the queued messages.
    List {
        /// The directory with the segments.
        directory: PathBuf,
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Writes queued messages as ID.eml (headers and body) and ID.json (envelope and state).
    Export {
        /// The directory with the segments.
        directory: PathBuf,
        /// Only this message.
        #[arg(long)]
        id: Option<MessageId>,
        /// Where to; created if missing.
        #[arg(long, default_value = ".")]
        output: PathBuf,
    },
}

/// Does it, and prints to standard output.
///
/// # Errors
/// What kept it from being done, or that something is damaged.
pub fn run(command: &Command) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = run_to(command, &mut out);
    out.flush()?;
    done
}

fn run_to(command: &Command, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        Command::Check { directory } => check(&Volume::open(directory)?, out),
        Command::List { directory, json } => list(&Volume::open(directory)?, *json, out),
        Command::Export {
            directory,
            id,
            output,
        } => export(&Volume::open(directory)?, *id, output, out),
    }
}

fn check(volume: &Volume, out: &mut dyn Write) -> anyhow::Result<()> {
    let report = volume.report();
    for segment in &report.segments {
        check_segment(segment, out)?;
    }
    for gone in &report.gone {
        writeln!(out, "{gone:016x}.seg  is gone, though it held something")?;
    }
    writeln!(out, "{} messages are queued", volume.queue().len())?;
    if report.aside > 0 {
        let aside = report.aside;
        writeln!(out, "{aside} damaged pieces were kept in corrupt/ before")?;
    }
    ensure!(report.is_intact(), "the spool is damaged");
    Ok(())
}

fn check_segment(segment: &Segment, out: &mut dyn Write) -> io::Result<()> {
    let Segment {
        sequence,
        bytes,
        groups,
        messages,
        attempts,
        done,
        unfinished_bytes,
        damage,
    } = segment;
    writeln!(
        out,
        "{sequence:016x}.seg  {bytes} bytes, {groups} groups: {messages} messages, {attempts} attempts, {done} done"
    )?;
    if *unfinished_bytes > 0 {
        writeln!(
            out,
            "  {unfinished_bytes} bytes at the end were never promised"
        )?;
    }
    for Damaged { start, end, fault } in damage {
        let fault = match fault {
            Fault::Header => "the header is damaged, which costs nothing",
            Fault::Missing => "were stored and are missing",
            Fault::Unreadable => "are damaged",
        };
        writeln!(out, "  bytes {start} to {end}: {fault}")?;
    }
    Ok(())
}

fn list(volume: &Volume, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut unreadable = 0_u64;
    for queued in volume.queue().iter() {
        let envelope = volume.read_envelope(queued.id);
        unreadable += u64::from(envelope.is_err());
        match envelope {
            Ok(message) if json => writeln!(out, "{}", describe(&queued, &message))?,
            Ok(message) => list_one(&queued, &message, out)?,
            Err(error) if json => {
                let id = queued.id.to_string();
                writeln!(out, "{}", json!({"id": id, "error": error.to_string()}))?;
            }
            Err(error) => writeln!(out, "{}  {error}", queued.id)?,
        }
    }
    ensure!(unreadable == 0, "{unreadable} messages cannot be read");
    Ok(())
}

fn list_one(queued: &Queued<'_>, message: &Message, out: &mut dyn Write) -> io::Result<()> {
    let open = open_recipients(queued, message).collect::<Vec<_>>();
    let (next, attempts) = (clock::timestamp(queued.next_attempt_ms), queued.attempts);
    writeln!(
        out,
        "{}  {}  {} bytes  {attempts} attempts, next {next}",
        queued.id,
        clock::timestamp(queued.arrival_ms),
        queued.bytes,
    )?;
    // What strangers sent must not reach a terminal as it is.
    let sender = message.envelope.sender.escape_debug();
    writeln!(
        out,
        "  from <{sender}>, open {} of {}:",
        open.len(),
        queued.recipients
    )?;
    for recipient in open {
        writeln!(out, "  to <{}>", recipient.escape_debug())?;
    }
    Ok(())
}

/// The addresses that have no final outcome yet.
fn open_recipients<'a>(
    queued: &'a Queued<'_>,
    message: &'a Message,
) -> impl Iterator<Item = &'a str> {
    let recipients = (0_u32..).zip(&message.envelope.recipients);
    recipients
        .filter(|(index, _)| queued.settled.binary_search(index).is_err())
        .map(|(_, recipient)| recipient.address.as_str())
}

fn export(
    volume: &Volume,
    id: Option<MessageId>,
    output: &Path,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    fs::create_dir_all(output).with_context(|| format!("cannot create {}", output.display()))?;
    let (mut written, mut unreadable) = (0_u64, 0_u64);
    let wanted = |queued: &Queued<'_>| id.is_none_or(|id| id == queued.id);
    for queued in volume.queue().iter().filter(wanted) {
        match volume.read(queued.id) {
            Ok(message) => {
                export_one(&queued, &message, output)?;
                written += 1;
            }
            Err(error) => {
                unreadable += 1;
                writeln!(out, "{}  {error}", queued.id)?;
            }
        }
    }
    if let Some(id) = id.filter(|_| written + unreadable == 0) {
        bail!("no message {id} is queued");
    }
    writeln!(out, "{written} messages written to {}", output.display())?;
    ensure!(unreadable == 0, "{unreadable} messages cannot be read");
    Ok(())
}

fn export_one(queued: &Queued<'_>, message: &Message, output: &Path) -> anyhow::Result<()> {
    let envelope = format!("{:#}\n", describe(queued, message));
    let files: [(&str, &[&[u8]]); 2] = [
        ("eml", &[&message.headers, &message.body]),
        ("json", &[envelope.as_bytes()]),
    ];
    for (extension, pieces) in files {
        let path = output.join(format!("{}.{extension}", queued.id));
        let write = || {
            let mut file = fs::File::create_new(&path)?;
            pieces.iter().try_for_each(|piece| file.write_all(piece))
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The envelope of a message and what has become of it.
fn describe(queued: &Queued<'_>, message: &Message) -> Value {
    let envelope = &message.envelope;
    let recipients = (0_u32..).zip(&envelope.recipients);
    let recipient = |(index, recipient): (u32, &postroad_spool::Recipient)| {
        json!({
            "address": recipient.address,
            "open": queued.settled.binary_search(&index).is_err(),
            "notify": recipient.notify,
            "orcpt": recipient.orcpt,
        })
    };
    json!({
        "id": queued.id.to_string(),
        "arrival": clock::timestamp(queued.arrival_ms).to_string(),
        "bytes": queued.bytes,
        "sender": envelope.sender,
        "recipients": recipients.map(recipient).collect::<Vec<_>>(),
        "attempts": queued.attempts,
        "nextAttempt": clock::timestamp(queued.next_attempt_ms).to_string(),
        "delayNotified": queued.delay_notified,
        "credential": envelope.submitter(),
        "body": match envelope.body {
            BodyType::SevenBit => "7BIT",
            BodyType::EightBitMime => "8BITMIME",
            BodyType::BinaryMime => "BINARYMIME",
        },
        "smtputf8": envelope.smtputf8,
        "envid": envelope.envid,
        "ret": envelope.ret.map(|ret| match ret {
            Ret::Full => "FULL",
            Ret::Headers => "HDRS",
        }),
        "tls": match envelope.tls {
            TlsDemand::Default => "default",
            TlsDemand::Required => "required",
            TlsDemand::Optional => "optional",
        },
        "priority": envelope.priority,
        "deliverBy": envelope.deliver_by.map(|by| clock::timestamp(by.deadline_ms).to_string()),
        "notBefore": (envelope.not_before_ms > 0)
            .then(|| clock::timestamp(envelope.not_before_ms).to_string()),
    })
}

#[cfg(test)]
mod tests;

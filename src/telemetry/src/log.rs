//! Structured logs on standard output, one event per line.
//!
//! JSON by default, because logs of a pod are read by machines first; `text` for people. Nothing
//! that a peer sent is logged without going through a field: the formatters escape control
//! characters there, so that a peer cannot forge lines.
//!
//! Logging never waits for whoever reads the log: see the module `lines` for what happens when nobody does.

mod lines;

use std::io;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

pub use lines::Guard;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// One readable line per event.
    Text,
}

/// A format that is neither `json` nor `text`.
#[derive(Debug, thiserror::Error)]
#[error("unknown log format {0:?}: write json or text")]
pub struct UnknownFormat(String);

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is malformed.
    #[error("cannot read the log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The thread that writes could not be started.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(#[source] io::Error),
    /// A second call.
    #[error("cannot set up logging twice: {0}")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(UnknownFormat(other.to_owned())),
        }
    }
}

/// Sets up logging for the process, until what it gives is dropped: then the last lines are written, and later ones are not. `filter` has
/// the syntax of `RUST_LOG`, as in `info,kube=warn`.
///
/// # Errors
/// [`Error`] if the filter is malformed, logging was set up before, or there can be no thread for it.
pub fn init(format: Format, filter: &str) -> Result<Guard, Error> {
    let filter = EnvFilter::builder().parse(filter)?;
    let (lines, guard) = lines::start(io::stdout(), report_lost).map_err(Error::Thread)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(true)
        .with_writer(move || lines.clone());
    match format {
        // The list of spans ends with the current one: named by itself too, every line would hold it twice.
        Format::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
        Format::Text => builder.try_init(),
    }
    .map_err(Error::Twice)?;
    Ok(guard)
}

fn report_lost(lines: u64) {
    tracing::warn!(lines, "log lines were lost: whoever reads them is too slow");
}

//! What the admin API answers: `GET /v1/status` as JSON, `POST /v1/drain` with the same answer.
//!
//! Times are seconds since the Unix epoch. No field ever holds a secret.

use serde::{Deserialize, Serialize};

use crate::SpoolMode;

/// Most destinations that a status names: those with the most mail.
pub const DESTINATIONS_MAX: usize = 10;

/// Most tenants that a status names whose share is used up.
pub const FULL_SHARES_MAX: usize = 5;

/// Port-independent path of the status.
pub const STATUS_PATH: &str = "/v1/status";
/// Path that starts a drain: readiness turns false, no new connections, delivery goes on.
pub const DRAIN_PATH: &str = "/v1/drain";
/// The name that the relay's admin certificate carries, whatever the pod's address.
pub const ADMIN_SERVER_NAME: &str = "admin.postroad.internal";

/// One relay pod as it sees itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayStatus {
    /// Version of the relay program.
    pub version: String,
    /// Whether a drain has begun.
    pub draining: bool,
    /// The configuration in force.
    pub config: ConfigStatus,
    /// What waits.
    pub queue: QueueStatus,
    /// Counts since the program started.
    pub totals: Totals,
    /// One entry per configured upstream, in order.
    pub upstreams: Vec<UpstreamStatus>,
    /// How direct delivery goes; `None` if no mail goes that way.
    #[serde(default)]
    pub direct: Option<DirectStatus>,
    /// The certificate that SMTP clients are shown; `None` if none could be loaded.
    pub certificate: Option<CertificateStatus>,
    /// The spool.
    pub spool: SpoolStatus,
}

/// The configuration in force.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStatus {
    /// Hex SHA-256 of the bytes of the configuration file in force.
    pub hash: String,
    /// Hex SHA-256 of the credentials file in force; of nothing if there is none.
    pub credentials_hash: String,
    /// What of the files on disk is not in force, and why: what was refused, whose former value stays in force,
    /// and listeners that cannot be opened, which are tried again every second.
    pub refused: Option<String>,
    /// Fields of the file that only a new process takes up, such as `spool.mode`: their former values stay in force. Nothing is wrong
    /// with them, and everything else of the file is in force.
    #[serde(default)]
    pub awaits_restart: Vec<String>,
}

/// What waits.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// Messages accepted and not finished.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that have failed at least once.
    pub deferred: u64,
    /// Those of them that the disk did not give back when they were last tried. They are tried again; somebody should look
    /// at the disk.
    #[serde(default)]
    pub unreadable: u64,
    /// Whether as much is queued as may be: new mail gets 452 until some has gone.
    #[serde(default)]
    pub full: bool,
    /// Whose mail got 452 within the last minute because what waits of it takes as much as one may have of the queue or the disk: logins, and
    /// an empty name for the clients without; at most [`FULL_SHARES_MAX`].
    #[serde(default)]
    pub full_shares: Vec<String>,
    /// Whether new mail got 452 within the last minute, from whomever it came, because the memory for what is on its way is used up.
    #[serde(default)]
    pub memory_full: bool,
    /// When the oldest of them arrived.
    pub oldest_arrival: Option<i64>,
    /// Those of them of which an override holds a recipient back.
    #[serde(default)]
    pub held: u64,
    /// Where most of them go, most messages first; at most [`DESTINATIONS_MAX`].
    #[serde(default)]
    pub destinations: Vec<DestinationStatus>,
}

/// What waits for one destination.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationStatus {
    /// A domain if mail goes there directly; otherwise the route's name, or [`DEFAULT_ROUTE`].
    pub destination: String,
    /// Messages with a recipient there that is not finished.
    pub messages: u64,
    /// Those of them that have failed at least once.
    pub deferred: u64,
    /// When the oldest of them arrived; may be of one that has gone since, if others wait.
    pub oldest_arrival: Option<i64>,
    /// Why mail does not flow there, if it does not.
    pub failing: Option<UpstreamFailure>,
    /// The rate that mail waits for there, if nothing else keeps it and it takes longer than moments.
    #[serde(default)]
    pub rate: Option<RateOf>,
    /// What the last transaction came to that put mail off, if any such mail waits: what the server there said, or why it cannot be sent that mail.
    /// One short line, without addresses.
    #[serde(default)]
    pub answer: Option<String>,
}

/// Whose rate mail waits for.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RateOf {
    /// That of an upstream: [`crate::Upstream::name`].
    Upstream(String),
    /// That which each domain has where mail goes directly.
    Domain,
}

/// The destination of what no route fits, unless it goes directly.
pub const DEFAULT_ROUTE: &str = "default";

/// Counts since the program started.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Messages that got 250.
    pub accepted: u64,
    /// Recipients that an upstream took.
    pub delivered: u64,
    /// Attempts per recipient that were put off.
    pub deferred: u64,
    /// Recipients that were refused for good.
    pub failed: u64,
}

/// Whether mail flows to an upstream.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamStatus {
    /// [`crate::Upstream::name`].
    pub name: String,
    /// What the last attempt to use it came to: mail, or a check that ends before MAIL FROM.
    pub state: UpstreamState,
    /// When `state` became what it is.
    pub since: i64,
    /// Why it does not work; set exactly when `state` is `Failing`.
    pub failure: Option<UpstreamFailure>,
    /// Senders that it rejects, whose mail waits; `None` if there are none. It works for everybody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_rejected: Option<SenderRejected>,
}

/// Senders whose mail an upstream does not take.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SenderRejected {
    /// The one of them that has been rejected for the longest time, as in MAIL FROM without its brackets; empty for the null sender.
    pub sender: String,
    /// One line for people: what the upstream last said to it.
    pub reply: String,
    /// How many there are, this one included.
    pub senders: u64,
}

/// How direct delivery goes, among the domains for which mail waits or was tried in the last hour.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectStatus {
    /// Domains at which the last attempt got as far as MAIL FROM.
    pub working: u64,
    /// Domains at which it did not.
    pub failing: u64,
    /// Why the last one that failed did.
    pub failure: Option<UpstreamFailure>,
}

/// Whether an upstream works.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum UpstreamState {
    /// The last attempt failed before MAIL FROM, or was ended with 421 or its like before the message was judged; mail is held.
    Failing,
    /// The last attempt got as far as MAIL FROM, and further if there was mail.
    Ready,
    /// Being tried for the first time since it was configured, which takes seconds.
    Unknown,
}

/// Why an upstream does not work.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamFailure {
    /// Becomes the reason of the `UpstreamReady` condition.
    pub reason: FailureReason,
    /// One line for people: what was tried and what the peer said. No secrets.
    pub message: String,
}

/// The step that failed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum FailureReason {
    /// The login was refused (535 and its like).
    AuthenticationFailed,
    /// Nothing listens there, or the peer closed at once.
    ConnectionRefused,
    /// No answer in time.
    ConnectionTimedOut,
    /// The files of the login are missing or empty.
    CredentialsMissing,
    /// The name does not resolve.
    NameNotFound,
    /// No name server gave an answer.
    NameServerFailed,
    /// The hosts are in networks where this relay is not to connect to.
    NetworkNotAllowed,
    /// The peer broke the protocol or closed in the middle.
    ProtocolError,
    /// The peer asks for less: 421, 450 or 454 before MAIL FROM; in a transaction 421, 432, an enhanced 4.3.2 or 4.7.28, or 454 in answer to
    /// the sender or the content.
    Throttled,
    /// STARTTLS is not offered, or the handshake or the verification failed.
    TlsFailed,
    /// The peer refused the greeting or EHLO for good (554 and its like).
    Refused,
}

impl FailureReason {
    /// The reason as it stands in conditions, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthenticationFailed => "AuthenticationFailed",
            Self::ConnectionRefused => "ConnectionRefused",
            Self::ConnectionTimedOut => "ConnectionTimedOut",
            Self::CredentialsMissing => "CredentialsMissing",
            Self::NameNotFound => "NameNotFound",
            Self::NameServerFailed => "NameServerFailed",
            Self::NetworkNotAllowed => "NetworkNotAllowed",
            Self::ProtocolError => "ProtocolError",
            Self::Refused => "Refused",
            Self::Throttled => "Throttled",
            Self::TlsFailed => "TLSFailed",
        }
    }
}

/// A certificate as served.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// End of validity.
    pub not_after: i64,
    /// Hex SHA-256 of the leaf in DER.
    pub fingerprint: String,
}

/// The state of the disk under the queue.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpoolStatus {
    /// Whether the queue outlives the pod.
    pub persistent: bool,
    /// The failure that keeps the relay from accepting mail, if any. A queue or a disk that is full is
    /// none: see [`QueueStatus::full`] and [`Self::disk_full`].
    pub failure: Option<String>,
    /// Damaged pieces kept in `corrupt/` on the volume, until somebody has looked and taken them away.
    pub corrupt: u64,
    /// Whether there is no room for another message on the disk: new mail gets 452 until some has gone.
    #[serde(default)]
    pub disk_full: bool,
    /// What a 250 promises.
    #[serde(default)]
    pub mode: SpoolMode,
    /// How long the oldest write that a 250 was given for has been waiting for its sync, in milliseconds: `None` if none does, as always in
    /// [`SpoolMode::Durable`]. Longer than the mode says: the disk does not keep up, or fails.
    #[serde(default)]
    pub unsynced_ms: Option<u64>,
}

//! The custom resources of Postroad: [`SmtpRelay`] and [`SmtpCredential`], `postroad.dev/v1alpha1`.
//!
//! Types, admission rules and printer columns; no behaviour and no IO. Whatever a user can get
//! wrong in one object is refused by a CEL rule whose message says what to write instead, so the
//! operator needs no webhook. What a rule cannot see (a Secret that is missing, the keys in it)
//! is the operator's to report in `status.conditions`.
//!
//! Invariants of the schema, kept by tests: every string and list of a spec is bounded, because the
//! API server refuses rules whose cost it cannot bound; no defaults inside list items, because tools
//! that compare what was applied with what is stored would show a difference for ever; each
//! definition stays below 200 KB.
//!
//! [`crds`] gives the definitions to install. They are finished beyond what the derive makes:
//! `status` is born as `{observedGeneration: -1}`, so that nobody who waits for a new object takes
//! an empty status for a settled one.

#![expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct, `pub` included, into a function body"
)]

mod crd;
mod credential;
mod refs;
mod relay;

pub use crd::crds;
pub use credential::{Binding, RelayRef, SmtpCredential, SmtpCredentialSpec, SmtpCredentialStatus};
pub use refs::{SecretKeyRef, SecretRef};
pub use relay::{
    Access, Amounts, AuthMode, CONNECTION_KIB, Delivery, DestinationSummary, Direct, DirectLimits,
    DirectTls, DirectTlsMode, DomainPattern, Endpoint, EndpointPort, IpFamily, Limits, Listener,
    ListenerTls, Listeners, MEMORY_LIMIT, MEMORY_MIB, MEMORY_TOO_SMALL, MESSAGES_PER_VOLUME, Match,
    Network, Override, OverrideAction, PrivateNetwork, QueueSummary, Rate, RateUnit, ReplicaState,
    ReplicaStatus, Resources, Retry, Route, STORAGE_TOO_SMALL, Service, ServiceType, SmtpRelay,
    SmtpRelaySpec, SmtpRelayStatus, Storage, StorageMode, StorageType, Target, TlsSource,
    TlsStatus, Upstream, UpstreamAuth, UpstreamLimits, UpstreamTls, UpstreamTlsMode, UserName,
};

/// The API group.
pub const GROUP: &str = "postroad.dev";

/// Annotation of a SmtpRelay that its user sets to another value (a time, by custom) to have every
/// replica replaced, one at a time.
pub const ANNOTATION_RESTARTED_AT: &str = "postroad.dev/restartedAt";

/// Longest `metadata.name` of a relay. `<name>-<ordinal>-<10>-<5>`, the name of a pod, has to fit
/// the 63 characters of a host name, with two digits of ordinal.
pub const RELAY_NAME_MAX: usize = 43;

/// Most replicas of a relay: every one is visited at each reconciliation.
pub const REPLICAS_MAX: u16 = 16;

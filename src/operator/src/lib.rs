//! The operator: keeps what SmtpRelay and SmtpCredential objects describe.
//!
//! - [`app`] starts everything: watches, the two controllers, the health endpoints.
//! - [`watch`] holds what the API server says, one task and one cache per kind.
//! - [`controller`] keeps a relay; [`credential`] keeps a login at one. Both are pipelines:
//!   dereference (IO) -> validate (pure) -> build (pure) -> apply (IO) -> status (pure, then IO).
//! - [`rollout`] decides what happens to which replica, [`certificate`] what is issued: both pure.
//! - [`admin`] asks relay pods how they are, over mutual TLS.
//!
//! Invariants. Nothing in memory matters: the operator may be killed at any point and finishes
//! after a restart, and another one, of another version, goes on with the pods that there are: only their
//! user has them replaced. Secrets are read by name only and never listed. A relay at rest causes no write.

mod admin;
mod app;
mod args;
mod certificate;
mod context;
mod controller;
mod crds;
mod credential;
mod credentials_file;
mod digest;
mod events;
mod health;
mod kind;
mod names;
mod places;
mod quantity;
mod retry;
mod rollout;
mod watch;

pub use args::Args;

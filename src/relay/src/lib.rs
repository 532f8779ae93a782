//! The relay program that runs in the pods: sockets, TLS, sessions, policy, queue, delivery, admin API.
//!
//! [`app`] puts it together. The way of a message: [`listener`] -> [`session`] -> [`accept`] -> [`queue`] (and with it the
//! spool) -> [`delivery`] -> [`outcome`] -> [`queue`]. The pure parts ([`schedule`], [`upstreams`], [`outcome`], [`policy`],
//! [`backoff`]) know no clock and no socket.

pub mod accept;
pub mod admin;
pub mod app;
pub mod args;
pub mod backoff;
pub mod bounce;
pub mod clock;
pub mod connections;
pub mod context;
pub mod delivery;
pub mod guesses;
pub mod listener;
pub mod live;
pub mod memory;
pub mod metrics;
pub mod outcome;
pub mod patience;
#[cfg(test)]
mod pki;
pub mod policy;
pub mod probes;
pub mod queue;
pub mod refusal;
pub mod reload;
#[cfg(test)]
mod rig;
pub mod room;
pub mod schedule;
pub mod send_test;
pub mod session;
pub mod stream;
pub mod tls;
pub mod unreadable;
pub mod upstreams;

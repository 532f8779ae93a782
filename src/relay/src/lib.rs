//! The relay program that runs in the pods: sockets, TLS, sessions, policy, queue, delivery, admin API.
//!
//! [`app`] puts it together. The way of a message: [`listener`] -> [`session`] -> [`accept`] -> [`queue`] (and with it the
//! spool) -> [`delivery`] -> [`outcome`] -> [`queue`]. The pure parts ([`schedule`], [`upstreams`], [`outcome`], [`policy`],
//! [`backoff`]) know no clock and no socket.

pub mod accept;
pub mod adapt;
pub mod admin;
pub mod answer;
pub mod app;
pub mod args;
pub mod backoff;
pub mod blocking;
pub mod bounce;
pub mod clock;
pub mod connections;
pub mod context;
pub mod delivery;
pub mod descriptors;
pub mod dns;
pub mod envelope;
pub mod guesses;
pub mod listener;
pub mod live;
pub mod memory;
pub mod metrics;
pub mod mx;
pub mod names;
pub mod net;
pub mod notify;
pub mod offline;
pub mod outcome;
pub mod passthrough;
pub mod patience;
#[cfg(test)]
mod pki;
pub mod policy;
pub mod probes;
pub mod queue;
pub mod rate;
pub mod refusal;
pub mod reload;
#[cfg(test)]
mod rig;
pub mod room;
pub mod route;
pub mod schedule;
pub mod send_test;
pub mod session;
pub mod share;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod slab;
pub mod stream;
pub mod tls;
pub mod unreadable;
pub mod upstreams;
pub mod wheel;
pub mod window;

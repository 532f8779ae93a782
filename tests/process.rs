//! The real relay program against real and scripted servers, and clients that misbehave, on loopback.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code: a panic is how it says no"
)]

#[path = "process/crash.rs"]
mod crash;
#[path = "process/delivery.rs"]
mod delivery;
#[path = "process/devices.rs"]
mod devices;
#[path = "process/dialogue.rs"]
mod dialogue;
#[path = "process/direct.rs"]
mod direct;
#[path = "process/dns.rs"]
mod dns;
#[path = "process/durability.rs"]
mod durability;
#[path = "process/flights.rs"]
mod flights;
#[path = "process/lifecycle.rs"]
mod lifecycle;
#[path = "process/memory.rs"]
mod memory;
#[path = "process/passthrough.rs"]
mod passthrough;
#[path = "process/peers.rs"]
mod peers;
#[path = "process/reports.rs"]
mod reports;
#[path = "process/scripted.rs"]
mod scripted;
#[path = "process/space.rs"]
mod space;
#[path = "process/upstreams.rs"]
mod upstreams;

//! The real relay program against a real Postfix and clients that misbehave, on loopback.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code: a panic is how it says no"
)]

#[path = "process/delivery.rs"]
mod delivery;
#[path = "process/devices.rs"]
mod devices;
#[path = "process/dialogue.rs"]
mod dialogue;
#[path = "process/direct.rs"]
mod direct;
#[path = "process/durability.rs"]
mod durability;
#[path = "process/lifecycle.rs"]
mod lifecycle;
#[path = "process/reports.rs"]
mod reports;
#[path = "process/space.rs"]
mod space;
#[path = "process/upstreams.rs"]
mod upstreams;

//! Chart, operator and relays on a real Kubernetes, with a real Postfix outside it. Needs KUBECONFIG, the chart installed
//! there, nodes that this machine reaches, and PROVIDER_HOST, the address under which pods reach this machine:
//! `make cluster-test` sees to all of it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "test code: a panic is how it says no, and people read the count of duplicates"
)]

#[path = "cluster/chart.rs"]
mod chart;
#[path = "cluster/direct.rs"]
mod direct;
#[path = "cluster/mail.rs"]
mod mail;
#[path = "cluster/overrides.rs"]
mod overrides;
#[path = "cluster/promises.rs"]
mod promises;
#[path = "cluster/rates.rs"]
mod rates;
#[path = "cluster/repair.rs"]
mod repair;
#[path = "cluster/rollout.rs"]
mod rollout;
#[path = "cluster/world.rs"]
mod world;

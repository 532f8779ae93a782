//! Logs, metrics and health endpoints, shared by the programs.

pub mod http;
pub mod log;
pub mod metrics;
pub mod waiting;

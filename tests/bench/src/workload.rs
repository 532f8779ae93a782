//! What is measured.

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// Its letter in the results.
    pub(crate) name: &'static str,
    /// Sessions at once.
    pub(crate) sessions: usize,
    /// Octets of each message.
    pub(crate) size: usize,
    /// Messages of a whole run; slow servers get a part of it.
    pub(crate) messages: usize,
    /// Whether a connection is used for more than one message.
    pub(crate) reuse: bool,
}

/// All of them.
pub(crate) const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "B",
        sessions: 50,
        size: 4096,
        messages: 10_000,
        reuse: false,
    },
    Workload {
        name: "C",
        sessions: 50,
        size: 4096,
        messages: 10_000,
        reuse: true,
    },
    Workload {
        name: "D",
        sessions: 20,
        size: 100 << 10,
        messages: 1_000,
        reuse: true,
    },
    Workload {
        name: "E",
        sessions: 1,
        size: 4096,
        messages: 1_000,
        reuse: true,
    },
];

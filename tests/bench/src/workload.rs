//! What is measured.

use crate::load::Body;
use crate::server::Server;
use crate::tls::Tls;

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// Its name in the results.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) about: &'static str,
    /// What is done.
    pub(crate) kind: Kind,
    /// Sessions at once.
    pub(crate) sessions: usize,
    /// Octets of each message.
    pub(crate) size: usize,
    /// Messages of a whole run; slow servers get a part of it.
    pub(crate) messages: usize,
    /// Whether a connection is used for more than one message.
    pub(crate) reuse: bool,
    /// Recipients are spread over so many domains.
    pub(crate) domains: usize,
    /// The only servers that it makes sense for; all if empty.
    pub(crate) servers: &'static [&'static str],
    /// Most runs of ours: what takes minutes, or differs little from run to run, is not repeated.
    pub(crate) runs_max: usize,
    /// Most runs of the others, which may take many times longer.
    pub(crate) runs_max_others: usize,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Messages through the server to the sink.
    Relay(Manner),
    /// Connections that do nothing any more.
    Idle(Before),
    /// The next hop is down while messages are accepted, and comes back.
    Down,
    /// A great many wait; the server is killed and started again.
    Waiting,
}

/// What each connection has done before it does nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Before {
    /// EHLO, without TLS.
    Hello,
    /// One message, under TLS from the first octet.
    Message,
}

/// How the messages go through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// From the load to the server.
    pub(crate) tls: Tls,
    /// Whether the load logs in.
    pub(crate) login: bool,
    /// From the server to the sink.
    pub(crate) sink_tls: Tls,
    /// How the load sends content; with BDAT the sink offers it too.
    pub(crate) body: Body,
    /// What the sink does wrong.
    pub(crate) faults: &'static [&'static str],
    /// Of 1000 messages, so many are broken off by the load and begun again.
    pub(crate) aborts: u64,
    /// Messages per second; as many as go if not set.
    pub(crate) rate: Option<u32>,
}

const OURS: &[&str] = &["postroad", "postroad-relaxed"];
/// What the harness itself adds to a latency.
const OURS_AND_HARNESS: &[&str] = &["direct", "postroad", "postroad-relaxed"];
const OURS_AND_YARDSTICK: &[&str] = &["postroad", "postfix-tuned"];

const PLAIN: Manner = Manner {
    tls: Tls::None,
    login: false,
    sink_tls: Tls::None,
    body: Body::Data,
    faults: &[],
    aborts: 0,
    rate: None,
};

/// 4 KiB from 50 sessions that keep their connections.
const C: Workload = Workload {
    name: "C",
    about: "4 KiB, 50 sessions, connections reused",
    kind: Kind::Relay(PLAIN),
    sessions: 50,
    size: 4096,
    messages: 10_000,
    reuse: true,
    domains: 1,
    servers: &[],
    runs_max: usize::MAX,
    runs_max_others: usize::MAX,
};

const B: Workload = Workload {
    name: "B",
    about: "4 KiB, 50 sessions, one message per connection",
    reuse: false,
    ..C
};

const D: Workload = Workload {
    name: "D",
    about: "100 KiB, 20 sessions, connections reused",
    sessions: 20,
    size: 100 << 10,
    messages: 1_000,
    ..C
};

const IDLE: Workload = Workload {
    sessions: 10_000,
    messages: 0,
    servers: &["postroad"],
    runs_max: 3,
    ..C
};

/// All of them. A next hop that comes back after [`Kind::Down`] finds 50,000 messages, [`Kind::Waiting`] a million.
pub(crate) const WORKLOADS: [Workload; 13] = [
    B,
    C,
    D,
    Workload {
        name: "E",
        about: "4 KiB, one session: the latency of one sync",
        sessions: 1,
        messages: 1_000,
        ..C
    },
    Workload {
        name: "paced",
        about: "C at 1,000 messages/s, one each millisecond: latency while there is CPU to spare",
        kind: Kind::Relay(Manner {
            rate: Some(1_000),
            ..PLAIN
        }),
        messages: 1_500,
        servers: OURS_AND_HARNESS,
        ..C
    },
    Workload {
        name: "tls",
        about: "C with implicit TLS and AUTH PLAIN; STARTTLS to the next hop",
        kind: Kind::Relay(Manner {
            tls: Tls::Implicit,
            login: true,
            sink_tls: Tls::Starttls,
            ..PLAIN
        }),
        servers: OURS,
        ..C
    },
    Workload {
        name: "handshakes",
        about: "B with STARTTLS for every message",
        kind: Kind::Relay(Manner {
            tls: Tls::Starttls,
            ..PLAIN
        }),
        messages: 2_500,
        servers: OURS,
        ..B
    },
    Workload {
        name: "bdat",
        about: "D with BDAT on both sides, envelope and content in one go",
        kind: Kind::Relay(Manner {
            body: Body::Bdat,
            ..PLAIN
        }),
        servers: OURS,
        ..D
    },
    Workload {
        name: "faults",
        about: "C with a next hop that defers, drops and delays at every step, and clients that break off",
        kind: Kind::Relay(Manner {
            faults: &[
                "421@connect=5",
                "451@mail=5",
                "drop@rcpt=5",
                "450@rcpt=5",
                "451@data=5",
                "452@end=5",
                "drop@end=5",
                "delay:20@end=5",
            ],
            aborts: 20,
            ..PLAIN
        }),
        messages: 2_500,
        servers: &["postroad"],
        ..C
    },
    Workload {
        name: "idle",
        about: "connections that do nothing after EHLO",
        kind: Kind::Idle(Before::Hello),
        size: 0,
        ..IDLE
    },
    Workload {
        name: "idle-tls",
        about: "connections under TLS that do nothing after one message of 4 KiB",
        kind: Kind::Idle(Before::Message),
        runs_max: 1,
        ..IDLE
    },
    Workload {
        name: "down",
        about: "C while the next hop is down; then it comes back",
        kind: Kind::Down,
        messages: 50_000,
        servers: OURS_AND_YARDSTICK,
        runs_max: 3,
        runs_max_others: 1,
        ..C
    },
    Workload {
        name: "waiting",
        about: "1 KiB to 10,000 domains, 50 sessions, next hop down; kill -9 and start; then it comes back",
        kind: Kind::Waiting,
        size: 1024,
        messages: 1_000_000,
        domains: 10_000,
        servers: &["postroad"],
        runs_max: 1,
        ..C
    },
];

impl Workload {
    /// Whether it makes sense for this server.
    #[must_use]
    pub(crate) fn is_for(&self, server: &str) -> bool {
        self.servers.is_empty() || self.servers.contains(&server)
    }

    /// Most runs of a server with it.
    #[must_use]
    pub(crate) fn runs_max_for(&self, server: &Server) -> usize {
        let workload = if server.is_ours() {
            self.runs_max
        } else {
            self.runs_max_others
        };
        workload.min(server.runs_max)
    }

    /// Whether the disk matters: what it does not matter for is measured on the first alone.
    #[must_use]
    pub(crate) const fn depends_on_disk(&self) -> bool {
        !matches!(self.kind, Kind::Idle(_))
    }

    /// How messages go through; plain for what is not [`Kind::Relay`].
    #[must_use]
    pub(crate) const fn manner(&self) -> Manner {
        match self.kind {
            Kind::Relay(manner) => manner,
            Kind::Idle(Before::Message) => Manner {
                tls: Tls::Implicit,
                ..PLAIN
            },
            Kind::Idle(Before::Hello) | Kind::Down | Kind::Waiting => PLAIN,
        }
    }

    /// Messages for a server that gets this part of the whole. Only streams of messages are cut or stretched.
    #[must_use]
    pub(crate) const fn messages_for(&self, percent: usize) -> usize {
        match self.kind {
            Kind::Relay(_) => self.messages * percent / 100,
            Kind::Idle(_) | Kind::Down | Kind::Waiting => self.messages,
        }
    }
}

//! The page that is published: how it was measured, on what, and what came of it.

use std::fmt::Write as _;
use std::fs;

use super::{Results, asked, tables};
use crate::workload::WORKLOADS;

const HEAD: &str = "# Performance

Written by `make bench`; do not edit. Every figure is of one run of that command on one machine. What travels to another machine
is ratios and CPU time per message, not rates: load and sink share the cores with the server.

![messages per second, end to end](plot.svg)
";

const METHOD: &str = "## How it is measured

- Every run starts a server afresh with an empty queue; 200 messages go first, unmeasured. Servers take turns, and what counts is the
  median of the runs.
- Load and sink are one program (`tests/bench`), one thread each. The load waits for every reply, as smtp-source does, and does not
  pipeline. `direct` is load and sink with nothing between them: what the harness itself can do.
- Every message has an id. A run counts only if each id that got 250 arrived, none arrived twice, and each had a `Received` header,
  which is to say that it went through the server.
- All happens in a network namespace that has only loopback. `bare` is this machine's own ext4, `journal` an ext4 with a journal in a
  loop image on it.
- *accepted* counts until the last 250, *delivered* until the last message has reached the sink. CPU is user and system time of all the server's
  processes (control group); PSS is their proportional set size, the highest of two looks a second; flushes are those that the block
  device completed, whoever asked for them; latencies are from the last octet of content to its 250.
- One sync is a 4 KiB overwrite of a preallocated file and fdatasync, 1000 times from one thread before each round.
- Durability is what a 250 means: `durable`, on the disk before it is sent; `relaxed`, synced within a second; `none`,
  never synced. Postfix and Exim sync as Debian ships them. OpenSMTPD does not sync at all, and times its
  deliveries by timers.
- Instructions of the hot paths, which hardly change from run to run, are counted by `make bench-micro` and compared with
  `instructions.csv`.
- `postfix-tuned` has the limits lifted that hold it back under such a load; nothing that it promises is touched. What each server is
  told stands in `tests/bench/servers`.
";

/// The page in Markdown.
#[must_use]
pub(crate) fn page(results: &Results) -> String {
    let mut text = format!(
        "{HEAD}\n## The machine\n\n{}\n{METHOD}\n## Workloads\n\n",
        machine()
    );
    for workload in WORKLOADS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "- `{}`: {}", workload.name, workload.about);
    }
    let _ = write!(
        text,
        "\n## Asked and reached\n\n{}\n## Results (medians)\n\n{}",
        asked::table(results),
        tables(results)
    );
    text
}

/// What this is, as far as the kernel says.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.map(|line| line.trim_start_matches([' ', '\t', ':']).trim());
        value.unwrap_or("unknown").to_owned()
    };
    let cpu = read("/proc/cpuinfo");
    let cores = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    format!(
        "{cores} cores of {}; {} of memory; Linux {}; {}.\n",
        field(&cpu, "model name"),
        field(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
        field(&read("/etc/os-release"), "PRETTY_NAME=").trim_matches('"'),
    )
}

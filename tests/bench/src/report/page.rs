//! The page that is published: how it was measured, on what, and what came of it.

use std::fmt::Write as _;

use super::{Results, asked, tables};
use crate::workload::WORKLOADS;

const HEAD: &str = "# Performance

Written by `make bench`; do not edit. Every figure is of one run of that command on one machine. What travels to another machine
is ratios and CPU time per message, not rates: load and sink share the cores with the server. Where the time of a message goes, and why
a figure is what it is, stands in [profile.md](profile.md).

![messages per second, end to end](plot.svg)
";

const REPRODUCE: &str = "## How to do it again

    make bench                                             # all of this; nothing else should run on the machine
    make bench BENCH=\"--runs 1 --workloads B,C --servers postroad,postfix-tuned\"

It needs root (control groups, a loop image, namespaces), Debian's package mirror for the other servers, and 12 GiB on the disk that the
repository is on. Results go to `target/bench`; to this page only if nothing was left out.
";

const METHOD: &str = "## How it is measured

- Every run starts a server afresh with an empty queue; up to 200 messages go first, unmeasured. Servers take turns, and what counts is the
  median of the runs; each row says of how many. Five, but fewer of what takes minutes or differs little.
- A run that fails (a server that does not start, refuses a message, or hangs) is in no figure, and named below.
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
    format!(
        "{HEAD}\n{REPRODUCE}\n{}\n{METHOD}\n{}\n{}\n## Results (medians)\n\n{}",
        setting(results),
        workloads(),
        reached(results),
        tables(results)
    )
}

fn setting(results: &Results) -> String {
    let setting = &results.setting;
    let mut text = format!("## The machine\n\n- {}.\n", setting.machine);
    // Writing to a String cannot fail.
    for disk in &results.disks {
        let _ = writeln!(text, "- `{}`: {}.", disk.name, disk.about);
    }
    let _ = writeln!(
        text,
        "- {}. All of it took {} minutes.",
        setting.programs.join(", "),
        setting.begin.elapsed().as_secs() / 60
    );
    text
}

fn workloads() -> String {
    let mut text = "## Workloads\n\n".to_owned();
    for workload in WORKLOADS {
        let _ = writeln!(text, "- `{}`: {}", workload.name, workload.about);
    }
    text
}

fn reached(results: &Results) -> String {
    format!(
        "## Asked and reached\n\nMB is 1,000,000 bytes. A sync is the median of the disk, measured as said above. An *own bound* was not asked for: it compares a workload of ours \
         with what was asked of another. Why something was missed stands in \
         [profile.md](profile.md).\n\n{}",
        asked::table(results)
    )
}

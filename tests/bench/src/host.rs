//! What is measured on: the machine and its disks as the kernel describes them. No names of hosts, no paths.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;

/// The number of the block device that a path is on, as `major:minor`.
///
/// # Errors
/// If there is no such path.
pub(crate) fn device(path: &Path) -> anyhow::Result<String> {
    let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
    let device = metadata.dev();
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xfff_ff00);
    Ok(format!("{major}:{minor}"))
}

/// Cores, memory, kernel and distribution, and how busy it is: a load of 0 is a quiet machine.
#[must_use]
pub(crate) fn machine() -> String {
    let cpu = read("/proc/cpuinfo");
    let is_core = |line: &&str| line.starts_with("processor");
    let load = read("/proc/loadavg");
    format!(
        "{} cores of {}; {} of memory; Linux {}; {}; load average {} when it began",
        cpu.lines().filter(is_core).count(),
        field(&cpu, "model name"),
        field(&read("/proc/meminfo"), "MemTotal"),
        release(&read("/proc/sys/kernel/osrelease")),
        field(&read("/etc/os-release"), "PRETTY_NAME=").trim_matches('"'),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

/// The file system that a directory is on, whether it has a journal, and what kind of device is below.
///
/// # Errors
/// If there is no such directory.
pub(crate) fn disk(directory: &Path) -> anyhow::Result<String> {
    let device = device(directory)?;
    let system = file_system(&read("/proc/self/mountinfo"), &device);
    let below = format!("/sys/dev/block/{device}");
    let name = field(&read(&format!("{below}/uevent")), "DEVNAME=");
    let journal = if has_journal(&name) {
        "with a journal"
    } else {
        "without a journal"
    };
    let cache = read(&format!("{below}/queue/write_cache"));
    Ok(format!("{system} {journal} on {name}, {}", cache.trim()))
}

/// The type of the file system on a device (proc_pid_mountinfo(5)).
fn file_system(mounts: &str, device: &str) -> String {
    let mut mounts = mounts.lines();
    let mount = mounts.find(|mount| mount.split(' ').nth(2) == Some(device));
    let system = mount.and_then(|mount| mount.split_once(" - ")?.1.split(' ').next());
    system.unwrap_or("unknown file system").to_owned()
}

/// Whether the kernel keeps a journal for it (Documentation/filesystems/ext4).
fn has_journal(device: &str) -> bool {
    let journals = fs::read_dir("/proc/fs/jbd2").into_iter().flatten();
    let of = format!("{device}-");
    journals
        .flatten()
        .any(|journal| journal.file_name().to_string_lossy().starts_with(&of))
}

/// The number of a kernel, without what whoever built it has put behind.
fn release(text: &str) -> &str {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !is_number(c)).unwrap_or(text.len());
    &text[..end]
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What follows a name at the beginning of a line.
fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.map(|line| line.trim_start_matches([' ', '\t', ':']).trim());
    value.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_found_by_its_device() {
        let mounts = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n";
        assert_eq!(file_system(mounts, "254:0"), "ext4");
        assert_eq!(file_system(mounts, "7:0"), "unknown file system");
    }

    #[test]
    fn a_release_of_a_kernel_is_its_number() {
        for text in ["6.1.44-amd64\n", "6.1.44\n", "6.1.44+"] {
            assert_eq!(release(text), "6.1.44", "{text:?}");
        }
    }

    #[test]
    fn a_field_is_what_follows_its_name() {
        let text = "processor\t: 0\nmodel name\t: A CPU\nMemTotal:   24 kB\n";
        assert_eq!(field(text, "model name"), "A CPU");
        assert_eq!(field(text, "MemTotal"), "24 kB");
        assert_eq!(field(text, "flags"), "unknown");
    }
}

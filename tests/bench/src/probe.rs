//! One sync: what the disk takes for the least that a promise needs. Everything else is measured against it.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Instant;

use crate::load::percentile_us;

/// How many are measured: some hundred milliseconds on this kind of disk.
const SYNCS: usize = 1000;

/// Octets of each write.
const BLOCK: usize = 4096;

/// What one sync took, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sync {
    /// Half of them took no longer.
    pub(crate) p50_ms: f64,
    /// 99 of 100 took no longer.
    pub(crate) p99_ms: f64,
}

/// Overwrites a preallocated file block by block, each followed by fdatasync, from one thread, with nothing else going on.
///
/// # Errors
/// If the disk fails.
pub(crate) fn sync(disk: &Path) -> anyhow::Result<Sync> {
    let path = disk.join("sync");
    let mut file = File::create(&path)?;
    file.write_all(&vec![0; SYNCS * BLOCK])?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let block = [b'x'; BLOCK];
    let mut taken_us = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begin = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        taken_us.push(u32::try_from(begin.elapsed().as_micros())?);
    }
    std::fs::remove_file(&path)?;
    taken_us.sort_unstable();
    Ok(Sync {
        p50_ms: percentile_us(&taken_us, 50) / 1000.0,
        p99_ms: percentile_us(&taken_us, 99) / 1000.0,
    })
}

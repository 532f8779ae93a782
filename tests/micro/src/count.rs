//! Runs each hot path under valgrind and compares the counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use crate::{HotPath, hot_paths};

/// More than this beside the figure of before is a change, in percent: hash maps are seeded anew in every run, and the
/// compiler moves things about.
const TOLERANCE_PERCENT: f64 = 3.0;

/// The long run does so many times the repetitions of the short one.
const FACTOR: usize = 3;

const HEADER: &str = "path,unit,instructions";

/// Counts all, tells how they compare, and with `update` writes them down.
///
/// # Errors
/// If valgrind does not run, or, without `update`, a path takes more instructions than before.
pub(crate) fn count(baseline: &Path, update: bool) -> anyhow::Result<()> {
    let before = match fs::read_to_string(baseline) {
        Ok(text) => parse(&text)?,
        Err(_) if update => BTreeMap::new(),
        Err(error) => return Err(error).with_context(|| baseline.display().to_string()),
    };
    let (mut text, mut slower) = (format!("{HEADER}\n"), Vec::new());
    for path in hot_paths() {
        let instructions = instructions(&path)?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{},{},{instructions:.0}", path.name, path.unit);
        let change = before
            .get(path.name)
            .map(|before| (instructions / before - 1.0) * 100.0);
        crate::say(&line(&path, instructions, change));
        if change.is_some_and(|percent| percent > TOLERANCE_PERCENT) {
            slower.push(path.name);
        }
    }
    if update {
        if let Some(folder) = baseline.parent() {
            fs::create_dir_all(folder)?;
        }
        return fs::write(baseline, text).with_context(|| baseline.display().to_string());
    }
    ensure!(
        slower.is_empty(),
        "more than {TOLERANCE_PERCENT} % beyond {}: {}",
        baseline.display(),
        slower.join(", ")
    );
    Ok(())
}

fn line(path: &HotPath, instructions: f64, change: Option<f64>) -> String {
    let change = match change {
        None => "new".to_owned(),
        Some(percent) => format!("{percent:+.1} %"),
    };
    format!(
        "{:14} {instructions:>12.0} instructions per {:28} {change}",
        path.name, path.unit
    )
}

/// Of one repetition.
fn instructions(path: &HotPath) -> anyhow::Result<f64> {
    let few = watched(path.name, path.times)?;
    let many = watched(path.name, path.times * FACTOR)?;
    let repetitions = u32::try_from(path.times * (FACTOR - 1))?;
    let more = u32::try_from(many.saturating_sub(few)).context("too many to be told apart")?;
    Ok(f64::from(more) / f64::from(repetitions))
}

/// Instructions of the whole program.
fn watched(path: &str, times: usize) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args([
            "--tool=cachegrind",
            "--cache-sim=no",
            "--cachegrind-out-file=/dev/null",
        ])
        .arg(std::env::current_exe()?)
        .args(["repeat", path])
        .arg(times.to_string())
        .stdin(Stdio::null())
        .output()
        .context("valgrind")?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{path}: {told}");
    }
    refs(&told).with_context(|| format!("valgrind told no count: {told}"))
}

/// `==1== I   refs:      1,234`.
fn refs(told: &str) -> Option<u64> {
    let (_, count) = told.lines().find_map(|line| line.split_once("refs:"))?;
    count.trim().replace(',', "").parse().ok()
}

fn parse(text: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut lines = text.lines();
    ensure!(
        lines.next() == Some(HEADER),
        "the first line is not {HEADER}"
    );
    let row = |line: &str| {
        let mut fields = line.split(',');
        let name = fields.next()?.to_owned();
        Some((name, fields.nth(1)?.parse().ok()?))
    };
    lines
        .map(|line| row(line).with_context(|| format!("no path, unit and count: {line}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_what_valgrind_says() {
        let told = "==7== Cachegrind\n==7== \n==7== I   refs:      1,234,567\n";
        assert_eq!(refs(told), Some(1_234_567));
        assert_eq!(refs("==7== nothing"), None);
    }

    #[test]
    fn figures_are_read_as_written() {
        let text = format!("{HEADER}\nlines,command,250\nschedule,message,1000\n");
        let parsed = parse(&text).unwrap();
        assert_eq!((parsed["lines"], parsed["schedule"]), (250.0, 1000.0));
        assert!(parse("lines,command,250\n").is_err());
        assert!(parse(&format!("{HEADER}\nlines\n")).is_err());
    }

    #[test]
    fn every_path_works_and_has_a_name_of_its_own() {
        let paths = hot_paths();
        let names: std::collections::BTreeSet<_> = paths.iter().map(|path| path.name).collect();
        assert_eq!(names.len(), paths.len());
        for path in paths {
            assert!(!format!("{}{}", path.name, path.unit).contains(','));
            (path.repeat)(2).unwrap();
        }
    }
}

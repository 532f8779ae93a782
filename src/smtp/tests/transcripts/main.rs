//! Replays the dialogues in `tests/transcripts/*.smtp` at the root of the repository.
//!
//! # The format
//! One dialogue per file, `server-*.smtp` for the server session and `client-*.smtp` for the client session.
//! Lines that the test acts on:
//!
//! | line | meaning |
//! |---|---|
//! | `# text` | a comment |
//! | `with: key=value ...` | the configuration of the session; first |
//! | `unsplit: reason` | what stands in one read matters here, so reads are not split |
//! | `C: text` | server files: the client sends the text and CRLF |
//! | `S: text` | client files: the server sends the text and CRLF |
//! | `C< text`, `S< text` | the same without CRLF; `\r`, `\n`, `\0`, `\xNN` and `\\` are escapes |
//! | `! text` | the driver acts: a verdict, or `shutdown`, `send ...` and the like |
//! | `+ text` | a line of the content of `! send`; `+< text` without CRLF and with escapes |
//!
//! Lines that the session must give, in this order: what it sends (`S:` or `C:`), what it asks (`?`) with content
//! (`|`), what it tells the driver to do (`>`).
//!
//! Sending lines that follow one another arrive together. Each dialogue is replayed with every read as it stands,
//! octet by octet, and split in two at every place: the result must be the same.
//!
//! `UPDATE_TRANSCRIPTS=1` rewrites the lines that the session gives; review the difference.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a transcript that cannot be read fails the test"
)]

mod client;
mod script;
mod server;
mod states;
mod together;

use std::fs;
use std::path::{Path, PathBuf};

use script::{Script, Split};

#[test]
fn server_sessions_follow_their_transcripts() {
    check_all("server-", 'C', 60, server::replay);
}

#[test]
fn client_sessions_follow_their_transcripts() {
    check_all("client-", 'S', 60, client::replay);
}

#[test]
fn every_command_in_every_state_is_answered_as_the_table_says() {
    let file = folder().join("server.states");
    let table = states::table();
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        fs::write(&file, &table).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap();
    assert!(written == table, "the sessions answer\n{table}");
}

#[test]
fn the_compliance_table_names_transcripts_that_exist() {
    let table = fs::read_to_string(folder().join("../../docs/compliance.md")).unwrap();
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '*';
    let unescaped = table.replace('\\', "");
    let words = unescaped.split(|c| !is_name(c));
    let named: Vec<&str> = words
        .filter(|word| word.starts_with("server-") || word.starts_with("client-"))
        .collect();
    assert!(named.len() > 40, "only {} are named", named.len());
    for name in named {
        let found = match name.strip_suffix('*') {
            Some(prefix) => !files(prefix).is_empty(),
            None => folder().join(format!("{name}.smtp")).exists(),
        };
        assert!(found, "there is no transcript {name}");
    }
}

/// Checks every file with the prefix; there must be some, or the test proves nothing.
fn check_all(
    prefix: &str,
    reads: char,
    at_least: usize,
    replay: impl Fn(&Script, Split) -> String,
) {
    let files = files(prefix);
    assert!(
        files.len() >= at_least,
        "only {} transcripts of {prefix}*",
        files.len()
    );
    let wrong: Vec<String> = files
        .iter()
        .filter_map(|file| check(file, reads, &replay).err())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check(
    file: &Path,
    reads: char,
    replay: &impl Fn(&Script, Split) -> String,
) -> Result<(), String> {
    let text = fs::read_to_string(file).unwrap();
    let script = Script::parse(&text, reads);
    let name = file.file_name().unwrap().to_string_lossy();
    let whole = replay(&script, Split::None);
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        fs::write(file, &whole).unwrap();
    } else if whole != text {
        return Err(format!(
            "{name}: expected\n{text}\nbut the session gave\n{whole}"
        ));
    }
    if script.may_be_split() {
        let splits = (1..=script.longest_read())
            .map(Split::At)
            .chain([Split::EveryOctet]);
        for split in splits {
            let given = replay(&script, split);
            if given != whole {
                return Err(format!("{name}: with {split:?} the session gave\n{given}"));
            }
        }
    }
    Ok(())
}

fn files(prefix: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(prefix) && name.ends_with(".smtp")
        })
        .collect();
    files.sort();
    files
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts")
}

//! The floor plan, kept true: which member may use which, that the modules of the relay use each
//! other one way, what must never be linked where, and how long functions and files may grow.

#![expect(clippy::unwrap_used, reason = "test code: a panic is how it says no")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Member -> the members it may depend on. Arrows point from IO to purity and never back.
const ARROWS: &[(&str, &[&str])] = &[
    ("postroad-api", &[]),
    ("postroad-config", &[]),
    ("postroad-smtp", &[]),
    ("postroad-spool", &[]),
    ("postroad-telemetry", &[]),
    // It measures strangers' servers too: nothing of ours may be in it.
    ("postroad-bench", &[]),
    (
        "postroad-micro",
        &[
            "postroad-config",
            "postroad-relay",
            "postroad-smtp",
            "postroad-spool",
        ],
    ),
    // Tests and nothing else: nobody can link it.
    ("postroad-simulation", &[]),
    ("postroad-message", &["postroad-smtp"]),
    (
        "postroad-relay",
        &[
            "postroad-config",
            "postroad-message",
            "postroad-smtp",
            "postroad-spool",
            "postroad-telemetry",
        ],
    ),
    (
        "postroad-operator",
        &["postroad-api", "postroad-config", "postroad-telemetry"],
    ),
    (
        "kubectl-postroad",
        &["postroad-api", "postroad-config", "postroad-telemetry"],
    ),
];

/// Member -> crates that must not be anywhere in its tree, and why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "postroad-relay",
        &["kube-client", "kube-core", "k8s-openapi"],
        "pods have no API token",
    ),
    (
        "postroad-relay",
        &["turmoil"],
        "the program has the system's network and clock",
    ),
    (
        "postroad-api",
        &["kube-client", "tokio", "hyper"],
        "types only",
    ),
    (
        "postroad-smtp",
        &["tokio", "socket2", "rustls", "jiff"],
        "no clock, no socket",
    ),
    (
        "postroad-message",
        &["tokio", "socket2"],
        "no socket, no runtime",
    ),
    (
        "postroad-config",
        &["tokio", "socket2", "jiff", "kube-core"],
        "no IO, no clock",
    ),
    ("postroad-spool", &["tokio"], "blocking IO behind one trait"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn cargo(words: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(words).current_dir(root()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn metadata() -> Value {
    let words = [
        "metadata",
        "--format-version=1",
        "--locked",
        "--all-features",
    ];
    serde_json::from_str(&cargo(&words)).unwrap()
}

/// Package name -> names of its normal and build dependencies.
fn dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let name_of: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            (
                package["id"].as_str().unwrap(),
                package["name"].as_str().unwrap(),
            )
        })
        .collect();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let needs = node["deps"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| {
                dependency["dep_kinds"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|kind| {
                        kind["kind"] != "dev" && !kind["target"].to_string().contains("windows")
                    })
            });
        let needs = needs.map(|need| name_of[need["pkg"].as_str().unwrap()].to_owned());
        graph
            .entry(name_of[node["id"].as_str().unwrap()].to_owned())
            .or_default()
            .extend(needs);
    }
    graph
}

/// Everything that a member links when it is built by itself: features are not unified with those of other members.
fn linked(member: &str) -> BTreeSet<String> {
    let words = ["tree", "--locked", "--prefix=none", "--edges=normal,build"];
    let tree = cargo(&[&words[..], &["--package", member]].concat());
    let names = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names.map(ToOwned::to_owned).collect()
}

#[test]
fn arrows_point_from_io_to_purity() {
    let graph = dependencies(&metadata());
    let members: BTreeSet<&str> = ARROWS.iter().map(|(member, _)| *member).collect();
    for (member, allowed) in ARROWS {
        let used: BTreeSet<&str> = graph[*member]
            .iter()
            .map(String::as_str)
            .filter(|name| members.contains(name))
            .collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        assert!(
            used.is_subset(&allowed),
            "{member} uses {used:?}, may use {allowed:?}"
        );
    }
}

#[test]
fn every_member_has_its_arrows_written_down() {
    let metadata = metadata();
    let members: BTreeSet<&str> = metadata["workspace_members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| {
            let packages = metadata["packages"].as_array().unwrap();
            let package = packages
                .iter()
                .find(|package| package["id"] == *id)
                .unwrap();
            package["name"].as_str().unwrap()
        })
        .filter(|name| *name != "postroad-tests")
        .collect();
    let written: BTreeSet<&str> = ARROWS.iter().map(|(member, _)| *member).collect();
    assert_eq!(members, written);
}

#[test]
fn nothing_is_linked_where_it_must_not_be() {
    for (member, forbidden, why) in FORBIDDEN {
        let linked = linked(member);
        assert!(
            linked.contains(*member),
            "the tree of {member} was not found"
        );
        for name in *forbidden {
            assert!(!linked.contains(*name), "{member} links {name}: {why}");
        }
    }
}

/// The licences that `deny.toml` allows: one list, whether cargo-deny is there or not.
fn allowed_licences() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let list = text.split("[licenses]\nallow = [").nth(1).unwrap();
    let list = list.split("\n]").next().unwrap();
    let lines = list.lines().filter(|line| !line.trim().starts_with('#'));
    let quoted = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    quoted.map(ToOwned::to_owned).collect()
}

#[test]
fn licences_are_compatible() {
    let allowed = allowed_licences();
    assert!(allowed.contains("MIT"), "deny.toml was not understood");
    for package in metadata()["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or("none");
        // `A/B` is the old way to write `A OR B`.
        let licence = licence.replace('/', " OR ");
        let ok = licence.split(" AND ").all(|term| {
            let term = term.trim_matches(['(', ')']);
            term.split(" OR ")
                .any(|one| allowed.contains(one.trim_matches(['(', ')', ' '])))
        });
        assert!(ok, "{name}: {licence}");
    }
}

#[test]
fn every_crate_comes_from_crates_io() {
    let metadata = metadata();
    let members = metadata["workspace_members"].as_array().unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        let source = package["source"].as_str();
        // A member has no source.
        let ok = match source {
            None => members.contains(&package["id"]),
            Some(source) => source == "registry+https://github.com/rust-lang/crates.io-index",
        };
        assert!(ok, "{} comes from {source:?}", package["name"]);
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Not part of the program, and used where code asks whether it is simulated.
const SEAM: &str = "simulation";

/// What the code of a module names behind `crate::`, tests apart.
fn named(text: &str) -> BTreeSet<String> {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let behind = code.split("crate::").skip(1);
    let names = behind.flat_map(|rest| match rest.strip_prefix('{') {
        Some(list) => items(list),
        None => vec![rest],
    });
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let whole = names.filter_map(|name| name.trim().split(|c| !is_part(c)).next());
    whole.map(ToOwned::to_owned).collect()
}

/// The items of a list in braces, which may have lists in braces themselves, from behind the first brace.
fn items(list: &str) -> Vec<&str> {
    let (mut items, mut begin, mut depth) = (Vec::new(), 0, 1);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            items.push(&list[begin..at]);
            begin = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    items
}

#[test]
fn what_a_module_uses_is_found_in_lists_of_every_shape() {
    for (code, expected) in [
        ("use crate::a::B;\nuse other::c;", &["a"][..]),
        ("use crate::{a, b::C};\nuse other::{d};", &["a", "b"]),
        (
            "use crate::{\n    a::B,\n    b,\n};\nuse other::d;",
            &["a", "b"],
        ),
        (
            "use crate::{a::{b, c}, d::{e::{f}, g}, h};",
            &["a", "d", "h"],
        ),
        ("let a = crate::a::b(crate::c::D);", &["a", "c"]),
        (
            "// crate::a\nuse crate::b;\n#[cfg(test)]\nmod tests {\nuse crate::c;",
            &["b"],
        ),
    ] {
        let mut found = named(code);
        found.remove("");
        let expected = expected.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(found, expected, "{code}");
    }
}

/// The modules of the relay, and which others each of them uses.
fn modules() -> BTreeMap<String, BTreeSet<String>> {
    let folder = root().join("src/relay/src");
    let mut files = Vec::new();
    sources(&folder, &mut files);
    let is_test = |file: &Path| {
        let mut parts = file.iter().map(|part| part.to_str().unwrap());
        parts.any(|part| matches!(part, "tests" | "tests.rs" | "lib.rs" | "main.rs" | "rig.rs"))
    };
    let mut modules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let path = file.strip_prefix(&folder).unwrap();
        if is_test(path) {
            continue;
        }
        let name = path.iter().next().unwrap().to_str().unwrap();
        let name = name.trim_end_matches(".rs");
        let text = std::fs::read_to_string(&file).unwrap();
        modules
            .entry(name.to_owned())
            .or_default()
            .extend(named(&text));
    }
    modules.remove(SEAM);
    let names: BTreeSet<String> = modules.keys().cloned().collect();
    for (name, used) in &mut modules {
        used.retain(|other| other != name && names.contains(other));
    }
    modules
}

/// Who uses nobody is in no circle, nor is whom nobody uses: without them again and again, the circles are left, and what lies between.
#[test]
fn the_modules_of_the_relay_use_each_other_one_way() {
    let mut left = modules();
    assert!(left.len() > 40, "the modules were not found");
    assert!(left["queue"].contains("schedule"), "what they use was not");
    loop {
        let before = left.len();
        let names: BTreeSet<String> = left.keys().cloned().collect();
        let used: BTreeSet<String> = left.values().flatten().cloned().collect();
        left.retain(|name, uses| {
            uses.retain(|other| names.contains(other));
            !uses.is_empty() && used.contains(name)
        });
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn files_stay_readable() {
    /// Without tests; the style guide's soft bound is 400.
    const LINES_MAX: usize = 600;
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    assert!(files.len() > 50, "the sources were not found");
    for file in files {
        if file.ends_with("tests.rs") || file.ends_with("sim.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = code.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", file.display());
    }
}

#[test]
fn the_compliance_table_names_tests_that_exist() {
    let table = std::fs::read_to_string(root().join("docs/compliance.md")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with('|'));
    let tests = rows.filter_map(|row| row.rsplit('|').nth(1));
    // Names of functions, and of modules of tests; transcripts stand there without quotes.
    let named: Vec<&str> = tests
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert!(named.len() > 40, "only {} are named", named.len());
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    let texts = files.iter().map(|file| {
        let text = std::fs::read_to_string(file).unwrap();
        (file.as_path(), text)
    });
    let texts: Vec<(&Path, String)> = texts.collect();
    for name in named {
        let module = name
            .strip_suffix("::tests")
            .map(|module| module.replace("::", "/"));
        let found = texts.iter().any(|(file, text)| match &module {
            Some(module) => is_module(file, module) && text.contains("\nmod tests"),
            None => text.contains(&format!("fn {name}(")),
        });
        assert!(found, "there is no test {name}");
    }
}

/// Whether a file is the root of a module, or of a member, by the end of its path.
fn is_module(file: &Path, module: &str) -> bool {
    let ends = [format!("{module}.rs"), format!("{module}/src/lib.rs")];
    ends.iter().any(|end| file.ends_with(end))
}

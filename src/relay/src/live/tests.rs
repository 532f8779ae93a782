use super::*;
use crate::rig::CONFIG;

#[test]
fn a_file_that_is_missing_is_none_and_one_that_cannot_be_read_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let credentials = path("credentials.yaml");
    let config = CONFIG.replace("/nowhere/credentials.yaml", credentials.to_str().unwrap());
    std::fs::write(path("relay.yaml"), config).unwrap();
    let read = || Files::read(&path("relay.yaml"));
    let (files, _) = read().unwrap();
    assert_eq!(files.get(&credentials), None);
    // Nobody can read it, root neither.
    std::fs::create_dir(&credentials).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("credentials.yaml"), "{error}");
    std::fs::remove_dir(&credentials).unwrap();
    std::fs::write(&credentials, "credentials: []").unwrap();
    let (files, _) = read().unwrap();
    assert!(files.get(&credentials).is_some());
}

#[test]
fn what_only_a_new_process_takes_up_is_named_and_keeps_nothing_else_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.yaml");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Files::read(&path).unwrap()
    };
    let (files, config) = read(CONFIG);
    let first = resolve(&files, config, None);
    assert_eq!(first.status.awaits_restart, [""; 0]);
    for (before, after, field) in [
        (
            "persistent: true",
            "persistent: true, mode: Passthrough",
            "spool.mode",
        ),
        (
            "persistent: true",
            "persistent: true, bytesMax: 1000000000",
            "spool.bytesMax",
        ),
        ("persistent: true", "persistent: false", "spool"),
        (
            "memoryBytes: 2000000",
            "memoryBytes: 4000000",
            "limits.memoryBytes",
        ),
        (
            "admin: {listen: '127.0.0.1:0'",
            "admin: {listen: '127.0.0.1:1'",
            "admin.listen",
        ),
        (
            "health: {listen: '127.0.0.1:0'",
            "health: {listen: '127.0.0.1:1'",
            "health.listen",
        ),
    ] {
        let text = CONFIG
            .replace(before, after)
            .replace("recipients: 1000", "recipients: 7");
        let (files, config) = read(&text);
        let second = resolve(&files, config.clone(), Some(&first));
        assert_eq!(second.status.awaits_restart, [field]);
        let mut expected = first.config.clone();
        expected.limits.recipients = 7;
        assert_eq!(second.config, expected, "{field}");
        assert_eq!(second.status.hash, sha256(text.as_bytes()));
        // It is so until the file says again what the process has started with.
        let third = resolve(&files, config, Some(&second));
        assert_eq!(third.status.awaits_restart, [field]);
        let (files, config) = read(CONFIG);
        let last = resolve(&files, config, Some(&third));
        assert_eq!(last.status.awaits_restart, [""; 0]);
        assert_eq!(last.config, first.config);
    }
}

#[test]
fn no_message_is_offered_to_be_taken_that_the_memory_of_this_process_has_no_room_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.yaml");
    let resolve = |text: &str, before: Option<&Live>| {
        std::fs::write(&path, text).unwrap();
        let (files, config) = Files::read(&path).unwrap();
        resolve(&files, config, before)
    };
    let first = resolve(CONFIG, None);
    let text = CONFIG.replace("messageBytes: 1000000", "messageBytes: 100000000");
    let text = text.replace("memoryBytes: 2000000", "memoryBytes: 200000000");
    let second = resolve(&text, Some(&first));
    let limits = second.config.limits;
    assert_eq!(limits.message_bytes, memory::message_max(2_000_000));
    let fields = ["limits.memoryBytes", "limits.messageBytes"];
    assert_eq!(second.status.awaits_restart, fields);
}

//! The custom resource definitions on a real API server: what it takes, what it refuses, and that the refusal says what to do.
//!
//! `src/api/testdata/{accept,reject,update}` holds a file per case, and what `deploy/samples` shows has to be taken, too. The first line
//! of a file that is to be refused says what the message must contain. Needs KUBECONFIG and the definitions of `crds/` installed there: `make cluster-test` sees to both.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code: a panic is how it says no, and people read the count"
)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use harness::kubernetes::Namespace;
use kube::Client;
use kube::api::{GetParams, PostParams};
use kube::core::Request;
use serde_json::Value;

/// Fewer files than these mean that they were not found.
const ACCEPTED_MIN: usize = 20;
const SAMPLES_MIN: usize = 4;
const REFUSED_MIN: usize = 100;
const CHANGES_MIN: usize = 6;

/// Where the cases are.
const TESTDATA: &str = "src/api/testdata";

/// One file: its objects, and what the refusal of the last one must say.
struct Case {
    name: String,
    expect: Option<String>,
    objects: Vec<Value>,
}

/// What the API server answered to one object: the object as stored, or its message.
type Answer = Result<Value, String>;

/// Writes to one namespace of the API server.
struct Server {
    client: Client,
    namespace: Namespace,
    begin: Instant,
}

/// Whether anything stays behind.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Write {
    ForReal,
    Try,
}

#[tokio::test]
async fn takes_what_can_work() {
    let server = Server::open("accept").await;
    let mut cases = cases(TESTDATA, "accept", ACCEPTED_MIN);
    cases.extend(self::cases("deploy", "samples", SAMPLES_MIN));
    let mut faults = Vec::new();
    for case in &cases {
        // Samples have Secrets beside them.
        for object in case
            .objects
            .iter()
            .filter(|object| object["kind"] != "Secret")
        {
            if let Err(message) = server.create(object, Write::Try).await {
                faults.push(format!("{}: refused: {message}", case.name));
            }
        }
    }
    server
        .close(cases.len(), "resources accepted", &faults)
        .await;
}

#[tokio::test]
async fn refuses_what_cannot_work_and_says_what_to_do() {
    let server = Server::open("reject").await;
    let cases = cases(TESTDATA, "reject", REFUSED_MIN);
    let mut faults = Vec::new();
    for case in &cases {
        let [object] = &case.objects[..] else {
            faults.push(format!("{}: not one object", case.name));
            continue;
        };
        faults.extend(case.fault(server.create(object, Write::Try).await));
    }
    server
        .close(cases.len(), "resources refused", &faults)
        .await;
}

#[tokio::test]
async fn refuses_changes_that_would_strand_a_queue() {
    let server = Server::open("update").await;
    let cases = cases(TESTDATA, "update", CHANGES_MIN);
    let mut faults = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let [before, after] = &case.objects[..] else {
            faults.push(format!("{}: not two objects", case.name));
            continue;
        };
        // One name per case: none has to go before the next can come.
        let (mut before, mut after) = (before.clone(), after.clone());
        before["metadata"]["name"] = format!("update-{number}").into();
        after["metadata"]["name"] = before["metadata"]["name"].clone();
        match server.create(&before, Write::ForReal).await {
            Ok(_) => faults.extend(case.fault(server.replace(after).await)),
            Err(message) => faults.push(format!("{}: refused at once: {message}", case.name)),
        }
    }
    server.close(cases.len(), "changes refused", &faults).await;
}

impl Server {
    async fn open(name: &str) -> Self {
        let begin = Instant::now();
        Self {
            client: Client::try_default().await.unwrap(),
            namespace: Namespace::create(name).await,
            begin,
        }
    }

    async fn create(&self, object: &Value, write: Write) -> Answer {
        let parameters = PostParams {
            dry_run: write == Write::Try,
            ..PostParams::default()
        };
        let request = Request::new(self.path(object))
            .create(&parameters, serde_json::to_vec(object).unwrap());
        let mut request = request.unwrap();
        // As kubectl does it: a field that the schema does not know is a mistake.
        let address = format!("{}&fieldValidation=Strict", request.uri());
        *request.uri_mut() = address.parse().unwrap();
        answer(self.client.request(request).await)
    }

    /// Tries the change on what is there now. The operator writes its status meanwhile: then once more.
    async fn replace(&self, mut object: Value) -> Answer {
        let resource = Request::new(self.path(&object));
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        loop {
            let get = resource.get(&name, &GetParams::default()).unwrap();
            let now: Value = self.client.request(get).await.unwrap();
            object["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
            let body = serde_json::to_vec(&object).unwrap();
            let replace = resource.replace(&name, &dry, body).unwrap();
            match self.client.request(replace).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                result => return answer(result),
            }
        }
    }

    fn path(&self, object: &Value) -> String {
        let plural = match object["kind"].as_str().unwrap() {
            "SmtpRelay" => "smtprelays",
            "SmtpCredential" => "smtpcredentials",
            other => panic!("no kind of ours: {other}"),
        };
        let version = object["apiVersion"].as_str().unwrap();
        let namespace = self.namespace.name();
        format!("/apis/{version}/namespaces/{namespace}/{plural}")
    }

    async fn close(self, count: usize, what: &str, faults: &[String]) {
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        println!("{count} {what} in {:.1?}", self.begin.elapsed());
        self.namespace.delete().await;
    }
}

/// A server that is not reached has refused nothing.
fn answer(result: Result<Value, kube::Error>) -> Answer {
    match result {
        Ok(object) => Ok(object),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("no answer: {error}"),
    }
}

impl Case {
    /// What is wrong with an answer that should be a refusal.
    fn fault(&self, answer: Answer) -> Option<String> {
        let name = &self.name;
        let Some(expect) = &self.expect else {
            return Some(format!("{name}: the first line must be `# expect: TEXT`"));
        };
        match answer {
            Ok(_) => Some(format!("{name}: accepted")),
            Err(message) if message.contains(expect) => None,
            Err(message) => Some(format!("{name}: expected \"{expect}\", got \"{message}\"")),
        }
    }
}

fn cases(parent: &str, folder: &str, at_least: usize) -> Vec<Case> {
    let folder = harness::root().join(parent).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= at_least, "{} in {folder:?}", paths.len());
    paths.iter().map(|path| case(path)).collect()
}

fn case(path: &Path) -> Case {
    let text = std::fs::read_to_string(path).unwrap();
    let first = text.lines().next().unwrap_or_default();
    Case {
        name: path.file_name().unwrap().to_string_lossy().into_owned(),
        expect: first.strip_prefix("# expect: ").map(ToOwned::to_owned),
        objects: serde_saphyr::from_multiple(&text).unwrap(),
    }
}

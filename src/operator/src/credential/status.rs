//! What to say about a credential.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _};
use postroad_api::{Binding, SmtpCredential, SmtpCredentialStatus};
use postroad_config::Credentials;
use serde_json::json;

use super::apply::Applied;
use super::dereference::{Found, FoundRelay};
use super::validate::Refusal;
use crate::context::{Context, CredentialsInForce};
use crate::controller::{condition, merge_conditions, string_at};
use crate::credentials_file::{self, Proofs};
use crate::digest;
use crate::events::Notice;
use crate::names::{KEY_CREDENTIALS, MANAGER_STATUS};

/// Why a status could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot write the status of {name}")]
    Write { name: String, source: kube::Error },
}

/// A status without the times of its conditions, and what goes with it.
pub(super) struct Verdict {
    conditions: Vec<Condition>,
    binding: Option<Binding>,
    notices: Vec<Notice>,
    at_rest: bool,
}

/// Whether the relay honours the login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Honoured {
    /// Every ready replica does.
    Everywhere,
    /// Not yet.
    NotYet,
    /// Not every replica has been asked or has answered.
    Unknown,
}

/// For a credential whose Secret is there.
pub(super) fn applied(
    credential: &SmtpCredential,
    applied: &Applied,
    found: &Found,
    proofs: &Proofs,
) -> Verdict {
    let generation = generation(credential);
    let honoured = honoured(applied, found.relay.as_ref(), proofs);
    let accepted = condition(
        "Accepted",
        Some(true),
        "Accepted",
        "the relay allows this login",
        generation,
    );
    let ready = match (honoured, earlier(credential, "Ready")) {
        (Honoured::Everywhere, _) => {
            let message = "the Secret is there, and every ready replica of the relay honours it";
            condition("Ready", Some(true), "Honoured", message, generation)
        }
        // What was true is true until a replica says otherwise.
        (Honoured::Unknown, Some(before)) if before.status == "True" => condition(
            "Ready",
            Some(true),
            &before.reason,
            &before.message,
            generation,
        ),
        _ => {
            let message = "waiting for the replicas of the relay to honour the login";
            condition("Ready", Some(false), "Spreading", message, generation)
        }
    };
    let mut notices = Vec::new();
    if applied.created {
        let note = format!("Made Secret {:?}", applied.validated.secret_name);
        notices.push(Notice::normal("SecretCreated", "Bind", note));
    }
    Verdict {
        conditions: vec![accepted, ready],
        binding: Some(Binding {
            name: applied.validated.secret_name.clone(),
        }),
        notices,
        at_rest: honoured == Honoured::Everywhere,
    }
}

fn honoured(applied: &Applied, relay: Option<&FoundRelay>, proofs: &Proofs) -> Honoured {
    let Some(relay) = relay else {
        return Honoured::NotYet;
    };
    let text = relay
        .credentials
        .as_ref()
        .and_then(|secret| string_at(secret, KEY_CREDENTIALS));
    let Some(text) = text else {
        return Honoured::NotYet;
    };
    let is_proven = Credentials::parse(&text).is_ok_and(|file| {
        credentials_file::proven(&file, &applied.username, &applied.password, proofs).is_some()
    });
    match &relay.in_force {
        _ if !is_proven => Honoured::NotYet,
        CredentialsInForce::Unknown => Honoured::Unknown,
        CredentialsInForce::Everywhere(file) if *file == digest::of(text.as_bytes()) => {
            Honoured::Everywhere
        }
        CredentialsInForce::Everywhere(_) | CredentialsInForce::None => Honoured::NotYet,
    }
}

/// For a credential that is refused. A Secret that it has stays, and the relay's file decides whether it works.
pub(super) fn refused(credential: &SmtpCredential, refusal: &Refusal) -> Verdict {
    let Refusal { reason, message } = refusal;
    let said = |kind| condition(kind, Some(false), reason, message, generation(credential));
    Verdict {
        conditions: vec![said("Accepted"), said("Ready")],
        binding: None,
        notices: Vec::new(),
        // A relay wakes its credentials when it appears or changes.
        at_rest: true,
    }
}

/// Writes a status, if it differs, and publishes what has happened. Says whether nothing moves.
pub(super) async fn update(
    context: &Context,
    credential: &SmtpCredential,
    verdict: Verdict,
    now: Timestamp,
) -> Result<bool, Error> {
    let Verdict {
        conditions,
        binding,
        mut notices,
        at_rest,
    } = verdict;
    let before = credential
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    let before = before.unwrap_or_default();
    notices.extend(transition(before, &conditions));
    let status = SmtpCredentialStatus {
        observed_generation: Some(generation(credential)),
        conditions: merge_conditions(before, conditions, now),
        binding,
    };
    context
        .announcer
        .announce(&credential.object_ref(&()), notices)
        .await;
    write(context, credential, &status).await?;
    Ok(at_rest)
}

/// The event of a change of readiness.
fn transition(before: &[Condition], now: &[Condition]) -> Option<Notice> {
    let find = |conditions: &[Condition], kind: &str| {
        let mut conditions = conditions.iter();
        conditions
            .find(|condition| condition.type_ == kind)
            .cloned()
    };
    let (was, is) = (find(before, "Ready"), find(now, "Ready")?);
    let accepted = find(now, "Accepted")?;
    if was.is_some_and(|was| was.status == is.status && was.reason == is.reason) {
        None
    } else if accepted.status == "False" {
        let note = format!("{}: {}", accepted.reason, accepted.message);
        Some(Notice::warning("NotAccepted", "Bind", note))
    } else if is.status == "True" {
        Some(Notice::normal("Ready", "Bind", is.message))
    } else {
        None
    }
}

async fn write(
    context: &Context,
    credential: &SmtpCredential,
    status: &SmtpCredentialStatus,
) -> Result<(), Error> {
    if credential.status.as_ref() == Some(status) {
        return Ok(());
    }
    let name = credential.metadata.name.as_deref().unwrap_or_default();
    let namespace = credential.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<SmtpCredential> = Api::namespaced(context.client.clone(), namespace);
    let patch = json!({
        "apiVersion": SmtpCredential::api_version(&()),
        "kind": SmtpCredential::kind(&()),
        "metadata": {"name": name},
        "status": status,
    });
    let params = PatchParams::apply(MANAGER_STATUS).force();
    match api.patch_status(name, &params, &Patch::Apply(patch)).await {
        Ok(_) => {
            context.metrics.wrote("SmtpCredential/status");
            Ok(())
        }
        // Deleted meanwhile.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(Error::Write {
            name: name.to_owned(),
            source,
        }),
    }
}

fn generation(credential: &SmtpCredential) -> i64 {
    credential.metadata.generation.unwrap_or_default()
}

fn earlier<'a>(credential: &'a SmtpCredential, kind: &str) -> Option<&'a Condition> {
    let status = credential.status.as_ref()?;
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
}

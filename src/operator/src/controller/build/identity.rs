//! The certificates of a relay: its authority, the one for SMTP clients, the one of its admin API.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use postroad_config::status::ADMIN_SERVER_NAME;

use super::{Error, secret};
use crate::certificate::{self, Outcome, Pair, Usage, Wanted, inspect};
use crate::controller::dereference::Found;
use crate::controller::validate::{Certificate, Validated};
use crate::events::Notice;

/// The certificates of a relay.
pub(in crate::controller) enum Identity {
    Established {
        authority: Pair,
        admin: Pair,
        /// `None` where the user provides it.
        tls: Option<Pair>,
    },
    /// The authority exists and cannot be read: it is left for people to look at, and so is
    /// everything it has signed.
    Unreadable { problem: String },
}

/// Keeps, issues and renews.
pub(super) fn establish(
    validated: &Validated,
    found: &Found,
    now: Timestamp,
    notices: &mut Vec<Notice>,
) -> Result<Identity, Error> {
    let id = &validated.id;
    let common_name = format!("{}.{} Postroad CA", id.name, id.namespace);
    let existing = found.own_pair(id, &id.authority());
    let authority = match certificate::authority(existing.as_ref(), &common_name, now) {
        Ok(outcome) => take(outcome, "certificate authority", notices),
        Err(certificate::Error::Unreadable(problem)) => {
            return Ok(Identity::Unreadable { problem });
        }
        Err(error) => return Err(error.into()),
    };
    let admin = Wanted {
        common_name: ADMIN_SERVER_NAME.into(),
        names: vec![ADMIN_SERVER_NAME.into()],
        usage: Usage::Server,
    };
    let existing = found.own_pair(id, &id.admin());
    let admin = certificate::leaf(&authority, existing.as_ref(), &admin, now)?
        .pair()
        .clone();
    let tls = match &validated.certificate {
        Certificate::Provided { .. } => None,
        Certificate::SelfSigned { names } => {
            let wanted = Wanted {
                common_name: validated.host.clone(),
                names: names.clone(),
                usage: Usage::Server,
            };
            let existing = found.own_pair(id, &id.tls());
            let outcome = certificate::leaf(&authority, existing.as_ref(), &wanted, now)?;
            Some(take(outcome, "certificate", notices))
        }
    };
    Ok(Identity::Established {
        authority,
        admin,
        tls,
    })
}

/// The pair, and a notice if it is new.
fn take(outcome: Outcome, what: &str, notices: &mut Vec<Notice>) -> Pair {
    let until = |pair: &Pair| match inspect(&pair.certificate) {
        Ok(inspected) => inspected.not_after.to_string(),
        Err(problem) => problem,
    };
    match outcome {
        Outcome::Kept(pair) => pair,
        Outcome::Issued(pair) => {
            let note = format!("Issued the {what}, valid until {}", until(&pair));
            notices.push(Notice::normal("CertificateIssued", "Issue", note));
            pair
        }
        Outcome::Renewed(pair, why) => {
            let note = format!(
                "Renewed the {what} because {why}; valid until {}",
                until(&pair)
            );
            notices.push(Notice::normal("CertificateRenewed", "Renew", note));
            pair
        }
    }
}

/// The Secrets that hold the certificates.
pub(super) fn secrets(validated: &Validated, identity: &Identity) -> Vec<Secret> {
    let id = &validated.id;
    let Identity::Established {
        authority,
        admin,
        tls,
    } = identity
    else {
        return Vec::new();
    };
    let mut secrets = vec![
        secret::certificate(id, id.authority(), authority, authority),
        secret::certificate(id, id.admin(), admin, authority),
    ];
    secrets.extend(
        tls.iter()
            .map(|tls| secret::certificate(id, id.tls(), tls, authority)),
    );
    secrets
}

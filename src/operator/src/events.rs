//! Events: what happened, for `kubectl describe`.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::names::OPERATOR;

/// Something that happened to an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Notice {
    pub(crate) kind: NoticeKind,
    /// One word for machines.
    pub(crate) reason: &'static str,
    /// What the operator was doing.
    pub(crate) action: &'static str,
    /// One line for people; no secrets.
    pub(crate) note: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoticeKind {
    Normal,
    Warning,
}

impl Notice {
    pub(crate) fn normal(
        reason: &'static str,
        action: &'static str,
        note: impl Into<String>,
    ) -> Self {
        Self {
            kind: NoticeKind::Normal,
            reason,
            action,
            note: note.into(),
        }
    }

    pub(crate) fn warning(
        reason: &'static str,
        action: &'static str,
        note: impl Into<String>,
    ) -> Self {
        Self {
            kind: NoticeKind::Warning,
            ..Self::normal(reason, action, note)
        }
    }
}

/// The API takes 1 kB.
const NOTE_MAX: usize = 1000;

/// Publishes events. One for the whole process: it folds repetitions into series.
#[derive(Clone)]
pub(crate) struct Announcer(Recorder);

impl Announcer {
    pub(crate) fn new(client: Client) -> Self {
        Self(Recorder::new(client, Reporter::from(OPERATOR)))
    }

    /// Publishes; an event that cannot be published is logged and forgotten, since no behaviour hangs on it.
    pub(crate) async fn announce(&self, object: &ObjectReference, notices: Vec<Notice>) {
        for notice in notices {
            let Notice {
                kind,
                reason,
                action,
                note,
            } = notice;
            tracing::info!(
                reason,
                note,
                namespace = object.namespace,
                name = object.name,
                "event"
            );
            let event = Event {
                type_: match kind {
                    NoticeKind::Normal => EventType::Normal,
                    NoticeKind::Warning => EventType::Warning,
                },
                reason: reason.into(),
                note: Some(note.chars().take(NOTE_MAX).collect()),
                action: action.into(),
                secondary: None,
            };
            if let Err(error) = self.0.publish(&event, object).await {
                tracing::warn!(%error, reason, "cannot publish an event");
            }
        }
    }
}

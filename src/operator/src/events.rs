//! Events: what happened, for `kubectl describe`.
//!
//! What is said again about the same object, word for word, becomes a series of one event. kube's
//! `Recorder` folds by reason and action alone and so goes on showing the first note of a series;
//! here a note that differs is an event of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::events::Reporter;
use kube::{Api, Client};

use crate::context::lock;
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

/// Bytes; the API takes less than 1 kB.
const NOTE_MAX: usize = 1000;
/// Said again later than this, it is another event: the API server forgets events after an hour.
const SERIES_GAP: SignedDuration = SignedDuration::from_mins(6);
/// Events kept to be folded; each is some kB. Past it all begin anew.
const SERIES_MAX: usize = 5_000;

/// Publishes events. One for the whole process: it folds repetitions into series.
#[derive(Clone)]
pub(crate) struct Announcer {
    client: Client,
    reporter: Reporter,
    published: Arc<Mutex<Published>>,
}

impl Announcer {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            reporter: Reporter::from(OPERATOR),
            published: Arc::default(),
        }
    }

    /// Publishes; an event that cannot be published is logged and forgotten, since no behaviour hangs on it.
    pub(crate) async fn announce(&self, object: &ObjectReference, notices: Vec<Notice>) {
        for notice in notices {
            let Notice { reason, note, .. } = &notice;
            tracing::info!(
                reason,
                note,
                namespace = object.namespace,
                name = object.name,
                "event"
            );
            let event = event(&self.reporter, object, &notice, Timestamp::now());
            if let Err(error) = self.publish(event).await {
                tracing::warn!(%error, reason, "cannot publish an event");
            }
        }
    }

    async fn publish(&self, event: Event) -> Result<(), kube::Error> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let series = lock(&self.published).series(&event);
        if let Some(series) = series {
            let name = series.metadata.name.as_deref().unwrap_or_default();
            let patch = Patch::Merge(&series);
            match api.patch(name, &PatchParams::default(), &patch).await {
                // Somebody has deleted it: it begins anew.
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    lock(&self.published).record(series);
                    return Ok(());
                }
            }
        }
        api.create(&PostParams::default(), &event).await?;
        lock(&self.published).record(event);
        Ok(())
    }
}

/// What an event says: one that differs in any of it is another one.
#[derive(Debug, Eq, Hash, PartialEq)]
struct Said {
    object: Option<String>,
    kind: Option<String>,
    reason: Option<String>,
    action: Option<String>,
    note: Option<String>,
}

impl Said {
    fn by(event: &Event) -> Self {
        Self {
            // Names are used again, these are not.
            object: event
                .regarding
                .as_ref()
                .and_then(|object| object.uid.clone()),
            kind: event.type_.clone(),
            reason: event.reason.clone(),
            action: event.action.clone(),
            note: event.note.clone(),
        }
    }
}

/// What was published lately.
#[derive(Default)]
struct Published(HashMap<Said, Event>);

impl Published {
    /// The event that was published with the same words, one repetition longer.
    fn series(&mut self, event: &Event) -> Option<Event> {
        let now = event.event_time.as_ref()?.0;
        self.0
            .retain(|_, earlier| last(earlier).is_some_and(|last| now < last + SERIES_GAP));
        let mut earlier = self.0.get(&Said::by(event))?.clone();
        let count = earlier.series.map_or(1, |series| series.count);
        earlier.series = Some(EventSeries {
            count: count.saturating_add(1),
            last_observed_time: MicroTime(now),
        });
        Some(earlier)
    }

    fn record(&mut self, event: Event) {
        if self.0.len() >= SERIES_MAX {
            self.0.clear();
        }
        self.0.insert(Said::by(&event), event);
    }
}

fn last(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref();
    let last = series.map(|series| &series.last_observed_time);
    Some(last.or(event.event_time.as_ref())?.0)
}

fn event(reporter: &Reporter, object: &ObjectReference, notice: &Notice, now: Timestamp) -> Event {
    let Notice {
        kind,
        reason,
        action,
        note,
    } = notice;
    let Reporter {
        controller,
        instance,
    } = reporter;
    let name = object.name.as_deref().unwrap_or(OPERATOR);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: object.namespace.clone(),
            ..ObjectMeta::default()
        },
        type_: Some(
            match kind {
                NoticeKind::Normal => "Normal",
                NoticeKind::Warning => "Warning",
            }
            .into(),
        ),
        reason: Some((*reason).into()),
        action: Some((*action).into()),
        note: Some(note[..note.floor_char_boundary(NOTE_MAX)].to_owned()),
        event_time: Some(MicroTime(now)),
        regarding: Some(object.clone()),
        reporting_controller: Some(controller.clone()),
        reporting_instance: Some(instance.clone().unwrap_or_else(|| controller.clone())),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(notice: &Notice, uid: &str, second: i64) -> Event {
        let object = ObjectReference {
            name: Some("mail".into()),
            uid: Some(uid.into()),
            ..ObjectReference::default()
        };
        let now = Timestamp::from_second(second).unwrap();
        event(&Reporter::from(OPERATOR), &object, notice, now)
    }

    #[test]
    fn only_what_is_said_again_word_for_word_is_folded() {
        let failing = |note: &str| Notice::warning("UpstreamFailing", "Deliver", note);
        let mut published = Published::default();
        for (notice, uid, second, count) in [
            (failing("login refused"), "1", 0, None),
            (failing("login refused"), "1", 10, Some(2)),
            (failing("name not found"), "1", 20, None),
            (failing("login refused"), "1", 30, Some(3)),
            (failing("login refused"), "2", 40, None),
            (
                Notice::normal("UpstreamFailing", "Deliver", "login refused"),
                "1",
                50,
                None,
            ),
            (
                Notice::warning("UpstreamFailing", "Keep", "login refused"),
                "1",
                60,
                None,
            ),
            // The series has ended.
            (failing("login refused"), "1", 30 + 6 * 60, None),
        ] {
            let event = said(&notice, uid, second);
            let series = published.series(&event);
            let counted = series.as_ref().map(|series| {
                assert_eq!(series.note, event.note);
                series.series.as_ref().unwrap().count
            });
            assert_eq!(counted, count, "{notice:?} at {second}");
            published.record(series.unwrap_or(event));
        }
    }

    #[test]
    fn a_note_is_cut_to_what_the_api_takes() {
        for (written, bytes) in [("ä", 1000), ("€", 999)] {
            let long = Notice::normal("Accepted", "Accept", written.repeat(NOTE_MAX));
            assert_eq!(said(&long, "1", 0).note.unwrap().len(), bytes);
        }
    }
}

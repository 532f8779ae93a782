//! Who has to be looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::Stream;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc;

use super::{Credential, Relay};

/// References that wait to be taken up. The controllers take them at once and fold repetitions, so this is only
/// ever used up for a moment; then watches wait.
const QUEUE: usize = 1024;

/// A part of the cluster that is watched: one namespace, or all of them.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Scope {
    All,
    Namespace(String),
}

impl Scope {
    /// What the command line asks for.
    pub(crate) fn parse(namespaces: &[String]) -> Vec<Self> {
        let mut scopes: Vec<_> = namespaces
            .iter()
            .map(|namespace| namespace.trim())
            .filter(|namespace| !namespace.is_empty())
            .map(|namespace| Self::Namespace(namespace.to_owned()))
            .collect();
        scopes.sort();
        scopes.dedup();
        if scopes.is_empty() {
            scopes.push(Self::All);
        }
        scopes
    }

    pub(crate) fn holds(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(own) => own == namespace,
        }
    }
}

/// An object to look at.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Target {
    Relay { namespace: String, name: String },
    Credential { namespace: String, name: String },
}

#[derive(Clone)]
struct Senders {
    relays: mpsc::Sender<ObjectRef<Relay>>,
    credentials: mpsc::Sender<ObjectRef<Credential>>,
}

/// The way to the controllers.
#[derive(Clone)]
pub(crate) struct Triggers(Arc<BTreeMap<Scope, Senders>>);

/// The controllers' end, for one scope.
pub(crate) struct Receivers {
    pub(crate) relays: mpsc::Receiver<ObjectRef<Relay>>,
    pub(crate) credentials: mpsc::Receiver<ObjectRef<Credential>>,
}

impl Triggers {
    pub(crate) fn new(scopes: &[Scope]) -> (Self, BTreeMap<Scope, Receivers>) {
        let mut senders = BTreeMap::new();
        let mut receivers = BTreeMap::new();
        for scope in scopes {
            let (relays, relays_end) = mpsc::channel(QUEUE);
            let (credentials, credentials_end) = mpsc::channel(QUEUE);
            senders.insert(
                scope.clone(),
                Senders {
                    relays,
                    credentials,
                },
            );
            let ends = Receivers {
                relays: relays_end,
                credentials: credentials_end,
            };
            receivers.insert(scope.clone(), ends);
        }
        (Self(Arc::new(senders)), receivers)
    }

    /// Has each target looked at. What lies outside the scopes is nobody's.
    pub(crate) async fn wake(&self, targets: Vec<Target>) {
        for target in targets {
            // A receiver is gone only when everything stops.
            match target {
                Target::Relay { namespace, name } => {
                    if let Some(senders) = self.senders(&namespace) {
                        let reference = ObjectRef::new(&name).within(&namespace);
                        let _ = senders.relays.send(reference).await;
                    }
                }
                Target::Credential { namespace, name } => {
                    if let Some(senders) = self.senders(&namespace) {
                        let reference = ObjectRef::new(&name).within(&namespace);
                        let _ = senders.credentials.send(reference).await;
                    }
                }
            }
        }
    }

    fn senders(&self, namespace: &str) -> Option<&Senders> {
        let mut scopes = self.0.iter();
        scopes.find_map(|(scope, senders)| scope.holds(namespace).then_some(senders))
    }
}

/// A channel as the stream that a controller wants.
pub(crate) fn stream<T>(mut receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> {
    futures::stream::poll_fn(move |context| receiver.poll_recv(context))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_namespaces_means_all() {
        let parse = |names: &[&str]| {
            Scope::parse(
                &names
                    .iter()
                    .map(|&name| name.to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(parse(&[]), [Scope::All]);
        assert_eq!(parse(&[""]), [Scope::All]);
        assert_eq!(
            parse(&["b", " a", "b"]),
            [Scope::Namespace("a".into()), Scope::Namespace("b".into())]
        );
    }
}

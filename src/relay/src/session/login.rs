//! Who a client is, and what it may do for that.

use std::sync::Arc;

use postroad_config::{Credentials, Listener, Verifier};
use postroad_smtp::Password;
use postroad_smtp::server::Verdict;
use tokio::time::Instant;

use super::Driver;
use crate::blocking;
use crate::connections::{Displaced, Standing};
use crate::guesses::Log;
use crate::live::Live;
use crate::policy::{self, Relaying};
use crate::refusal::Refusal;

impl Driver<'_> {
    /// Does the password prove the name? A wrong one is answered late.
    pub(super) async fn authenticate(&mut self, username: String, password: Password) -> Verdict {
        let live = self.context.live();
        let (known, name) = (Arc::clone(&live), username.clone());
        // About a millisecond of hashing: not on the threads that move everybody's bytes.
        let checked = blocking::run(move || check(&known, &name, &password)).await;
        match checked {
            Ok(Some(proof)) => {
                self.proof = Some(proof);
                self.vouch()
            }
            Ok(None) => {
                let user = loggable(&live.credentials, &username);
                self.hold_back(user).await;
                Verdict::Refuse(Refusal::LoginFailed.reply())
            }
            Err(_) => Verdict::Refuse(Refusal::LoginUnavailable.reply()),
        }
    }

    /// A login was wrong: counts it, and waits so that guessing is slow.
    async fn hold_back(&self, user: &str) {
        self.context.metrics.authentication_failures.inc();
        let failure = self.context.guesses.failed(self.peer, Instant::now());
        if let Log::Line(failures) = failure.log {
            tracing::warn!(peer = %self.peer, user, failures,
                listener = self.listener.name.as_str(), "login refused");
        }
        tokio::time::sleep(failure.delay).await;
    }

    /// The client may relay, and keeps its connection, unless that has been given to someone else just now.
    pub(super) fn vouch(&mut self) -> Verdict {
        if self.standing == Standing::Known {
            return Verdict::Accept;
        }
        match self.admitted.vouch() {
            Ok(()) => {
                self.standing = Standing::Known;
                Verdict::Accept
            }
            Err(Displaced) => Verdict::Refuse(Refusal::ConnectionsFull.reply()),
        }
    }

    /// Whether this client may relay, as things are now.
    pub(super) fn relaying(&self, live: &Live) -> Result<Relaying, Refusal> {
        if !self.is_as_configured(live) {
            return Err(Refusal::ListenerChanged);
        }
        let authenticated = match &self.session.peer().user {
            Some(user) if !self.is_still_valid(live, user) => return Err(Refusal::LoginRevoked),
            user => user.is_some(),
        };
        let networks = &live.config.access.trusted_networks;
        let mode = self.listener.auth;
        Ok(policy::relaying(authenticated, self.peer, mode, networks))
    }

    /// Whether the client that was to relay to each recipient still may: content can take minutes to come, or wait for hours to be begun.
    pub(super) fn check_again(&self) -> Result<(), Refusal> {
        match self.relaying(&self.context.live())? {
            Relaying::Allowed => Ok(()),
            Relaying::AuthenticationNeeded | Relaying::Denied => Err(Refusal::ListenerChanged),
        }
    }

    /// A listener that asks for more than it did must not leave open what was opened before.
    fn is_as_configured(&self, live: &Live) -> bool {
        let mut listeners = live.config.listeners.iter();
        let now = listeners.find(|listener| listener.name == self.listener.name);
        let rules = |listener: &Listener| (listener.tls, listener.auth);
        now.is_some_and(|now| rules(now) == rules(&self.listener))
    }

    /// A login that has been taken away must not live on in the sessions that it opened.
    fn is_still_valid(&self, live: &Live, user: &str) -> bool {
        let verifiers = live
            .credentials
            .find(user)
            .map(|credential| &credential.verifiers);
        self.proof
            .as_ref()
            .zip(verifiers)
            .is_some_and(|(proof, known)| known.contains(proof))
    }
}

/// A name that may stand in the log: people type their password where the name belongs.
fn loggable<'a>(credentials: &Credentials, username: &'a str) -> &'a str {
    match credentials.find(username) {
        Some(_) => username,
        None => "unknown",
    }
}

/// What proves that name and password belong together. An unknown name costs as much time as a wrong password, so that
/// names cannot be probed for.
fn check(live: &Live, username: &str, password: &Password) -> Option<Verifier> {
    if let Some(credential) = live.credentials.find(username) {
        let mut verifiers = credential.verifiers.iter();
        return verifiers
            .find(|verifier| verifier.verify(password.as_str()))
            .cloned();
    }
    let decoy = Verifier::derive("", [0; postroad_config::SALT_BYTES]);
    // Deriving has taken the time; the comparison decides nothing.
    drop(decoy);
    None
}

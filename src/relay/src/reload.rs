//! Keeps the configuration in force equal to the files.
//!
//! The directories are looked at once a second and compared by content: Kubernetes swaps a symbolic link, which changes
//! no modification time that could be trusted, and a watch on a link's target goes blind when the link is swapped.
//!
//! What of the files is not in force stands in `config.refused` of the status, for as long as that is so: files that
//! were refused as a whole, parts that were, and listeners that could not be opened, which are tried again at each look.
//! What only a new process takes up stands in `config.awaitsRestart`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use crate::blocking;
use crate::context::{Context, Phase};
use crate::listener::Listeners;
use crate::live::{self, Error, Files, Live};

/// A change must be in force within seconds; reading a dozen small files costs microseconds.
const INTERVAL: Duration = Duration::from_secs(1);

/// The listeners, until the drain takes them away to stop them.
pub type SharedListeners = Arc<Mutex<Option<Listeners>>>;

/// Loads the configuration for the start.
///
/// # Errors
/// [`Error`] if there is none that could be used.
pub fn load(path: &std::path::Path) -> Result<(Files, Live), Error> {
    let (files, config) = Files::read(path)?;
    let live = live::resolve(&files, config, None);
    Ok((files, live))
}

/// Watches the files and puts every usable change in force, until the process stops.
pub struct Reloader {
    /// The configuration file.
    pub path: PathBuf,
    /// What the configuration in force was made from.
    pub files: Files,
    /// Where the configuration in force is published.
    pub publish: watch::Sender<Arc<Live>>,
    /// What everything shares.
    pub context: Context,
    /// What follows the configuration.
    pub listeners: SharedListeners,
}

impl Reloader {
    /// Runs until [`Phase::Stopping`]: a draining relay still needs the login that somebody is mending.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                () = self.context.reached(Phase::Stopping) => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let look = self.look().await;
            self.put_in_force(look);
        }
    }

    /// The configuration that the files now give, if they have changed.
    async fn look(&mut self) -> Result<Option<Live>, Error> {
        let path = self.path.clone();
        let read = blocking::run(move || Files::read(&path)).await;
        // The blocking pool only refuses when the process ends.
        let Ok(read) = read else { return Ok(None) };
        let (files, config) = read?;
        if files == self.files {
            return Ok(None);
        }
        let live = live::resolve(&files, config, Some(&self.context.live()));
        self.files = files;
        Ok(Some(live))
    }

    /// Opens and closes listeners, and publishes what has changed.
    fn put_in_force(&self, look: Result<Option<Live>, Error>) {
        let current = self.context.live();
        let (fresh, refusal) = match look {
            Ok(fresh) => (fresh, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let live = fresh.as_ref().unwrap_or(&current);
        let refusal = refusal.or_else(|| live.refused_parts.clone());
        let refused = join([refusal, self.listen(live)]);
        if fresh.is_none() && refused == current.status.refused {
            return;
        }
        let mut live = fresh.unwrap_or_else(|| Live::clone(&current));
        live.status.refused = refused;
        let awaits_restart = &live.status.awaits_restart;
        let awaits_restart = (!awaits_restart.is_empty()).then(|| awaits_restart.join(", "));
        match &live.status.refused {
            Some(refused) => tracing::error!(
                hash = live.status.hash,
                refused,
                awaits_restart,
                "not all of the files is in force"
            ),
            None => tracing::info!(
                hash = live.status.hash,
                awaits_restart,
                "configuration in force"
            ),
        }
        self.publish.send_replace(Arc::new(live));
    }

    /// Keeps the listeners in step; gives what stands in the way.
    fn listen(&self, live: &Live) -> Option<String> {
        // Held by nobody but the drain, which takes the listeners away.
        let mut listeners = self.listeners.try_lock().ok()?;
        let applied = listeners.as_mut()?.apply(&live.config.listeners);
        applied.err().map(|error| error.to_string())
    }
}

fn join(refusals: [Option<String>; 2]) -> Option<String> {
    let all: Vec<_> = refusals.into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join("; "))
}

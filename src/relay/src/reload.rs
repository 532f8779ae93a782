//! Keeps the configuration in force equal to the files.
//!
//! The directories are looked at once a second and compared by content: Kubernetes swaps a symbolic link, which changes
//! no modification time that could be trusted, and a watch on a link's target goes blind when the link is swapped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

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
    let live = live::resolve(&files, config, None)?;
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
        let mut last_refusal = None;
        loop {
            tokio::select! {
                biased;
                () = self.context.reached(Phase::Stopping) => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let refusal = self.look().await.err().map(|error| error.to_string());
            if refusal != last_refusal {
                self.show(refusal.as_deref());
                last_refusal = refusal;
            }
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || Files::read(&path)).await;
        // The blocking pool only refuses when the process ends.
        let Ok(read) = read else { return Ok(()) };
        let (files, config) = read?;
        if files == self.files {
            return Ok(());
        }
        let live = live::resolve(&files, config, Some(&self.context.live()))?;
        let mut listeners = self.listeners.lock().await;
        let applied = listeners
            .as_mut()
            .map(|listeners| listeners.apply(&live.config.listeners));
        if let Some(Err(error)) = applied {
            tracing::error!(%error, "a listener could not be opened");
        }
        tracing::info!(
            hash = live.status.hash,
            refused = live.status.refused.as_deref(),
            "configuration in force"
        );
        self.files = files;
        self.publish.send_replace(Arc::new(live));
        Ok(())
    }

    /// Puts a refusal (or its end) into the status; what is in force stays in force.
    fn show(&self, refusal: Option<&str>) {
        if let Some(refusal) = refusal {
            tracing::error!(
                refusal,
                "the new configuration was refused; the former stays in force"
            );
        }
        let mut live = Live::clone(&self.context.live());
        live.status.refused = refusal
            .map(str::to_owned)
            .or_else(|| live.refused_parts.clone());
        self.publish.send_replace(Arc::new(live));
    }
}

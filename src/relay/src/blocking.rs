//! Work that would hold up everybody's bytes: on threads of its own.

use tokio::task::JoinError;

/// Does it on a thread for such work.
///
/// # Errors
/// It has panicked, or the process is ending.
pub async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    #[cfg(feature = "simulation")]
    if crate::simulation::is_running() {
        // Threads would make every run another one.
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}

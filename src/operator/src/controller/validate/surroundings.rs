//! What of the world outside the spec the configuration depends on.

use std::collections::BTreeSet;

use postroad_api::SmtpRelaySpec;
use postroad_config::LEVEL;

use crate::controller::dereference::Found;
use crate::names::ANNOTATION_CONFIG_LEVEL;

/// What of the world outside the spec the configuration depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    /// The name of the relay, if its user gives it none.
    pub(super) host: &'a str,
    /// How many replicas share what all of them together may do.
    pub(super) replicas: u32,
    /// Which fields the oldest pod understands: see [`LEVEL`].
    pub(super) level: u32,
}

impl<'a> Surroundings<'a> {
    pub(super) fn of(spec: &SmtpRelaySpec, host: &'a str, found: &Found) -> Self {
        Self {
            host,
            replicas: sharing(spec.replicas, found),
            level: level(spec.image.as_deref(), found),
        }
    }
}

/// How many replicas share what all of them together may send: those that are wanted, and those that are still there. One that does
/// not run holds its part all the same: it may start at any moment, and what it is told then is what stands there now.
fn sharing(wanted: u16, found: &Found) -> u32 {
    let mut ordinals: BTreeSet<u32> = (0..u32::from(wanted)).collect();
    ordinals.extend(found.deployments.keys().copied().chain(found.lingering()));
    u32::try_from(ordinals.len()).unwrap_or(u32::MAX).max(1)
}

/// What of the configuration the oldest pod understands: see [`LEVEL`]. Of an image that the user has chosen nobody knows.
fn level(image: Option<&str>, found: &Found) -> u32 {
    if image.is_some() {
        return 1;
    }
    let levels = found.deployments.values().map(|deployment| {
        let template = &deployment.spec.as_ref()?.template;
        let annotations = template.metadata.as_ref()?.annotations.as_ref()?;
        annotations.get(ANNOTATION_CONFIG_LEVEL)?.parse().ok()
    });
    levels
        .map(|level| level.unwrap_or(1))
        .min()
        .unwrap_or(LEVEL)
}

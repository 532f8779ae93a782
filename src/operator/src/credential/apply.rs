//! Applies the Secret of a credential.

use super::build::Prepared;
use super::validate::Validated;
use crate::context::Context;
pub(super) use crate::controller::ApplyError as Error;
use crate::controller::{Seen, ensure};
use crate::names::{LABEL_CREDENTIAL, MANAGER_CREDENTIAL};

/// A credential that is applied.
pub(super) struct Applied {
    pub(super) validated: Validated,
    pub(super) username: String,
    pub(super) password: String,
    /// Whether the Secret is new.
    pub(super) created: bool,
}

/// Applies.
pub(super) async fn apply(context: &Context, prepared: Prepared) -> Result<Applied, Error> {
    let Prepared {
        validated,
        username,
        password,
        secret,
    } = prepared;
    let seen = Seen::labelled(LABEL_CREDENTIAL, validated.name.clone(), MANAGER_CREDENTIAL);
    ensure(context, &secret, seen.with(validated.existing.clone())).await?;
    Ok(Applied {
        created: validated.existing.is_none(),
        validated,
        username,
        password,
    })
}

//! What is mounted where.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource, Pod,
    SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::controller::build::inputs::{Inputs, Queue};
use crate::controller::validate::UpstreamFiles;
use crate::names::{
    KEY_AUTHORITY, KEY_CERTIFICATE, KEY_PASSWORD, KEY_PRIVATE, KEY_USERNAME, PATH_ADMIN,
    PATH_CONFIG, PATH_CREDENTIALS, PATH_SPOOL, PATH_TLS, PATH_UPSTREAMS, RelayId,
};

/// Whether a pod starts without the Secret.
#[derive(Clone, Copy)]
enum Presence {
    /// The operator makes it, just before the pod.
    Required,
    /// The user's: without it the pod starts, keeps mail and says what is missing.
    Optional,
}

pub(super) fn volumes(id: &RelayId, ordinal: u32, inputs: &Inputs<'_>) -> Vec<Volume> {
    let tls = match inputs.certificate {
        None => secret("tls", id.tls(), Presence::Required, None),
        // Whatever else its owner keeps in it is no concern of the relay.
        Some(provided) => {
            let keys = [KEY_CERTIFICATE, KEY_PRIVATE].map(|key| (key, key));
            secret("tls", provided.into(), Presence::Optional, Some(&keys))
        }
    };
    let mut volumes = vec![
        Volume {
            name: "config".into(),
            config_map: Some(ConfigMapVolumeSource {
                name: id.config(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        tls,
        secret("admin", id.admin(), Presence::Required, None),
        secret("credentials", id.credentials(), Presence::Required, None),
        spool(id, ordinal, inputs.queue),
    ];
    for &upstream in &inputs.upstreams {
        let UpstreamFiles {
            name,
            login,
            authority,
        } = upstream;
        volumes.extend(login.iter().map(|login| {
            let keys = [(KEY_USERNAME, KEY_USERNAME), (KEY_PASSWORD, KEY_PASSWORD)];
            secret(
                &login_volume(name),
                login.clone(),
                Presence::Optional,
                Some(&keys),
            )
        }));
        volumes.extend(authority.iter().map(|(authority, key)| {
            let keys = [(key.as_str(), KEY_AUTHORITY)];
            secret(
                &authority_volume(name),
                authority.clone(),
                Presence::Optional,
                Some(&keys),
            )
        }));
    }
    volumes
}

fn login_volume(upstream: &str) -> String {
    format!("login-{upstream}")
}

fn authority_volume(upstream: &str) -> String {
    format!("ca-{upstream}")
}

/// Whether a pod was made before a Secret was named for an upstream: it will never see what is in it.
pub(in crate::controller) fn lacks(pod: &Pod, upstream: &UpstreamFiles) -> bool {
    let UpstreamFiles {
        name,
        login,
        authority,
    } = upstream;
    let login = login.iter().map(|_| login_volume(name));
    let authority = authority.iter().map(|_| authority_volume(name));
    let Some(spec) = &pod.spec else {
        return false;
    };
    let there = |volume: String| spec.volumes.iter().flatten().any(|one| one.name == volume);
    !login.chain(authority).all(there)
}

fn spool(id: &RelayId, ordinal: u32, queue: Queue<'_>) -> Volume {
    let mut volume = Volume {
        name: "spool".into(),
        ..Volume::default()
    };
    match queue {
        Queue::Claim => {
            volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: id.replica(ordinal),
                read_only: None,
            });
        }
        Queue::Pod { size } => {
            volume.empty_dir = Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity(size.to_owned())),
                medium: None,
            });
        }
    }
    volume
}

fn secret(volume: &str, name: String, presence: Presence, keys: Option<&[(&str, &str)]>) -> Volume {
    let items = keys.map(|keys| {
        keys.iter()
            .map(|&(key, path)| KeyToPath {
                key: key.into(),
                path: path.into(),
                mode: None,
            })
            .collect()
    });
    Volume {
        name: volume.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name),
            optional: match presence {
                Presence::Required => None,
                Presence::Optional => Some(true),
            },
            items,
            default_mode: None,
        }),
        ..Volume::default()
    }
}

pub(super) fn mounts(inputs: &Inputs<'_>) -> Vec<VolumeMount> {
    let mut mounts = vec![
        read_only("config", PATH_CONFIG.into()),
        read_only("tls", PATH_TLS.into()),
        read_only("admin", PATH_ADMIN.into()),
        read_only("credentials", PATH_CREDENTIALS.into()),
        VolumeMount {
            name: "spool".into(),
            mount_path: PATH_SPOOL.into(),
            ..VolumeMount::default()
        },
    ];
    for &upstream in &inputs.upstreams {
        let UpstreamFiles {
            name,
            login,
            authority,
        } = upstream;
        let folder = format!("{PATH_UPSTREAMS}/{name}");
        if login.is_some() {
            mounts.push(read_only(&login_volume(name), format!("{folder}/login")));
        }
        if authority.is_some() {
            mounts.push(read_only(&authority_volume(name), format!("{folder}/ca")));
        }
    }
    mounts
}

fn read_only(volume: &str, path: String) -> VolumeMount {
    VolumeMount {
        name: volume.into(),
        mount_path: path,
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

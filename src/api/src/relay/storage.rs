//! Where accepted mail waits.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where accepted mail waits. Each replica has a queue of its own.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == oldSelf.type")
        .message("storage.type cannot change, mail may wait in the old place: make a new SmtpRelay and move the clients over"),
    validation = Rule::new("has(self.className) == has(oldSelf.className) && (!has(self.className) || self.className == oldSelf.className)")
        .message("storage.className cannot change, a volume stays in its class: make a new SmtpRelay and move the clients over"),
    validation = Rule::new(format!("!self.size.matches('{0}') || !oldSelf.size.matches('{0}') || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0", crate::relay::SIZE))
        .message("storage.size cannot shrink, no volume can: keep the size or raise it"),
    validation = Rule::new("self.type == 'Persistent' || !has(self.className)")
        .message("storage.className is for type Persistent: leave it out"),
    validation = Rule::new("!has(self.syncMilliseconds) || has(self.mode) && self.mode == 'Relaxed'")
        .message("storage.syncMilliseconds is for mode Relaxed, the others need none: set storage.mode to Relaxed, or leave it out")
)]
pub struct Storage {
    /// What holds the queue. `Persistent`: a PersistentVolumeClaim per replica, which outlives pods
    /// and the SmtpRelay. `Ephemeral`: the pod's own disk; mail that waits is lost with the pod, and
    /// the condition `Durable` says so.
    #[serde(rename = "type", default = "Storage::default_type")]
    pub kind: StorageType,

    /// Size of each replica's volume, as a quantity such as `10Gi`. At least `64Mi`.
    #[serde(default = "Storage::default_size")]
    #[schemars(length(max = 16))]
    #[x_kube(
        validation = Rule::new(format!("self.matches('{}')", crate::relay::SIZE))
            .message("storage.size is no size: write a number with a unit, such as 1Gi or 500M"),
        validation = Rule::new(format!("!self.matches('{}') || quantity(self).compareTo(quantity('64Mi')) >= 0", crate::relay::SIZE))
            .message("storage.size is too small for a queue: write 64Mi or more")
    )]
    pub size: String,

    /// StorageClass of the volumes; the cluster's default if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,

    /// What a 250 promises. `Durable`, the default: the message is on stable storage. `Relaxed`: it is on its way there; the crash of
    /// a node takes what came within the last `syncMilliseconds`, and the condition `Durable` says so. `Passthrough`: the next server
    /// has the message, or it is on stable storage; it is handed on while its client waits, for 30 seconds at most, and stored only if
    /// that does not go well. Changing it replaces the pods, one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<StorageMode>,

    /// Longest time until a message is on stable storage in mode `Relaxed`, in milliseconds: 100 if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub sync_milliseconds: Option<u32>,
}

/// What a 250 promises.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum StorageMode {
    /// The message is on stable storage.
    #[default]
    Durable,
    /// The message is on its way to stable storage: the crash of a node takes what came last.
    Relaxed,
    /// The next server has the message, or it is on stable storage.
    Passthrough,
}

impl Storage {
    const fn default_type() -> StorageType {
        StorageType::Persistent
    }

    fn default_size() -> String {
        "1Gi".into()
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            kind: Self::default_type(),
            size: Self::default_size(),
            class_name: None,
            mode: None,
            sync_milliseconds: None,
        }
    }
}

/// What holds the queue.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum StorageType {
    /// A PersistentVolumeClaim per replica, which outlives pods and the SmtpRelay.
    Persistent,
    /// The pod's own disk; mail that waits is lost with the pod, and the condition `Durable` says so.
    Ephemeral,
}

//! The configuration in force: files as written, resolved into what the program uses.
//!
//! [`Files::read`] is the only IO. [`resolve`] is pure: it turns bytes into a [`Live`]
//! value, which is immutable; a reload is a new value. A part that cannot be used keeps its former value
//! and is named in [`Live::refused_parts`], so that a bad certificate does not keep a good credential out. So does a field that only a
//! new process can take up, which is named in [`ConfigStatus::awaits_restart`]: a relay that drains is never replaced, and still has to hear of
//! routes and overrides. A file that is there and cannot be read refuses the change as a whole: nobody knows what it says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postroad_config::status::ConfigStatus;
use postroad_config::{Credentials, RelayConfig, Upstream, memory};
use postroad_smtp::Password;
use ring::digest;
use rustls::{ClientConfig, ServerConfig};

use crate::room::Sharing;
use crate::tls;

/// Every file of the configuration is small; what is larger is a mistake.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Why a configuration was refused as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        #[source]
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration file says something that cannot be.
    #[error("cannot use the configuration file: {0}")]
    Config(#[from] postroad_config::Error),
}

/// The configuration in force.
#[derive(Clone, Debug)]
pub struct Live {
    /// As written, but for the fields that await a restart.
    pub config: RelayConfig,
    /// Who may authenticate.
    pub credentials: Credentials,
    /// What the SMTP listeners present; `None` if it could never be loaded: STARTTLS is not offered then.
    pub served: Option<tls::Served>,
    /// The TLS side of the admin listener; `None` if it could never be loaded.
    pub admin: Option<Arc<ServerConfig>>,
    /// The upstreams in order of preference.
    pub upstreams: Vec<Arc<LiveUpstream>>,
    /// For the status.
    pub status: ConfigStatus,
    /// The parts of these files that were refused; their former values stay in force.
    pub refused_parts: Option<String>,
}

impl Live {
    /// Among how many the queue is shared: the logins, and the networks without login together.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        let logins = self.credentials.credentials.len();
        Sharing::among(logins, self.config.access.trusted_networks.len())
    }
}

/// An upstream with its secrets.
#[derive(Debug)]
pub struct LiveUpstream {
    /// As written.
    pub config: Upstream,
    /// How to log in there.
    pub login: Login,
    /// How to speak TLS there, or why that is impossible.
    pub tls: Result<Arc<ClientConfig>, String>,
    /// Changes whenever anything of this changes but the limits: they say nothing about whether the upstream works.
    pub fingerprint: String,
}

/// How to log in at an upstream.
#[derive(Debug)]
pub enum Login {
    /// The upstream asks for none.
    None,
    /// With these.
    Present {
        /// The user name.
        username: String,
        /// The password.
        password: Password,
    },
    /// One is asked for, but this keeps it from being used.
    Missing(String),
}

/// The bytes of all files of a configuration at one moment.
#[derive(Debug, Eq, PartialEq)]
pub struct Files {
    config: Vec<u8>,
    others: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

impl Files {
    /// Reads the configuration file and every file that it names. Blocking.
    ///
    /// # Errors
    /// [`Error`] if the configuration file itself cannot be read or parsed, or another file cannot be read; that may be missing.
    pub fn read(path: &Path) -> Result<(Self, RelayConfig), Error> {
        let error = |path: &Path, source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = read_bounded(path).map_err(|source| error(path, source))?;
        let config = RelayConfig::parse(&String::from_utf8_lossy(&bytes))?;
        let others = paths(&config)
            .map(|path| {
                let bytes = read_if_there(path).map_err(|source| error(path, source))?;
                Ok((path.clone(), bytes))
            })
            .collect::<Result<_, Error>>()?;
        Ok((
            Self {
                config: bytes,
                others,
            },
            config,
        ))
    }

    fn get(&self, path: &Path) -> Option<&[u8]> {
        self.others.get(path)?.as_deref()
    }

    /// The content of a login file: what editors and `echo` append is not part of it.
    fn get_line(&self, path: &Path) -> Option<String> {
        let text = String::from_utf8(self.get(path)?.to_vec()).ok()?;
        Some(text.trim_end_matches(['\r', '\n']).to_owned()).filter(|text| !text.is_empty())
    }
}

fn paths(config: &RelayConfig) -> impl Iterator<Item = &PathBuf> {
    let fixed = [
        &config.tls.certificate,
        &config.tls.key,
        &config.access.credentials,
        &config.admin.certificate,
        &config.admin.key,
        &config.admin.client_ca,
    ];
    let upstreams = config.delivery.upstreams.iter().flat_map(|upstream| {
        let login = upstream
            .auth
            .iter()
            .flat_map(|auth| [&auth.username, &auth.password]);
        upstream.ca.iter().chain(login)
    });
    fixed.into_iter().chain(upstreams)
}

/// `None` only if there is no such file: what cannot be read for another reason says nothing about who may log in. A second look, because a
/// volume that is being replaced has for a moment no files.
fn read_if_there(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut read = read_bounded(path);
    if read.as_ref().is_err_and(is_missing) {
        read = read_bounded(path);
    }
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(std::io::Error::other("larger than 8 MiB"));
    }
    Ok(bytes)
}

/// Turns files into what the program uses. `before` lends what cannot be replaced.
#[must_use]
pub fn resolve(files: &Files, mut config: RelayConfig, before: Option<&Live>) -> Live {
    let mut refused = Vec::new();
    let awaits_restart = match before {
        Some(before) => keep_fixed(&before.config, &mut config),
        None => Vec::new(),
    };
    let served = resolve_served(files, &config, before, &mut refused);
    let admin = resolve_admin(files, &config, before, &mut refused);
    let credentials = resolve_credentials(files, &config, before, &mut refused);
    let upstreams = config
        .delivery
        .upstreams
        .iter()
        .map(|upstream| Arc::new(live_upstream(files, upstream)));
    let refused_parts = (!refused.is_empty()).then(|| refused.join("; "));
    let status = ConfigStatus {
        hash: sha256(&files.config),
        credentials_hash: sha256(files.get(&config.access.credentials).unwrap_or_default()),
        refused: refused_parts.clone(),
        awaits_restart,
    };
    Live {
        upstreams: upstreams.collect(),
        credentials,
        served,
        admin,
        status,
        refused_parts,
        config,
    }
}

/// Gives the fields that are read at the start alone their former values, and what depends on one of them as much as that allows; those that had
/// others are returned.
fn keep_fixed(before: &RelayConfig, config: &mut RelayConfig) -> Vec<String> {
    let mut kept = Vec::new();
    let (spool, limits) = (&mut config.spool, &mut config.limits);
    keep("spool.mode", &before.spool.mode, &mut spool.mode, &mut kept);
    let bytes_max = &before.spool.bytes_max;
    keep("spool.bytesMax", bytes_max, &mut spool.bytes_max, &mut kept);
    // The rest of it.
    keep("spool", &before.spool, spool, &mut kept);
    let memory = &before.limits.memory_bytes;
    keep(
        "limits.memoryBytes",
        memory,
        &mut limits.memory_bytes,
        &mut kept,
    );
    // What does not fit into this memory is not offered to be taken.
    let fits = limits.message_bytes.min(memory::message_max(*memory));
    keep(
        "limits.messageBytes",
        &fits,
        &mut limits.message_bytes,
        &mut kept,
    );
    let listen = &before.admin.listen;
    keep("admin.listen", listen, &mut config.admin.listen, &mut kept);
    let listen = &before.health.listen;
    keep(
        "health.listen",
        listen,
        &mut config.health.listen,
        &mut kept,
    );
    kept
}

fn keep<T: Clone + PartialEq>(field: &str, before: &T, after: &mut T, kept: &mut Vec<String>) {
    if before != after {
        after.clone_from(before);
        kept.push(field.to_owned());
    }
}

fn resolve_served(
    files: &Files,
    config: &RelayConfig,
    before: Option<&Live>,
    refused: &mut Vec<String>,
) -> Option<tls::Served> {
    let load = |path: &Path| files.get(path).unwrap_or_default();
    match tls::served(load(&config.tls.certificate), load(&config.tls.key)) {
        Ok(served) => Some(served),
        Err(error) => {
            refused.push(format!(
                "certificate {}: {error}",
                config.tls.certificate.display()
            ));
            before.and_then(|before| before.served.clone())
        }
    }
}

fn resolve_admin(
    files: &Files,
    config: &RelayConfig,
    before: Option<&Live>,
    refused: &mut Vec<String>,
) -> Option<Arc<ServerConfig>> {
    let load = |path: &Path| files.get(path).unwrap_or_default();
    let admin = &config.admin;
    match tls::admin(
        load(&admin.certificate),
        load(&admin.key),
        load(&admin.client_ca),
    ) {
        Ok(config) => Some(config),
        Err(error) => {
            refused.push(format!(
                "admin certificate {}: {error}",
                admin.certificate.display()
            ));
            before.and_then(|before| before.admin.clone())
        }
    }
}

fn resolve_credentials(
    files: &Files,
    config: &RelayConfig,
    before: Option<&Live>,
    refused: &mut Vec<String>,
) -> Credentials {
    // No file means nobody: the safe side, and what a relay without credentials looks like.
    let Some(bytes) = files.get(&config.access.credentials) else {
        return Credentials::default();
    };
    match Credentials::parse(&String::from_utf8_lossy(bytes)) {
        Ok(credentials) => credentials,
        Err(error) => {
            refused.push(format!(
                "credentials {}: {error}",
                config.access.credentials.display()
            ));
            before
                .map(|before| before.credentials.clone())
                .unwrap_or_default()
        }
    }
}

fn live_upstream(files: &Files, upstream: &Upstream) -> LiveUpstream {
    let login = match &upstream.auth {
        None => Login::None,
        Some(auth) => match (
            files.get_line(&auth.username),
            files.get_line(&auth.password),
        ) {
            (Some(username), Some(password)) => Login::Present {
                username,
                password: Password::new(password),
            },
            (None, _) => missing(&auth.username),
            (_, None) => missing(&auth.password),
        },
    };
    let ca = upstream.ca.as_deref();
    let tls = match ca.map(|path| (path, files.get(path))) {
        Some((path, None)) => Err(format!("{} is missing", path.display())),
        pem => tls::upstream(upstream.tls, pem.and_then(|(_, bytes)| bytes))
            .map_err(|error| error.to_string()),
    };
    let fingerprint = fingerprint(files, upstream);
    LiveUpstream {
        config: upstream.clone(),
        login,
        tls,
        fingerprint,
    }
}

fn missing(path: &Path) -> Login {
    Login::Missing(format!("{} is missing or empty", path.display()))
}

fn fingerprint(files: &Files, upstream: &Upstream) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    let Upstream {
        name,
        host,
        port,
        tls,
        ca,
        auth,
        limits: _,
    } = upstream;
    let target = format!("{:?}", (name, host, port, tls, ca, auth));
    context.update(target.as_bytes());
    let login = auth
        .iter()
        .flat_map(|auth| [&auth.username, &auth.password]);
    for path in ca.iter().chain(login) {
        let bytes = files.get(path).unwrap_or_default();
        context.update(&bytes.len().to_le_bytes());
        context.update(bytes);
    }
    tls::hex(context.finish().as_ref())
}

fn sha256(bytes: &[u8]) -> String {
    tls::hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests;

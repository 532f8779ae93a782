//! Which images relays may run.
//!
//! A relay runs with the Secrets that its spec refers to, and who may write a `SmtpRelay` need not be allowed to
//! write pods. So only repositories that the operator was told of count. Names are compared as they are written: nothing
//! is known here of the registry that a node fills in where none is named.

use super::Refusal;
use crate::args::Settings;

/// Allows every image.
const ANY: &str = "*";

/// Refuses an image of a repository that is not allowed. Without a list, only the repository of the operator's own
/// default image is.
pub(super) fn check(image: Option<&str>, settings: &Settings) -> Result<(), Refusal> {
    let Some(image) = image else {
        return Ok(());
    };
    let listed = settings.allowed_relay_images.iter().map(String::as_str);
    // An environment variable that is set to nothing is no list.
    let mut allowed: Vec<_> = listed.filter(|prefix| !prefix.is_empty()).collect();
    let own = repository(&settings.relay_image);
    let repository = repository(image);
    // What lies below the own repository may be somebody else's: only what is listed is a folder.
    let is_own = allowed.is_empty() && repository == own;
    if is_own || allowed.iter().any(|prefix| covers(prefix, repository)) {
        return Ok(());
    }
    if allowed.is_empty() {
        allowed.push(own);
    }
    Err(Refusal {
        reason: "ImageNotAllowed",
        message: format!(
            "spec.image: this operator allows images of {} only: leave the field out, or have {repository:?} added to allowedRelayImages of the operator's chart",
            allowed.join(", ")
        ),
    })
}

/// Whether the prefix is the repository, or a folder that holds it.
fn covers(prefix: &str, repository: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    prefix == ANY
        || repository
            .strip_prefix(prefix)
            .is_some_and(|rest| !prefix.is_empty() && (rest.is_empty() || rest.starts_with('/')))
}

/// An image without its tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    match image.rsplit_once(':') {
        // What comes before a slash is the port of a registry.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::settings;

    fn is_allowed(own: &str, listed: &[&str], image: &str) -> bool {
        let settings = Settings {
            relay_image: own.into(),
            allowed_relay_images: listed.iter().map(|&prefix| prefix.into()).collect(),
            ..settings()
        };
        check(Some(image), &settings).is_ok()
    }

    #[test]
    fn without_a_list_only_the_operators_own_repository_is_allowed() {
        let own = "registry.example.com:5000/mail/postroad:1.0";
        for (image, allowed) in [
            ("registry.example.com:5000/mail/postroad:1.1", true),
            ("registry.example.com:5000/mail/postroad", true),
            ("registry.example.com:5000/mail/postroad@sha256:00", true),
            (
                "registry.example.com:5000/mail/postroad:1.1@sha256:00",
                true,
            ),
            ("registry.example.com:5000/mail/postroad-evil:1.0", false),
            ("registry.example.com:5000/mail/postroad/evil:1.0", false),
            ("registry.example.com:5000/mail:1.0", false),
            ("registry.example.com/mail/postroad:1.0", false),
            ("postroad:1.0", false),
            (
                "evil.example.org/registry.example.com:5000/mail/postroad",
                false,
            ),
            ("", false),
        ] {
            assert_eq!(is_allowed(own, &[], image), allowed, "{image}");
        }
        assert_eq!(check(None, &settings()), Ok(()));
    }

    #[test]
    fn a_list_takes_the_place_of_the_own_repository() {
        for (listed, image, allowed) in [
            (
                &["registry.example.com/mail"][..],
                "registry.example.com/mail/a/b:1",
                true,
            ),
            (
                &["registry.example.com/mail/"],
                "registry.example.com/mail/a:1",
                true,
            ),
            (
                &["registry.example.com/mail"],
                "registry.example.com/mailing:1",
                false,
            ),
            (
                &["a", "registry.example.com"],
                "registry.example.com/x",
                true,
            ),
            (
                &["registry.example.com"],
                "registry.example.com.evil.org/x",
                false,
            ),
            (&["registry.example.com"], "postroad:1.0", false),
            (&[""], "postroad:1.1", true),
            (&[""], "evil.example.org/x:1", false),
            (&["/"], "/postroad:1.0", false),
            (&["*"], "anything.example.org/x:1", true),
        ] {
            assert_eq!(
                is_allowed("postroad:1.0", listed, image),
                allowed,
                "{listed:?} {image}"
            );
        }
    }

    #[test]
    fn the_refusal_names_the_value_to_set() {
        let refusal = check(Some("evil.example.org/x:1"), &settings()).unwrap_err();
        assert_eq!(refusal.reason, "ImageNotAllowed");
        for part in [
            "\"evil.example.org/x\"",
            "allowedRelayImages",
            "registry.example.com",
        ] {
            assert!(refusal.message.contains(part), "{}", refusal.message);
        }
    }
}

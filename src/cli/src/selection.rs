//! Which mail a verb is about, in the words of the command line.

use std::fmt;

use postroad_api::{DomainPattern, Match, UserName};

/// Longest name of an override.
const NAME_MAX: usize = 63;

/// Which mail: what fits all of the flags that are given.
#[derive(Clone, Debug, Default, Eq, PartialEq, clap::Args)]
#[command(next_help_heading = "Which mail")]
pub(crate) struct Selection {
    /// Only mail for this domain: example.com, *.example.com for all below it. May be given several times.
    #[arg(long = "recipient", value_name = "DOMAIN")]
    recipients: Vec<String>,
    /// Only mail whose envelope has this sender's domain; '<>' for reports. May be given several times.
    #[arg(long = "sender", value_name = "DOMAIN")]
    senders: Vec<String>,
    /// Only mail that came with this login, by the user name in its Secret. May be given several times.
    #[arg(long = "credential", value_name = "USER")]
    credentials: Vec<String>,
}

impl Selection {
    /// What the API has; `None` for all mail.
    pub(crate) fn of(matches: Option<&Match>) -> Self {
        fn list<T>(texts: Option<&Vec<T>>, one: fn(&T) -> &String) -> Vec<String> {
            texts.into_iter().flatten().map(one).cloned().collect()
        }
        let Some(Match {
            senders,
            recipients,
            credentials,
        }) = matches
        else {
            return Self::default();
        };
        Self {
            recipients: list(recipients.as_ref(), |DomainPattern(text)| text),
            senders: list(senders.as_ref(), |DomainPattern(text)| text),
            credentials: list(credentials.as_ref(), |UserName(text)| text),
        }
    }

    /// As the API has it; `None` for all mail.
    pub(crate) fn matches(&self) -> Option<Match> {
        let Self {
            recipients,
            senders,
            credentials,
        } = self;
        fn list<T>(texts: &[String], one: fn(String) -> T) -> Option<Vec<T>> {
            (!texts.is_empty()).then(|| texts.iter().cloned().map(one).collect())
        }
        let matches = Match {
            senders: list(senders, DomainPattern),
            recipients: list(recipients, DomainPattern),
            credentials: list(credentials, UserName),
        };
        (matches != Match::default()).then_some(matches)
    }

    /// A name that tells the verb and the mail, such as `hold-example.com`.
    pub(crate) fn name(&self, verb: &str) -> String {
        let mut name = verb.to_owned();
        for text in self.texts() {
            name.push('-');
            name.push_str(&plain(text));
        }
        name.truncate(NAME_MAX);
        name.trim_end_matches(['-', '.']).to_owned()
    }

    fn texts(&self) -> impl Iterator<Item = &String> {
        let domains = self.recipients.iter().chain(&self.senders);
        domains.chain(&self.credentials)
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = [
            ("for", &self.recipients),
            ("from", &self.senders),
            ("of the login", &self.credentials),
        ]
        .into_iter()
        .filter(|(_, texts)| !texts.is_empty())
        .map(|(word, texts)| format!("{word} {}", texts.join(" or ")))
        .collect();
        match parts.is_empty() {
            true => formatter.write_str("all mail"),
            false => write!(formatter, "mail {}", parts.join(" ")),
        }
    }
}

/// In letters that a name may have.
fn plain(text: &str) -> String {
    match text {
        "*" => return "all".into(),
        "<>" => return "reports".into(),
        _ => {}
    }
    let text = text.replace("*.", "below.").to_ascii_lowercase();
    let may_stand = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
    text.chars()
        .map(|letter| if may_stand(letter) { letter } else { '-' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(recipients: &[&str], senders: &[&str], credentials: &[&str]) -> Selection {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Selection {
            recipients: texts(recipients),
            senders: texts(senders),
            credentials: texts(credentials),
        }
    }

    #[test]
    fn a_selection_has_a_name_and_can_be_read() {
        let long = "a".repeat(80);
        let cut = format!("hold-{}", "a".repeat(58));
        for (selection, name, text) in [
            (selection(&[], &[], &[]), "hold", "all mail"),
            (
                selection(&["Example.com"], &[], &[]),
                "hold-example.com",
                "mail for Example.com",
            ),
            (
                selection(&["*.example.com", "b.example"], &["<>"], &["shop.mail"]),
                "hold-below.example.com-b.example-reports-shop.mail",
                "mail for *.example.com or b.example from <> of the login shop.mail",
            ),
            (selection(&["*"], &[], &[]), "hold-all", "mail for *"),
            (
                selection(&[&long], &[], &[]),
                &cut,
                &format!("mail for {long}"),
            ),
        ] {
            assert_eq!(selection.name("hold"), name);
            assert_eq!(selection.to_string(), text);
            assert_eq!(Selection::of(selection.matches().as_ref()), selection);
        }
    }

    #[test]
    fn no_flags_mean_all_mail() {
        assert_eq!(Selection::default().matches(), None);
        let matches = selection(&["example.com"], &[], &[]).matches().unwrap();
        let expected = vec![DomainPattern("example.com".into())];
        assert_eq!(matches.recipients, Some(expected));
        assert_eq!((matches.senders, matches.credentials), (None, None));
    }
}

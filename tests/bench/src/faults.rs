//! Faults on purpose: what a next hop may do at each step of a session, at random but the same in every run.

use std::cell::Cell;
use std::str::FromStr;
use std::time::Duration;

/// Faults are drawn out of so many.
const SHARES: u64 = 1000;

/// Where a session stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Before the greeting.
    Connect,
    /// At EHLO or HELO.
    Hello,
    /// At MAIL.
    Mail,
    /// At RCPT.
    Rcpt,
    /// At DATA.
    Data,
    /// At the end of the content.
    End,
}

/// What happens there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// A reply with this code instead of the usual one.
    Reply(u16),
    /// The connection is closed without a reply.
    Drop,
    /// The usual reply comes so much later.
    Delay(Duration),
}

/// One fault: `ACTION@STEP=SHARE`, as in `451@rcpt=20`, `drop@end=5`, `delay:50@data=100`; shares are of 1000, delays in ms.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rule {
    step: Step,
    action: Action,
    share: u64,
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not ACTION@STEP=SHARE as in 451@rcpt=20");
        let (action, rest) = text.split_once('@').ok_or_else(wrong)?;
        let (step, share) = rest.split_once('=').ok_or_else(wrong)?;
        let action = match (action, action.split_once(':')) {
            ("drop", _) => Action::Drop,
            (_, Some(("delay", ms))) => {
                Action::Delay(Duration::from_millis(ms.parse().map_err(|_| wrong())?))
            }
            (code, _) => Action::Reply(code.parse().map_err(|_| wrong())?),
        };
        let step = match step {
            "connect" => Step::Connect,
            "hello" => Step::Hello,
            "mail" => Step::Mail,
            "rcpt" => Step::Rcpt,
            "data" => Step::Data,
            "end" => Step::End,
            _ => return Err(wrong()),
        };
        let share = share.parse().map_err(|_| wrong())?;
        Ok(Self {
            step,
            action,
            share,
        })
    }
}

/// The faults of one sink or load.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
    dice: Dice,
}

impl Faults {
    #[must_use]
    pub(crate) fn new(rules: &[Rule]) -> Self {
        Self {
            rules: rules.to_vec(),
            dice: Dice::default(),
        }
    }

    /// The fault that happens now, if any.
    #[must_use]
    pub(crate) fn draw(&self, step: Step) -> Option<Action> {
        let mut here = self.rules.iter().filter(|rule| rule.step == step);
        here.find(|rule| self.dice.falls(rule.share))
            .map(|rule| rule.action)
    }
}

/// Random, and the same in every run (SplitMix64).
#[derive(Debug, Default)]
pub(crate) struct Dice(Cell<u64>);

impl Dice {
    /// True in `share` of 1000 cases.
    #[must_use]
    pub(crate) fn falls(&self, share: u64) -> bool {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % SHARES < share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_written_or_refused() {
        let cases = [
            ("451@rcpt=20", Step::Rcpt, Action::Reply(451), 20),
            ("drop@end=5", Step::End, Action::Drop, 5),
            (
                "delay:50@data=100",
                Step::Data,
                Action::Delay(Duration::from_millis(50)),
                100,
            ),
        ];
        for (text, step, action, share) in cases {
            let expected = Rule {
                step,
                action,
                share,
            };
            assert_eq!(text.parse(), Ok(expected));
        }
        for text in [
            "",
            "451",
            "451@rcpt",
            "x@rcpt=1",
            "451@noon=1",
            "451@rcpt=x",
        ] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }

    #[test]
    fn faults_come_about_as_often_as_asked_and_only_where() {
        let faults = Faults::new(&["451@rcpt=200".parse().unwrap()]);
        let drawn = (0..10_000).filter_map(|_| faults.draw(Step::Rcpt)).count();
        assert!((1_800..2_200).contains(&drawn), "{drawn}");
        assert_eq!(faults.draw(Step::Mail), None);
    }
}

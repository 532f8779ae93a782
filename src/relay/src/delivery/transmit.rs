//! One message over one connection.

use postroad_smtp::client::{
    ConnectFailure, Connection as Afterwards, End, FailureKind, RecipientOutcome, SenderVerdict,
    TransactionOutcome,
};
use postroad_smtp::{EnhancedStatus, Extension, ForwardPath, Reply};
use postroad_spool::{Message, MessageId};

use super::connect::{Connection, Rank, Sent, Usage, describe};
use super::course::{Course, Progress};
use super::holds::Blame;
use super::hop::{Going, UpstreamHop};
use super::worker::{Then, Worker};
use crate::adapt::Adapted;
use crate::answer;
use crate::clock;
use crate::context::Phase;
use crate::envelope;
use crate::notify::NextHop;
use crate::upstreams::FailedStage;
use crate::window::Answer;

/// What a transaction came to.
struct Transacted {
    /// The outcomes that stand; none means that not a word was said about the message.
    outcomes: Outcomes,
    /// Recipients that did not fit, to be tried in another transaction.
    surplus: Paths,
    then: Then,
    /// When mail of the sender may be tried again, in milliseconds since the epoch, if the server rejects it and that is no reason yet
    /// to return it.
    sender_rejected_ms: Option<u64>,
}

/// What is left of a piece after its last transaction.
pub(super) enum Rest {
    /// Nothing: it is given back or done.
    Nothing,
    /// What its last outcomes lead to.
    Judged(Box<Progress>, Judged),
}

/// Outcomes to be recorded, and who gave them.
pub(super) struct Judged {
    outcomes: Outcomes,
    hop: NextHop,
    remote: Option<String>,
}

impl Judged {
    /// As [`Course::record`].
    pub(super) async fn record(self, course: Course<'_>) -> Option<Course<'_>> {
        let remote = self.remote.as_deref();
        course.record(self.outcomes, self.hop, remote).await
    }

    /// Nobody has said anything.
    pub(super) fn nothing() -> Self {
        Self {
            outcomes: Vec::new(),
            hop: NextHop::default(),
            remote: None,
        }
    }
}

pub(super) type Outcomes = Vec<(u32, RecipientOutcome)>;
type Paths = Vec<(u32, ForwardPath)>;

impl Worker {
    /// Sends to all open recipients, in as few transactions as the limits allow, and records what each came
    /// to before the next begins. The first of them goes at once, others as the rate lets them. What the last came to is left to be recorded.
    pub(super) async fn transmit(
        &self,
        connection: &mut Connection,
        course: Course<'_>,
        content: &Adapted,
        going: Going,
    ) -> (Rest, Then) {
        let message = course.message();
        let (mut paths, outcomes) = parse_recipients(&course);
        let mut judged = self.judge(outcomes, Some(connection));
        let (mut course, mut going) = (course, Some(going));
        while !paths.is_empty() && self.context.phase() < Phase::Stopping {
            course = match judged.record(course).await {
                Some(course) => course,
                None => return (Rest::Nothing, Then::GoOn),
            };
            judged = Judged::nothing();
            if going.take().or_else(|| self.another()).is_none() {
                break;
            }
            let most = self.recipients_max(connection).min(paths.len());
            let chunk: Paths = paths.drain(..most).collect();
            let done = self.transact(connection, message, content, chunk).await;
            let is_stuck = done.outcomes.is_empty();
            paths.splice(0..0, done.surplus);
            self.log(message, &done.outcomes);
            self.note_answer(&done.outcomes);
            judged = self.judge(done.outcomes, Some(connection));
            if let Some(until_ms) = done.sender_rejected_ms {
                course.wait_until(until_ms);
            }
            if done.then == Then::Stop || is_stuck || done.sender_rejected_ms.is_some() {
                return (Rest::Judged(course.pause(), judged), done.then);
            }
        }
        (Rest::Judged(course.pause(), judged), Then::GoOn)
    }

    fn another(&self) -> Option<Going> {
        let turn = self.hop.turn().ok()?;
        let going = self.hop.go().ok()?;
        turn.spend();
        Some(going)
    }

    fn judge(&self, outcomes: Outcomes, by: Option<&Connection>) -> Judged {
        Judged {
            outcomes,
            hop: by.map_or_else(NextHop::default, |by| NextHop::of(by.peer())),
            remote: by.map(|by| by.remote().to_owned()),
        }
    }

    /// The same outcome for every open recipient, from nobody.
    pub(super) fn judge_all(&self, course: Course<'_>, outcome: &RecipientOutcome) -> Rest {
        let outcomes: Outcomes = course
            .open_recipients()
            .map(|index| (index, outcome.clone()))
            .collect();
        self.log(course.message(), &outcomes);
        let judged = self.judge(outcomes, None);
        Rest::Judged(course.pause(), judged)
    }

    /// What we allow, and what the peer does (RFC 9422 §4.2).
    fn recipients_max(&self, connection: &Connection) -> usize {
        let theirs = connection.peer().recipients_max().unwrap_or(u32::MAX);
        let most = self.hop.recipients_max().min(theirs).max(1);
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    async fn transact(
        &self,
        connection: &mut Connection,
        message: &Message,
        content: &Adapted,
        paths: Paths,
    ) -> Transacted {
        let usage = connection.usage();
        let mut transaction = envelope::transaction(message, paths.clone(), clock::now_ms());
        transaction.parameters.body = content.body;
        transaction.content.clone_from(&content.content);
        let outcome = match connection.send(transaction).await {
            Sent::Finished(outcome) => outcome,
            Sent::Held(failure) => {
                self.hop.report_failed(FailedStage::Sending, &failure);
                return Transacted::nothing();
            }
            Sent::Lost(why) => {
                tracing::info!(upstream = self.hop.label(), why, "connection lost");
                return Transacted::nothing();
            }
        };
        // What was not asked is known from what the server offers.
        let is_unasked = outcome.end == End::Unasked;
        let takes_utf8 = connection.peer().offers(Extension::SmtpUtf8);
        let is_asked = |path: &ForwardPath| !is_unasked && (path.is_ascii() || takes_utf8);
        let mut all = paths.iter().zip(&outcome.recipients);
        let has_verdict = all.any(|((_, path), one)| is_asked(path) && is_final(one));
        let blame = self.report(message.id, &outcome, has_verdict, usage);
        let mut done = Transacted {
            outcomes: Vec::with_capacity(paths.len()),
            surplus: Vec::new(),
            then: match (outcome.connection, &outcome.end) {
                (Afterwards::Closing, _) | (_, End::Held(_)) => Then::Stop,
                (Afterwards::Reusable, _) => Then::GoOn,
            },
            sender_rejected_ms: self.judge_sender(message, &outcome),
        };
        let rank = self.hop.rank(Some(connection));
        let is_held = done.sender_rejected_ms.is_some();
        let judged = paths.into_iter().zip(outcome.recipients);
        let judged = judged.map(|((index, path), judged)| match judged {
            RecipientOutcome::Failed(reply) if !is_asked(&path) => {
                (index, path, unsendable(rank, reply))
            }
            RecipientOutcome::Failed(reply) if is_held => {
                (index, path, RecipientOutcome::Deferred(reply))
            }
            judged => (index, path, judged),
        });
        done.sort(judged.collect(), &outcome.end);
        if blame == Blame::Upstream {
            done.outcomes.retain(|(_, outcome)| is_final(outcome));
        }
        done
    }

    /// Reports what a transaction says about the server. Whoever has no last word is charged only if the message answers for it.
    fn report(
        &self,
        id: MessageId,
        outcome: &TransactionOutcome,
        has_verdict: bool,
        usage: Usage,
    ) -> Blame {
        match &outcome.end {
            End::Held(failure) if has_verdict && is_goodbye(failure) => {
                // It has had enough of this message's recipients, or of the connection: it takes other mail.
                self.upstreams.lock_holds().forget(id);
                let kind = failure.kind;
                tracing::info!(%id, upstream = self.hop.label(), ?kind, "judged in part");
            }
            End::Held(failure) => return self.blame(id, failure, &outcome.sender, usage),
            End::Answered => {
                self.upstreams.lock_holds().forget(id);
                self.hop.report_answered(match has_verdict {
                    true => Answer::Final,
                    false => Answer::PutOff,
                });
            }
            End::Unasked | End::Unanswered => {}
        }
        Blame::Message
    }

    /// The server takes no mail now. Whether the message has something to do with it: then it is no failure of the server. One that closes
    /// a connection over which it has taken mail may only have had enough of that connection: that is no failure either, but it counts. An upstream
    /// that throttles all MAIL does so for as long as it likes: its pauses are short. Those of a domain may be as long as a message's own,
    /// and no message is to hold up others for that.
    fn blame(
        &self,
        id: MessageId,
        failure: &ConnectFailure,
        sender: &SenderVerdict,
        usage: Usage,
    ) -> Blame {
        let is_throttled =
            failure.kind == FailureKind::Throttled && *sender == SenderVerdict::Unknown;
        let blame = self.upstreams.lock_holds().count(id);
        let blame = match is_throttled && self.hop.upstream().is_some_and(UpstreamHop::fails) {
            // It has taken no other mail since it failed first.
            true => Blame::Upstream,
            false => blame,
        };
        let is_failure = usage == Usage::Fresh || failure.kind != FailureKind::Disconnected;
        if is_failure && blame == Blame::Upstream {
            self.hop
                .report_failed(FailedStage::Sending, &describe(failure));
        }
        tracing::info!(%id, upstream = self.hop.label(), kind = ?failure.kind, ?blame, "not judged");
        blame
    }

    /// Tells the log.
    fn log(&self, message: &Message, outcomes: &[(u32, RecipientOutcome)]) {
        for (index, outcome) in outcomes {
            let recipient = usize::try_from(*index)
                .ok()
                .and_then(|index| message.envelope.recipients.get(index))
                .map_or("", |recipient| recipient.address.as_str());
            let (what, reply) = match outcome {
                RecipientOutcome::Delivered(reply) => ("delivered", reply),
                RecipientOutcome::Deferred(reply) => ("deferred", reply),
                RecipientOutcome::Failed(reply) => ("refused", reply),
            };
            tracing::info!(id = %message.id, recipient, upstream = self.hop.label(),
                outcome = what, %reply, "attempt");
        }
    }

    /// Tells the status why a transaction put mail off, if it did. What is put off without one says nothing of the server there.
    fn note_answer(&self, outcomes: &[(u32, RecipientOutcome)]) {
        let mut latest_first = outcomes.iter().rev();
        let last = latest_first.find_map(|(_, outcome)| match outcome {
            RecipientOutcome::Deferred(reply) => Some(reply),
            RecipientOutcome::Delivered(_) | RecipientOutcome::Failed(_) => None,
        });
        if let Some(reply) = last {
            let queue = &self.context.queue;
            queue.put_off(self.door.place(), answer::shown(reply));
        }
    }
}

impl Transacted {
    fn nothing() -> Self {
        Self {
            outcomes: Vec::new(),
            surplus: Vec::new(),
            then: Then::Stop,
            sender_rejected_ms: None,
        }
    }

    /// Somebody is surplus only while another is not: a server that says so to each alone puts them off, because a mailbox is full for
    /// example, and may go on saying so. Where it was not asked, the connection has named as many domains as it may: another will do.
    fn sort(&mut self, judged: Vec<(u32, ForwardPath, RecipientOutcome)>, end: &End) {
        let is_divided = judged.iter().any(|(_, _, outcome)| !outcome.is_surplus());
        let may_be_surplus = is_divided || *end == End::Unasked;
        for (index, path, outcome) in judged {
            match may_be_surplus && outcome.is_surplus() {
                true => self.surplus.push((index, path)),
                false => self.outcomes.push((index, outcome)),
            }
        }
    }
}

/// What comes of mail that a server can never be sent. One that stands in for another does not decide about it: that other may take it, and if
/// it does not come back, the mail expires.
pub(super) fn unsendable(rank: Rank, refusal: Reply) -> RecipientOutcome {
    match rank {
        Rank::First => RecipientOutcome::Failed(refusal),
        Rank::Substitute => {
            // RFC 3463 §3.4: the system is not capable of selected features.
            let status = EnhancedStatus::new(4, 3, 3);
            let text = format!("the server that stands in for another cannot take it: {refusal}");
            RecipientOutcome::Deferred(Reply::new(451, status, text))
        }
    }
}

/// Whether the server has only ended the connection: with 421, or without a word.
fn is_goodbye(failure: &ConnectFailure) -> bool {
    let reply = failure.reply.as_ref();
    reply.is_none_or(|reply| reply.code() == 421)
}

/// Whether the server has said its last word: what it took or refused stands, whatever else it demands.
fn is_final(outcome: &RecipientOutcome) -> bool {
    match outcome {
        RecipientOutcome::Delivered(_) | RecipientOutcome::Failed(_) => true,
        RecipientOutcome::Deferred(_) => false,
    }
}

/// The open recipients, and outcomes for those whose address cannot be read back: they were accepted by the same
/// parser, so only a damaged or foreign spool has any.
fn parse_recipients(course: &Course<'_>) -> (Paths, Outcomes) {
    let mut paths = Vec::new();
    let mut outcomes = Vec::new();
    let message = course.message();
    for index in course.open_recipients() {
        let recipient = usize::try_from(index)
            .ok()
            .and_then(|index| message.envelope.recipients.get(index));
        match recipient.and_then(|recipient| recipient.address.parse().ok()) {
            Some(path) => paths.push((index, path)),
            None => {
                let status = EnhancedStatus::new(5, 1, 3);
                let reply = Reply::new(553, status, "the recipient's address cannot be read");
                outcomes.push((index, RecipientOutcome::Failed(reply)));
            }
        }
    }
    (paths, outcomes)
}

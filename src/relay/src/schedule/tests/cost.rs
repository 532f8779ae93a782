//! What mail that waits costs.

use super::*;

impl Schedule {
    /// Takes from a destination that has got work.
    fn take_stirred(&mut self, now_ms: u64) -> Option<Taken> {
        self.advance(now_ms);
        while let Some(place) = self.stirred() {
            if let Some(taken) = self.take(place, now_ms) {
                return Some(taken);
            }
        }
        None
    }
}

/// What the documents promise.
#[test]
fn more_than_a_quarter_million_messages_fit_or_some_hundred_mailings() {
    let fit = |recipients| {
        let one = Weight::of(recipients, u64::from(recipients));
        postroad_config::memory::INDEX_BYTES / bytes(one)
    };
    assert_eq!((fit(1), fit(100), fit(1000)), (364_722, 2_911, 290));
}

#[test]
fn a_failure_and_its_bounce_weigh_no_more_than_the_recipient_did() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    let bounce = || Queued {
        sender_domain: Cow::default(),
        ..mail.to(&[("from.example", 1)], 1)
    };
    let weigh = |schedule: &Schedule| bytes(schedule.totals().weight) + schedule.shared_bytes();
    schedule.insert(&mail.to(&[("a.example", 500), ("b.example", 500)], 1), 1);
    let before = weigh(&schedule);
    let mut last = schedule.take_any(1).unwrap();
    for failed in 0..1000 {
        if last.entry.open.last() < Some(&failed) {
            last = schedule.take_any(1).unwrap();
        }
        schedule.insert(&bounce(), 1);
        match schedule.settle(last.ticket, &[failed], 1, false) {
            Left::Open => {}
            Left::Nothing => schedule.finish(last.ticket, 1),
        }
        let now = weigh(&schedule) - bytes(Weight::of(1, 1));
        assert!(now <= before, "{failed}: {now} of {before}");
        assert!(weigh(&schedule) <= before + bytes(Weight::of(1, 1)));
    }
}

/// The bound on the queue rests on this: whoever lets it grow sees here that fewer messages fit.
#[test]
fn a_message_costs_this_much_memory() {
    let waiting = Slab::<Message>::ENTRY_BYTES + Slab::<Piece>::ENTRY_BYTES;
    assert_eq!(waiting, 104, "one that waits, to one recipient");
    assert_eq!((message::MESSAGE_BYTES, message::SETTLED_BYTES), (286, 20));
}

#[test]
fn what_waits_costs_what_it_is_said_to_however_much_it_is() {
    const COUNT: u64 = 100_000;
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    for number in 0..COUNT {
        let domain = format!("d{}.example", number % 1000);
        let due_ms = 1_000_000 + number * 7919 % 3_600_000;
        let queued = Queued {
            next_attempt_ms: due_ms,
            ..mail.to(&[(&domain, 1)], number)
        };
        schedule.insert(&queued, 1);
    }
    let slabs = u64::from(schedule.messages.end()) * Slab::<Message>::ENTRY_BYTES
        + u64::from(schedule.pieces.end()) * Slab::<Piece>::ENTRY_BYTES;
    assert!(slabs <= 124 * COUNT, "{slabs}");
    assert!(schedule.shared_bytes() < 2_000_000);
    // Every one of them is taken when it is due, and put back: at a cost that does not depend on how many there are.
    let (mut taken, mut now_ms) = (0, 1_000_000);
    while let Some(next_ms) = schedule
        .next_due_ms()
        .filter(|next_ms| *next_ms < 1_100_000)
    {
        now_ms = next_ms.max(now_ms);
        while let Some(one) = schedule.take_stirred(now_ms) {
            schedule.release(one.ticket, now_ms + 3_600_000, Reading::Fine, now_ms);
            taken += 1;
        }
    }
    assert!(taken > 2_000, "{taken}");
}

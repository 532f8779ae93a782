//! A message that goes to several places.

use super::*;

#[test]
fn a_message_to_many_domains_is_one_piece_for_each_and_done_when_the_last_is() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    let domains: Vec<_> = (0..10).map(|number| format!("d{number}.example")).collect();
    // A thousand recipients, dealt out in turn.
    let runs: Vec<_> = (0..1000)
        .map(|index| (domains[index % 10].as_str(), 1))
        .collect();
    schedule.insert(&mail.to(&runs, 1), 1);
    let pieces: Vec<_> = std::iter::from_fn(|| schedule.take_any(1)).collect();
    assert_eq!(pieces.len(), 10);
    let mut all: Vec<_> = pieces
        .iter()
        .flat_map(|piece| piece.entry.open.to_vec())
        .collect();
    all.sort_unstable();
    assert_eq!(all, (0..1000).collect::<Vec<_>>());
    for (number, Taken { ticket, entry }) in pieces.iter().enumerate() {
        assert_eq!(entry.open.len(), 100);
        assert_eq!(schedule.is_last(*ticket, &entry.open), number == 9);
        let left = schedule.settle(*ticket, &entry.open, 0, false);
        assert_eq!(left == Left::Nothing, number == 9);
        if left == Left::Open {
            schedule.release(*ticket, 1, Reading::Fine, 1);
        } else {
            schedule.finish(*ticket, 1);
        }
    }
    assert_eq!(schedule.totals(), Totals::default());
}

#[test]
fn the_table_is_asked_once_for_each_domain_of_a_message() {
    for count in [10, 100, 1000] {
        let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
        let domains: Vec<_> = (0..count)
            .map(|number| format!("d{number}.example"))
            .collect();
        let runs: Vec<_> = domains.iter().map(|domain| (domain.as_str(), 1)).collect();
        schedule.insert(&mail.to(&runs, 1), 1);
        for now_ms in [1, 2] {
            let all: Vec<_> = std::iter::from_fn(|| schedule.take_any(now_ms)).collect();
            assert_eq!(all.len(), count);
            for taken in all {
                assert_eq!(taken.entry.open.len(), 1);
                schedule.release(taken.ticket, now_ms + 1, Reading::Fine, now_ms);
            }
        }
        assert_eq!(schedule.lookups.get(), count);
    }
}

#[test]
fn pieces_of_a_message_have_due_times_and_attempts_of_their_own() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    schedule.insert(&mail.to(&[("a.example", 1), ("b.example", 1)], 1), 1);
    let (first, second) = (schedule.take_any(1).unwrap(), schedule.take_any(1).unwrap());
    schedule.settle(first.ticket, &[], 1, false);
    schedule.release(first.ticket, 500, Reading::Fine, 1);
    schedule.release(second.ticket, 100, Reading::Fine, 1);
    let again = schedule.take_any(100).unwrap();
    assert_eq!(again.entry, second.entry);
    assert_eq!(schedule.take_any(499), None);
    let again = schedule.take_any(500).unwrap();
    assert_eq!(
        (again.entry.open, again.entry.attempts),
        (first.entry.open, 1)
    );
}

#[test]
fn a_ticket_stands_for_a_piece_that_is_taken_and_for_no_other() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let [one, other] = [1, 2].map(|arrival_ms| mail.to(&[("a.example", 1)], arrival_ms));
    schedule.insert(&one, 5);
    let ticket = schedule.take_any(5).unwrap().ticket;
    schedule.release(ticket, 50, Reading::Fine, 5);
    schedule.release(ticket, 5, Reading::Fine, 5);
    schedule.finish(ticket, 5);
    assert!(!schedule.is_taken(ticket) && !schedule.is_last(ticket, &[0]));
    assert_eq!(
        (schedule.take_any(5), schedule.totals().messages),
        (None, 1)
    );
    let ticket = schedule.take_any(50).unwrap().ticket;
    schedule.finish(ticket, 50);
    // Takes the place of the first.
    schedule.insert(&other, 50);
    let taken = schedule.take_any(50).unwrap();
    assert_eq!(taken.ticket.piece, ticket.piece);
    schedule.finish(ticket, 50);
    assert_eq!(schedule.totals().messages, 1);
}

//! What is told of destinations.

use super::hanging::failure;
use super::*;
use crate::clock::Moment;

#[test]
fn a_destination_keeps_the_last_answer_until_it_fails() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    schedule.insert(&mail.to(&[("a.example", 1)], 1), 5_000);
    let (place, _) = schedule.open_domain(5_000).unwrap();
    let told = |schedule: &Schedule| {
        let mut top = Vec::new();
        assert_eq!(schedule.top(0, 10, &mut top, 5_000), None);
        let found = top.remove(0);
        (found.answer.as_deref().map(str::to_owned), found.failure)
    };
    assert_eq!(told(&schedule), (None, None));
    for answer in ["450 busy", "451 not now"] {
        schedule.put_off(place, answer.into());
        assert_eq!(told(&schedule).0.as_deref(), Some(answer));
    }
    let at = Moment {
        now_ms: 5_000,
        random: 0.5,
    };
    schedule.failed(place, failure(), at);
    let (answer, failing) = told(&schedule);
    assert_eq!((answer, failing.is_some()), (None, true));
    // It has hung up on the same message three times.
    schedule.put_off(place, "451 the connection ended".into());
    assert_eq!(told(&schedule).0, None, "there is one text at a time");
    schedule.answered(place, Answer::PutOff, 6_000);
    schedule.put_off(place, "450 busy".into());
    assert_eq!(told(&schedule), (Some("450 busy".to_owned()), None));
}

#[test]
fn a_route_keeps_the_last_answer_until_it_fails() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    schedule.insert(&mail.to(&[("a.example", 1)], 1), 5_000);
    let place = schedule.place(&Key::Default).unwrap();
    let answer = |schedule: &Schedule| {
        let mut top = Vec::new();
        assert_eq!(schedule.top(0, 10, &mut top, 5_000), None);
        top.remove(0).answer.as_deref().map(str::to_owned)
    };
    schedule.put_off(place, "450 busy".into());
    schedule.set_failure(place, None);
    assert_eq!(answer(&schedule).as_deref(), Some("450 busy"));
    schedule.set_failure(place, Some(failure()));
    assert_eq!(answer(&schedule), None);
    // It works again, and nobody has asked for its state since.
    schedule.put_off(place, "451 not now".into());
    schedule.set_failure(place, None);
    assert_eq!(answer(&schedule).as_deref(), Some("451 not now"));
}

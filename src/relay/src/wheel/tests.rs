use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::slab::Link;

#[derive(Debug)]
struct Timer {
    link: Link,
    due_ms: u64,
}

impl Linked for Timer {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl Timed for Timer {
    fn due_ms(&self) -> u64 {
        self.due_ms
    }
}

#[derive(Debug, Default)]
struct Bench {
    slab: Slab<Timer>,
    wheel: Wheel,
    model: BTreeSet<(u64, u32)>,
}

impl Bench {
    fn insert(&mut self, due_ms: u64) -> u32 {
        let link = Link::default();
        let index = self.slab.insert(Timer { link, due_ms });
        self.wheel.insert(&mut self.slab, index);
        self.model.insert((due_ms, index));
        index
    }

    /// What the wheel and the model say is due, each in order of time.
    fn pop_all(&mut self, now_ms: u64) -> (Vec<u64>, Vec<u64>) {
        let mut popped = Vec::new();
        while let Some(index) = self.wheel.pop(&mut self.slab, now_ms) {
            let timer = self.slab.remove(index).unwrap();
            popped.push(timer.due_ms);
        }
        let later = self.model.split_off(&(now_ms + 1, 0));
        let due = std::mem::replace(&mut self.model, later);
        (popped, due.into_iter().map(|(due_ms, _)| due_ms).collect())
    }
}

#[test]
fn is_exact_to_the_millisecond_on_every_level() {
    for distance in [
        1,
        63,
        64,
        65,
        4095,
        4096,
        5 << 18,
        3 << 24,
        1 << 30,
        9 << 40,
    ] {
        for now_ms in [0, 1, 63, 1_763_000_000_123] {
            let mut bench = Bench::default();
            assert_eq!(bench.wheel.pop(&mut bench.slab, now_ms), None);
            bench.insert(now_ms + distance);
            let early = bench.wheel.pop(&mut bench.slab, now_ms + distance - 1);
            assert_eq!(early, None, "{distance} after {now_ms}");
            assert_eq!(bench.wheel.next_ms(), Some(now_ms + distance));
            let due = bench.wheel.pop(&mut bench.slab, now_ms + distance);
            assert!(due.is_some(), "{distance} after {now_ms}");
        }
    }
}

#[test]
fn what_is_due_past_all_time_waits() {
    let mut bench = Bench::default();
    let index = bench.insert(u64::MAX);
    assert_eq!(bench.wheel.pop(&mut bench.slab, 1 << 47), None);
    bench.wheel.remove(&mut bench.slab, index);
    assert_eq!(bench.wheel.next_ms(), None);
}

/// Where time jumps to: near, far, and back.
fn jump() -> impl Strategy<Value = i64> {
    prop_oneof![
        0..100_i64,
        0..100_000_i64,
        0..40_000_000_i64,
        -50_i64..0,
        -90_000_000_i64..0
    ]
}

proptest! {
    #[test]
    fn a_wheel_is_what_a_sorted_set_would_be(
        start in 0..u64::from(u32::MAX) << 9,
        steps in prop::collection::vec((jump(), prop::collection::vec(0..90_000_000_u64, 0..6), any::<u8>()), 1..40)
    ) {
        let mut bench = Bench::default();
        let mut now_ms = start;
        for (jump, pauses, which) in steps {
            let inserted: Vec<_> = pauses.iter().map(|pause| bench.insert(now_ms + pause)).collect();
            if which % 3 == 0 && let Some(&index) = inserted.first() {
                bench.wheel.remove(&mut bench.slab, index);
                let timer = bench.slab.remove(index).unwrap();
                bench.model.remove(&(timer.due_ms, index));
            }
            let next_ms = bench.wheel.next_ms();
            let first_ms = bench.model.first().map(|(due_ms, _)| *due_ms);
            prop_assert_eq!(next_ms.is_some(), first_ms.is_some());
            prop_assert!(next_ms <= first_ms.map(|first_ms| first_ms.max(now_ms)));
            now_ms = now_ms.saturating_add_signed(jump);
            let (popped, mut due) = bench.pop_all(now_ms);
            let mut sorted = popped.clone();
            sorted.sort_unstable();
            due.sort_unstable();
            prop_assert_eq!(sorted, due);
        }
    }
}

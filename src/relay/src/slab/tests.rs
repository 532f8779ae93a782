use proptest::prelude::*;

use super::*;

#[derive(Debug, Default)]
struct Node {
    link: Link,
}

impl Linked for Node {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

fn in_order(slab: &mut Slab<Node>, list: List) -> Vec<u32> {
    let mut order = Vec::new();
    let mut at = list.first();
    while at != NONE {
        order.push(at);
        at = slab[at].link.next();
    }
    order
}

#[test]
fn numbers_are_used_again_and_chunks_are_never_copied() {
    let mut slab = Slab::default();
    let numbers: Vec<_> = (0..3000_u32).map(|value| slab.insert(value)).collect();
    assert_eq!(numbers, (0..3000).collect::<Vec<_>>());
    assert_eq!((slab.count(), slab.end()), (3000, 3000));
    assert_eq!(slab.remove(1500), Some(1500));
    assert_eq!(slab.remove(7), Some(7));
    assert_eq!(
        (slab.remove(7), slab.get(7), slab.get(9999)),
        (None, None, None)
    );
    assert_eq!(
        (slab.insert(1), slab.insert(2), slab.insert(3)),
        (7, 1500, 3000)
    );
    assert_eq!((slab[7], slab.count()), (1, 3001));
}

#[test]
fn what_a_burst_took_is_given_back_from_the_end() {
    let mut slab = Slab::default();
    let numbers: Vec<u32> = (0..10_000).map(|value| slab.insert(value)).collect();
    let chunks = |slab: &Slab<u32>| slab.chunks.len();
    assert_eq!(chunks(&slab), 10);
    for number in &numbers[2000..] {
        slab.remove(*number);
    }
    assert_eq!((chunks(&slab), slab.end()), (3, 3072));
    // From the front, and one that comes and goes changes nothing.
    slab.remove(5);
    for _ in 0..3 {
        let number = slab.insert(0);
        assert_eq!((number, chunks(&slab)), (5, 3));
        slab.remove(number);
    }
    for number in &numbers[..2000] {
        slab.remove(*number);
    }
    assert_eq!((chunks(&slab), slab.count()), (1, 0));
    assert_eq!(slab.get(9_999), None);
    assert_eq!(slab.remove(9_999), None);
    let again: Vec<u32> = (0..3000).map(|value| slab.insert(value)).collect();
    let mut sorted = again.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!((sorted.len(), slab.count()), (3000, 3000));
    assert!(
        again
            .iter()
            .zip(0..)
            .all(|(number, value)| slab[*number] == value)
    );
}

proptest! {
    /// Pushes, pops, and what comes and goes in the middle, against a vector.
    #[test]
    fn a_list_is_what_a_vector_would_be(steps in prop::collection::vec((0..5_u8, any::<u8>()), 0..200)) {
        let mut slab = Slab::default();
        let (mut list, mut model) = (List::default(), Vec::new());
        for (step, which) in steps {
            match step {
                0 | 1 => {
                    let index = slab.insert(Node::default());
                    list.push(&mut slab, index);
                    model.push(index);
                }
                2 => {
                    let first = (!model.is_empty()).then(|| model.remove(0));
                    prop_assert_eq!(list.pop(&mut slab), first);
                    first.map(|index| slab.remove(index));
                }
                _ if model.is_empty() => {}
                3 => {
                    let (at, index) = (usize::from(which) % model.len(), slab.insert(Node::default()));
                    list.insert_before(&mut slab, index, model[at]);
                    model.insert(at, index);
                }
                _ => {
                    let index = model.remove(usize::from(which) % model.len());
                    list.remove(&mut slab, index);
                    slab.remove(index);
                }
            }
            prop_assert_eq!(in_order(&mut slab, list), model.clone());
        }
        let mut all = List::default();
        let alone = slab.insert(Node::default());
        all.push(&mut slab, alone);
        all.append(&mut slab, &mut list);
        prop_assert!(list.is_empty());
        model.insert(0, alone);
        prop_assert_eq!(in_order(&mut slab, all), model);
    }
}

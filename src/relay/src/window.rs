//! How many connections a destination bears: found out by trying. Pure.
//!
//! Begins with [`BEGIN`], grows with each transaction in which somebody had a last word while at least half of it is in use, and is halved
//! when the destination asks for less: at first by one for each answer, which doubles it in a round; once it has been halved, by one for
//! each round, because what was too much a moment ago most likely still is. Where all are put off it stays as it is: that asks neither for
//! more mail nor for fewer connections.

/// Connections to begin with.
const BEGIN: u32 = 2;

/// What an answered transaction came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Somebody was taken, or refused for good.
    Final,
    /// All were put off.
    PutOff,
}

/// A bound on connections that follows what the destination says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    connections: u32,
    /// Above it growth is slow.
    careful: u32,
    /// Final answers since it last grew, while growth is slow.
    answers: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            connections: BEGIN,
            careful: u32::MAX,
            answers: 0,
        }
    }
}

impl Window {
    /// Most connections at once, never more than `most` and never less than one.
    pub fn limit(self, most: u32) -> u32 {
        self.connections.min(most).max(1)
    }

    /// A transaction was answered while so many connections were open.
    pub fn answered(&mut self, answer: Answer, connections: u32, most: u32) {
        let is_full = self.connections >= most;
        if answer == Answer::PutOff || connections < self.connections / 2 || is_full {
            return;
        }
        self.answers += 1;
        if self.connections < self.careful || self.answers >= self.connections {
            self.connections += 1;
            self.answers = 0;
        }
    }

    /// The destination asked for less while so many connections were open.
    pub fn crowded(&mut self, connections: u32) {
        let bearable = connections.min(self.connections) / 2;
        (self.connections, self.answers) = (bearable.max(1), 0);
        self.careful = self.connections;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds in which every connection has an answer.
    fn rounds(window: &mut Window, most: u32, count: usize) -> Vec<u32> {
        let mut limits = Vec::new();
        for _ in 0..count {
            let open = window.limit(most);
            (0..open).for_each(|_| window.answered(Answer::Final, open, most));
            limits.push(window.limit(most));
        }
        limits
    }

    #[test]
    fn doubles_each_round_until_the_bound() {
        let mut window = Window::default();
        assert_eq!(window.limit(20), 2);
        assert_eq!(rounds(&mut window, 20, 5), [4, 8, 16, 20, 20]);
        assert_eq!(window.limit(5), 5, "a bound that is lowered holds at once");
        assert_eq!(window.limit(0), 1);
    }

    #[test]
    fn does_not_grow_where_all_are_put_off() {
        let mut window = Window::default();
        (0..100).for_each(|_| window.answered(Answer::PutOff, 2, 20));
        assert_eq!(window.limit(20), 2);
        window.answered(Answer::Final, 2, 20);
        assert_eq!(window.limit(20), 3);
    }

    #[test]
    fn is_halved_and_recovers_one_by_one() {
        let mut window = Window::default();
        rounds(&mut window, 20, 5);
        window.crowded(20);
        assert_eq!(window.limit(20), 10);
        assert_eq!(rounds(&mut window, 20, 4), [11, 12, 13, 14]);
        for limit in [7, 3, 1, 1] {
            window.crowded(20);
            assert_eq!(window.limit(20), limit);
        }
        assert_eq!(rounds(&mut window, 20, 22).last(), Some(&20));
    }

    #[test]
    fn does_not_grow_while_it_is_not_in_use() {
        let mut window = Window::default();
        (0..100).for_each(|_| window.answered(Answer::Final, 1, 20));
        assert_eq!(window.limit(20), 4);
    }

    #[test]
    fn what_was_borne_counts_not_what_was_allowed() {
        let mut window = Window::default();
        rounds(&mut window, 20, 5);
        window.crowded(6);
        assert_eq!(window.limit(20), 3);
    }
}

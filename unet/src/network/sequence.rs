//! The receiver's window over the sequence of a channel: what came, what is missing, what is old.
//!
//! After RFC 4303, section 3.4.3 (the anti-replay window of ESP).

/// How many sequence numbers up to the highest are remembered.
pub(crate) const WINDOW: u64 = 128;

/// What a sequence number was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// New, and so many before it were skipped.
    Ahead(u64),
    /// New, and one of those that had been skipped.
    Late,
    /// It came before, or lies too far back to know.
    Replayed,
}

/// Which numbers came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    highest: u64,
    /// The bit `n` stands for the number `highest - n`.
    came: u128,
}

impl Window {
    /// Takes note of a number.
    #[inline(always)]
    pub fn see(&mut self, sequence: u64) -> Seen {
        if sequence == self.highest.wrapping_add(1) && sequence != 0 {
            self.highest = sequence;
            self.came = self.came << 1 | 1;
            return Seen::Ahead(0);
        }
        self.see_out_of_order(sequence)
    }

    /// Takes note that numbers up to this one were sent. How many of them were skipped.
    pub fn reach(&mut self, sequence: u64) -> u64 {
        let step = sequence.saturating_sub(self.highest);
        if step > 0 {
            self.came = if step < WINDOW { self.came << step } else { 0 };
            self.highest = sequence;
        }
        step
    }

    #[cold]
    fn see_out_of_order(&mut self, sequence: u64) -> Seen {
        if sequence == 0 {
            return Seen::Replayed;
        }
        if sequence > self.highest {
            let step = sequence - self.highest;
            self.came = if step < WINDOW { self.came << step | 1 } else { 1 };
            self.highest = sequence;
            return Seen::Ahead(step - 1);
        }
        let back = self.highest - sequence;
        let bit = 1u128.checked_shl(back.min(WINDOW) as u32).unwrap_or(0);
        if bit == 0 || self.came & bit != 0 {
            return Seen::Replayed;
        }
        self.came |= bit;
        Seen::Late
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_in_order_are_new_and_nothing_is_skipped() {
        let mut window = Window::default();
        for sequence in 1..1000 {
            assert_eq!(window.see(sequence), Seen::Ahead(0));
            assert_eq!(window.see(sequence), Seen::Replayed);
        }
    }

    #[test]
    fn zero_and_what_is_too_old_are_replayed_and_the_last_number_is_not_the_end_of_the_world() {
        let mut window = Window::default();
        assert_eq!(window.see(0), Seen::Replayed);
        assert_eq!(window.see(1000), Seen::Ahead(999));
        assert_eq!(window.see(1000 - WINDOW), Seen::Replayed);
        assert_eq!(window.see(1001 - WINDOW), Seen::Late);
        assert_eq!(window.see(u64::MAX), Seen::Ahead(u64::MAX - 1001));
        assert_eq!(window.see(0), Seen::Replayed);
        assert_eq!(window.see(u64::MAX), Seen::Replayed);
        assert_eq!(window.see(u64::MAX - 1), Seen::Late);
    }

    #[test]
    fn what_was_sent_and_did_not_come_is_skipped_until_it_comes_late() {
        let mut window = Window::default();
        assert_eq!(window.see(1), Seen::Ahead(0));
        assert_eq!((window.reach(4), window.reach(4), window.reach(2)), (3, 0, 0));
        assert_eq!((window.see(3), window.see(3)), (Seen::Late, Seen::Replayed));
        assert_eq!(window.see(5), Seen::Ahead(0));
        assert_eq!(window.reach(1000), 995);
        assert_eq!(window.see(5), Seen::Replayed);
    }

    proptest! {
        #[test]
        fn nothing_is_taken_twice_and_the_gaps_are_those_of_a_set(
            steps in prop::collection::vec(1u64..400, 1..200),
        ) {
            let mut window = Window::default();
            let (mut came, mut missing, mut highest) = (BTreeSet::new(), 0, 0);
            for sequence in steps {
                match window.see(sequence) {
                    Seen::Ahead(skipped) => {
                        prop_assert_eq!(sequence, highest + skipped + 1);
                        missing += skipped;
                        prop_assert!(came.insert(sequence));
                        highest = sequence;
                    }
                    Seen::Late => {
                        missing -= 1;
                        prop_assert!(came.insert(sequence) && sequence < highest);
                    }
                    Seen::Replayed => {
                        prop_assert!(came.contains(&sequence) || highest - sequence >= WINDOW);
                    }
                }
            }
            prop_assert_eq!(came.len() as u64 + missing, highest);
        }
    }
}

//! Who calls over a network, and whether alone.

use crate::protocol::ALONE_AFTER;

/// The clients whose calls came of late, as far as it takes to tell whether one is alone.
#[derive(Debug)]
pub(super) struct Callers<Id> {
    /// Whose calls came last, and when.
    last: Option<(Id, u64)>,
    /// Until when that one is not alone, since another called before.
    crowded_until: u64,
}

impl<Id: Copy + PartialEq> Callers<Id> {
    pub fn new() -> Self {
        Self { last: None, crowded_until: 0 }
    }

    /// Whether no other client's calls came of late, when something comes from a client: of a call, or not.
    #[inline(always)]
    pub fn is_alone(&mut self, from: Id, now: u64, is_of_call: bool) -> bool {
        let others_until = match self.last {
            Some((last, at)) if last != from => at.saturating_add(ALONE_AFTER),
            _ => self.crowded_until,
        };
        if is_of_call {
            self.last = Some((from, now));
            self.crowded_until = others_until;
        }
        now >= others_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: u64 = ALONE_AFTER / 10;

    #[test]
    fn who_calls_last_is_alone_some_time_after_the_others() {
        let [one, other] = [1, 2];
        let mut callers = Callers::new();
        assert!(callers.is_alone(one, 5, true) && callers.is_alone(one, 6, true));
        assert!(!callers.is_alone(other, 6 + SOON, true));
        assert!(!callers.is_alone(other, 5 + ALONE_AFTER, true));
        assert!(callers.is_alone(other, 6 + ALONE_AFTER, true));
        assert!(!callers.is_alone(one, 7 + ALONE_AFTER, true));
    }

    #[test]
    fn who_calls_after_a_long_silence_is_alone_at_once() {
        let [one, other] = [1, 2];
        let mut callers = Callers::new();
        for number in 0..4 {
            assert!(callers.is_alone(one, 2 * number * ALONE_AFTER, true));
            assert!(callers.is_alone(other, (2 * number + 1) * ALONE_AFTER, true));
        }
    }

    #[test]
    fn what_is_not_of_a_call_keeps_nobody_from_being_alone() {
        let [one, other] = [1, 2];
        let mut callers = Callers::new();
        assert!(callers.is_alone(one, 0, true));
        assert!(!callers.is_alone(other, SOON, false), "it is told the truth itself");
        assert!(callers.is_alone(one, 2 * SOON, true));
    }

    #[test]
    fn what_came_earlier_and_is_taken_later_shortens_nothing() {
        let [one, other] = [1, 2];
        let mut callers = Callers::new();
        callers.is_alone(one, 0, true);
        callers.is_alone(other, ALONE_AFTER, true);
        // Of a message that came before the other's.
        assert!(!callers.is_alone(one, 1, true));
        assert!(!callers.is_alone(one, 2 * ALONE_AFTER - 1, true));
        assert!(callers.is_alone(one, 2 * ALONE_AFTER, true));
    }
}

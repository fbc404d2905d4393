//! How a session ends, on the client's side.

use super::{Client, SessionEnd, State};
use crate::protocol::outcome::{Doubt, Outcome};
use crate::wire::Refusal;

impl<P, D> Client<P, D> {
    /// Ends the session: the server is told once, and the ends of all calls follow as events.
    pub fn close(&mut self) {
        if self.state == State::Open {
            self.control.close = true;
        }
        self.end_session(Doubt::Closed, None);
    }

    /// The channel below has ended: what was sent is in doubt for good, and what was not is refused. The ends of
    /// all calls follow as events.
    pub fn lose(&mut self) {
        self.end_session(Doubt::SessionLost, Some(SessionEnd::Lost));
    }

    pub(super) fn end_session(&mut self, doubt: Doubt, why: Option<SessionEnd>) {
        if self.state == State::Over {
            return;
        }
        self.state = State::Over;
        self.told.end = why;
        (self.small, self.bulk, self.free, self.doubtful) = (0, 0, 0, 0);
        self.control.open = false;
        self.is_unusual = true;
        self.next_timer = u64::MAX;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.is_busy() {
                let end = if slot.was_sent {
                    Outcome::Unknown(doubt)
                } else {
                    Outcome::Refused(Refusal::NoSession)
                };
                slot.end_without_reply(end);
                self.ended |= 1 << index;
            }
        }
    }
}

//! How a session ends, on the client's side.

use super::slot::Phase;
use super::{Client, SessionEnd, State};
use crate::protocol::outcome::{Doubt, Outcome};
use crate::protocol::reassembly::Fragment;
use crate::wire::{HEADER_BYTES, Packet, Refusal, Words};

impl<P, D: Fragment> Client<P, D> {
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

    /// Whether the packet that was given out last is the first of its kind: of arguments, or of a part of them, that
    /// were not sent before.
    pub fn is_first(&self, head: &[u8; HEADER_BYTES]) -> bool {
        let (id, index) = match Packet::decode(head) {
            Ok(Packet::Request { id, .. }) => (id, 0),
            Ok(Packet::Fragment { id, index, .. }) => (id, index),
            _ => return false,
        };
        let number = id.wrapping_sub(self.cookie) & (self.window - 1);
        self.slots.get(number as usize).filter(|slot| slot.id == id).is_some_and(|slot| match &slot
            .transfer
        {
            Some(transfer) => transfer.was_first(index),
            None => slot.times == 0,
        })
    }

    /// A packet that was given out cannot be sent, since its payload is there no more. The call ends: refused, if the
    /// packet was the first of its kind ([`Client::is_first`]), as the server can never have all of it then.
    pub fn revoke(&mut self, head: &[u8; HEADER_BYTES], is_first: bool) {
        let id = Words::from_bytes(head).id;
        let index = id.wrapping_sub(self.cookie) & (self.window - 1);
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if !slot.is_waiting_for(id) || slot.phase != Phase::Sent {
            return;
        }
        slot.end_without_reply(match is_first {
            true => Outcome::Refused(Refusal::Revoked),
            false => Outcome::Unknown(Doubt::Revoked),
        });
        self.ended |= 1 << index;
        self.small &= !(1 << index);
        self.bulk &= !(1 << index);
        // To be told now.
        self.next_timer = 0;
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

//! What goes out: replies, and words of what is here.

use super::slot::{Slot, State};
use super::{Control, Server};
use crate::protocol::map::Map;
use crate::protocol::options::Limits;
use crate::protocol::packet::{Body, Transmit};
use crate::protocol::reassembly::Fragment;
use crate::wire::{self, MAX_CONTROL, Packet, Status};

impl<P, D: Fragment> Server<P, D> {
    /// The next packet to send, if there is one. To be asked until there is none, after whatever was
    /// received or answered.
    #[inline]
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_, P>> {
        let index = self.small.trailing_zeros();
        let is_plain =
            |slot: &Slot<P, D>| slot.sends_reply && slot.status == Some(Status::Executed);
        if !self.slots.get(index as usize).is_some_and(is_plain) {
            return self.transmit_slowly();
        }
        let slot = self.slots.get_mut(index as usize)?;
        slot.sends_reply = false;
        if !slot.sends_word {
            self.small &= self.small - 1;
        }
        let (id, held, woken) = (slot.id, slot.held, self.is_woken);
        let packet =
            Packet::Reply { id, status: Status::Executed, held, last: 0, ask: false, woken };
        let body = Body::Payload(slot.payload.as_ref()?, 0..slot.len);
        Some(Transmit { header: packet.encode(), body })
    }

    /// Whether [`Server::poll_transmit`] may have a packet. No promise.
    #[inline(always)]
    pub fn may_transmit(&self) -> bool {
        let Control { opened, pong, stale } = &self.control;
        self.small | self.bulk != 0 || *opened || *pong || stale.is_some()
    }

    #[cold]
    fn transmit_slowly(&mut self) -> Option<Transmit<'_, P>> {
        if let Some((packet, bytes)) = self.control_packet() {
            return Some(Transmit::control(packet, bytes));
        }
        let (woken, alone) = (self.is_woken, self.is_alone);
        while self.small != 0 {
            let index = self.small.trailing_zeros() as usize;
            let slot = &mut self.slots[index];
            let id = slot.id;
            if std::mem::take(&mut slot.sends_reply)
                && let Some(status) = slot.status
            {
                let packet =
                    Packet::Reply { id, status, held: slot.held, last: 0, ask: false, woken };
                if status != Status::Executed {
                    return Some(Transmit::bare(packet));
                }
                // What stood before it had no more to say.
                let Slot { payload, len, .. } = &self.slots[index];
                let body = Body::Payload(payload.as_ref()?, 0..*len);
                return Some(Transmit { header: packet.encode(), body });
            }
            if std::mem::take(&mut slot.sends_word) && slot.state != State::Settled {
                let whole = slot.state == State::Executing;
                let (base, map) = match &mut slot.reassembly {
                    Some(reassembly) => reassembly.word(),
                    None => (0, Map::default()),
                };
                let limit = (base + u32::from(self.credits)).min(wire::ALL.into()) as u16;
                let base = base as u16;
                let packet = Packet::Received { id, base, limit, whole, woken, alone };
                return Some(Transmit::control(packet, map.encode()));
            }
            self.small &= self.small - 1;
        }
        self.transmit_fragment()
    }

    fn control_packet(&mut self) -> Option<(Packet, ([u8; MAX_CONTROL], usize))> {
        if std::mem::take(&mut self.control.opened) {
            let packet = Packet::Opened {
                nonce: self.nonce,
                version: wire::VERSION,
                window: self.window as u16,
                credits: self.credits,
            };
            return Some((packet, (self.terms.encode(), wire::Terms::BYTES)));
        }
        if std::mem::take(&mut self.control.pong) {
            return Some((Packet::Pong { id: self.cookie }, ([0; MAX_CONTROL], 0)));
        }
        let id = self.control.stale.take()?;
        Some((Packet::Stale { id }, ([0; MAX_CONTROL], 0)))
    }

    /// A fragment of a long reply, of one call after the other: as many as the client permits.
    fn transmit_fragment(&mut self) -> Option<Transmit<'_, P>> {
        while self.bulk != 0 {
            let index = self.bulk.trailing_zeros() as usize;
            let bit = 1 << index;
            let slot = &mut self.slots[index];
            let sent = slot.transfer.as_mut().and_then(|transfer| {
                let sent = transfer.send(0, u32::MAX);
                if !transfer.is_ready() {
                    self.bulk &= !bit;
                }
                sent
            });
            let Some((number, ask)) = sent else {
                self.bulk &= !bit;
                continue;
            };
            let (id, held, len) = (slot.id, slot.held, slot.len);
            let (woken, alone) = (self.is_woken, self.is_alone);
            let last = Limits::last(self.fragment, len)?;
            let packet = if number == 0 {
                Packet::Reply { id, status: Status::Executed, held, last, ask, woken }
            } else {
                Packet::Continuation { id, index: number, last, ask, woken, alone }
            };
            let payload = self.slots[index].payload.as_ref()?;
            return Some(Transmit::fragment(packet, payload, number, (self.fragment, len)));
        }
        None
    }
}

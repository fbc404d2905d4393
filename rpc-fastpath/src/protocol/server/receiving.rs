//! What comes in that is not the request that was expected, in one packet.

use super::slot::State;
use super::{Control, Pending, Request, Server, ServerEvent};
use crate::protocol::map::Map;
use crate::protocol::outcome::Payload;
use crate::protocol::reassembly::{Fragment, Kept, Reassembly};
use crate::wire::{self, HEADER_BYTES, Packet, Refusal, Status, span};

/// So many calls of a slot can be given up without any of their packets arriving. A number further ahead
/// is none of this session's.
const FURTHEST: u64 = 1 << 20;

/// How a number stands to that of its slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    Older,
    Same,
    Newer,
    /// Of no request of this session.
    Foreign,
}

/// What a request's packet says of the request, beside its id.
#[derive(Clone, Copy)]
struct Said {
    method: u16,
    index: u16,
    last: u16,
    ask: bool,
    /// Only the first fragment says: deadline, credit, one way.
    first: Option<(u16, u8, bool)>,
}

impl<P, D: Fragment> Server<P, D> {
    #[cold]
    pub(super) fn receive_slowly(
        &mut self,
        now: u64,
        header: &[u8; HEADER_BYTES],
        body: &[u8],
        len: usize,
        payload: D,
    ) -> Option<ServerEvent<D>> {
        let Ok(packet) = Packet::decode(header) else {
            self.malformed += 1;
            return None;
        };
        match packet {
            Packet::Open { nonce, .. } if nonce == self.nonce => {
                self.control.opened = true;
                None
            }
            Packet::Open { .. } => Some(ServerEvent::OtherSession),
            Packet::Request { id, method, time, last, credit, one_way, ask } => {
                let first = Some((time, credit, one_way));
                self.on_request(now, id, Said { method, index: 0, last, ask, first }, len, payload)
            }
            Packet::Fragment { id, method, index, last, ask } => self.on_request(
                now,
                id,
                Said { method, index, last, ask, first: None },
                len,
                payload,
            ),
            Packet::Taken { id, base, limit, resend } => {
                let map = Map::decode(body)?;
                self.on_taken(now, id, (base, limit, resend), map);
                None
            }
            Packet::Query { id } => {
                self.on_query(now, id);
                None
            }
            Packet::Ping { id } if id == self.cookie => {
                self.heard = now;
                self.control.pong = true;
                None
            }
            Packet::Ping { id } => {
                self.is_foreign(id);
                None
            }
            Packet::Close { id } if id == self.cookie && !self.is_closed => {
                self.is_closed = true;
                self.is_fenced = true;
                (self.small, self.bulk, self.control) = (0, 0, Control::default());
                Some(ServerEvent::Closed)
            }
            // From a server, or of no concern.
            _ => None,
        }
    }

    fn is_foreign(&mut self, id: u64) {
        self.foreign += 1;
        self.control.stale = Some(id);
    }

    /// The slot of a number, and how they stand. A number of this session's is a sign of life; one that is
    /// not gets an answer.
    fn age(&mut self, now: u64, id: u64) -> (u32, Age) {
        let number = id.wrapping_sub(self.cookie);
        let index = (number & (self.window - 1)) as usize;
        let current = self.slots[index].id.wrapping_sub(self.cookie);
        let age = if number < self.window {
            // No request has such a number.
            Age::Foreign
        } else if number == current {
            Age::Same
        } else if number < current {
            Age::Older
        } else if (number - current) / self.window <= FURTHEST {
            Age::Newer
        } else {
            Age::Foreign
        };
        match age {
            Age::Foreign => self.is_foreign(id),
            _ => self.heard = now,
        }
        (index as u32, age)
    }

    fn on_request(
        &mut self,
        now: u64,
        id: u64,
        said: Said,
        len: usize,
        payload: D,
    ) -> Option<ServerEvent<D>> {
        let (index, age) = self.age(now, id);
        let bit = 1 << index;
        let slot = &mut self.slots[index as usize];
        match (age, slot.state) {
            (Age::Newer, _) => {
                self.forget(now, index, id, &said);
                if !self.has_room(said.last) {
                    self.refuse_abandoned(now);
                }
                if let Some(why) = self.reason_to_refuse(&said, len) {
                    self.settle(now, index, Status::Refused(why));
                    return None;
                }
                if said.last == 0 {
                    self.learn(now, index, &said);
                    return self.dispatch(now, index, Payload::One(payload));
                }
                let slot = &mut self.slots[index as usize];
                slot.state = State::Receiving;
                slot.last = said.last;
                slot.reassembly = Some(Box::new(Reassembly::new(said.last)));
                self.unfinished += self.announced(said.last);
                self.keep(now, index, said, len, payload)
            }
            (Age::Same, State::Receiving) => self.keep(now, index, said, len, payload),
            (Age::Same, State::Executing) => {
                slot.sends_word = true;
                self.small |= bit;
                None
            }
            (Age::Same, State::Settled) => {
                // A long reply that was given just now is on its way, and the repetition, too. A fragment that asks
                // does so because no answer came; others were on their way.
                let given = now.saturating_sub(slot.received_at);
                let is_on_its_way = slot.transfer.is_some() && given < self.timers.rto_min;
                if !is_on_its_way && (said.first.is_some() || said.ask) {
                    self.send_reply_again(index);
                }
                None
            }
            (Age::Older | Age::Foreign, _) => None,
        }
    }

    /// Gives a slot to a newer request.
    fn forget(&mut self, now: u64, index: u32, id: u64, said: &Said) {
        self.forget_unfinished(index);
        let slot = &mut self.slots[index as usize];
        slot.take_over(now, id, said.method, 0);
        slot.one_way = false;
        slot.deadline = None;
        self.small &= !(1 << index);
        self.bulk &= !(1 << index);
    }

    pub(super) fn forget_unfinished(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.reassembly.take().is_some() {
            let announced = self.announced(self.slots[index as usize].last);
            self.unfinished -= announced;
        }
    }

    /// How long a request may be that ends with this fragment.
    fn announced(&self, last: u16) -> u64 {
        (u64::from(last) + 1) * u64::from(self.fragment)
    }

    /// Whether there is room for another unfinished request that ends with this fragment.
    fn has_room(&self, last: u16) -> bool {
        self.unfinished + self.announced(last) <= self.max_unfinished
    }

    /// Gives up the unfinished requests of which nothing came for as long as the patience lasts: nobody waits
    /// for them, and others want their room.
    fn refuse_abandoned(&mut self, now: u64) {
        for index in 0..self.slots.len() as u32 {
            let slot = &self.slots[index as usize];
            let silent = now.saturating_sub(slot.received_at);
            if slot.state == State::Receiving && silent >= self.timers.patience {
                self.forget_unfinished(index);
                self.settle(now, index, Status::Refused(Refusal::Overload));
            }
        }
    }

    fn reason_to_refuse(&self, said: &Said, len: usize) -> Option<Refusal> {
        // All fragments but the last are full.
        let least = u64::from(said.last) * u64::from(self.fragment) + u64::from(said.last > 0);
        let bytes = if said.last == 0 { len as u64 } else { least };
        if self.is_fenced {
            Some(Refusal::WrongEpoch)
        } else if bytes > self.max_request.into() || said.last == 0 && len > self.fragment as usize
        {
            Some(Refusal::TooLarge)
        } else if said.last > 0 && !self.has_room(said.last) {
            Some(Refusal::Overload)
        } else {
            None
        }
    }

    /// What only the first fragment says.
    fn learn(&mut self, now: u64, index: u32, said: &Said) {
        if let Some((time, credit, one_way)) = said.first {
            let slot = &mut self.slots[index as usize];
            slot.deadline = (time != 0).then(|| now.saturating_add(span::decode(time)));
            slot.credit = credit;
            slot.one_way = one_way;
        }
    }

    fn keep(
        &mut self,
        now: u64,
        index: u32,
        said: Said,
        len: usize,
        payload: D,
    ) -> Option<ServerEvent<D>> {
        let agreed = (self.fragment as usize, self.credits);
        let slot = &mut self.slots[index as usize];
        if slot.method != said.method {
            return None;
        }
        let kept = slot.reassembly.as_mut()?.keep((said.index, said.last), len, agreed, payload);
        if kept == Kept::Wrong {
            return None;
        }
        // What the network is measured by is the time since the last of them.
        slot.received_at = now;
        let is_whole = slot.reassembly.as_ref()?.is_whole();
        if said.ask || kept == Kept::Duplicate || kept == (Kept::New { tell: true }) {
            slot.sends_word = true;
            self.small |= 1 << index;
        }
        // A request that is sent again does not live longer.
        if kept != Kept::Duplicate {
            self.learn(now, index, &said);
        }
        if !is_whole {
            return None;
        }
        let announced = self.announced(said.last);
        self.unfinished -= announced;
        let slot = &mut self.slots[index as usize];
        let (parts, bytes) = slot.reassembly.take()?.into_parts();
        if bytes > self.max_request as usize {
            self.settle(now, index, Status::Refused(Refusal::TooLarge));
            return None;
        }
        // The client need not send more, however long the call takes.
        slot.sends_word = true;
        self.small |= 1 << index;
        self.dispatch(now, index, Payload::Many(parts))
    }

    /// Hands a whole request to its handler, or refuses it: the only way to one beside the fast path.
    fn dispatch(&mut self, now: u64, index: u32, payload: Payload<D>) -> Option<ServerEvent<D>> {
        let slot = &mut self.slots[index as usize];
        let why = if self.is_fenced {
            Some(Refusal::WrongEpoch)
        } else if slot.deadline.is_some_and(|deadline| deadline <= now) {
            Some(Refusal::DeadlinePassed)
        } else if self.executing >= self.backlog {
            Some(Refusal::Overload)
        } else {
            None
        };
        if let Some(why) = why {
            self.settle(now, index, Status::Refused(why));
            return None;
        }
        self.executing += 1;
        let request = Request {
            pending: Pending { id: slot.id, cookie: self.cookie },
            method: slot.method,
            payload,
            deadline: slot.deadline,
            one_way: slot.one_way,
        };
        if slot.one_way {
            self.settle(now, index, Status::Delivered);
        } else {
            slot.state = State::Executing;
        }
        Some(ServerEvent::Request(request))
    }

    /// The client asks again for what became of a request.
    fn send_reply_again(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        match (&mut slot.transfer, slot.status) {
            (Some(transfer), Some(_)) => {
                transfer.on_silence();
                self.bulk |= 1 << index;
            }
            (None, Some(_)) => {
                slot.sends_reply = true;
                self.small |= 1 << index;
            }
            // The client has it, and said so.
            (_, None) => {}
        }
    }

    fn on_query(&mut self, now: u64, id: u64) {
        let (index, age) = self.age(now, id);
        let slot = &mut self.slots[index as usize];
        match (age, slot.state) {
            (Age::Newer, _) => {
                let said = Said { method: 0, index: 0, last: 0, ask: false, first: None };
                self.forget(now, index, id, &said);
                self.settle(now, index, Status::Refused(Refusal::Withdrawn));
            }
            (Age::Same, State::Receiving) => {
                self.forget_unfinished(index);
                self.settle(now, index, Status::Refused(Refusal::Withdrawn));
            }
            (Age::Same, State::Executing) => {
                slot.sends_word = true;
                self.small |= 1 << index;
            }
            (Age::Same, State::Settled) => self.send_reply_again(index),
            (Age::Older | Age::Foreign, _) => {}
        }
    }

    /// The client's word of what it has of a reply.
    fn on_taken(&mut self, now: u64, id: u64, (base, limit, resend): (u16, u16, bool), map: Map) {
        let (index, age) = self.age(now, id);
        let slot = &mut self.slots[index as usize];
        if age != Age::Same || slot.state != State::Settled {
            return;
        }
        if base == wire::ALL {
            slot.status = None;
            slot.payload = None;
            slot.transfer = None;
            self.bulk &= !(1 << index);
            return;
        }
        let Some(transfer) = &mut slot.transfer else { return };
        slot.received_at = now;
        transfer.on_word(base.into(), map, limit.into());
        if resend {
            transfer.on_silence();
        }
        if transfer.is_ready() {
            self.bulk |= 1 << index;
        }
    }
}

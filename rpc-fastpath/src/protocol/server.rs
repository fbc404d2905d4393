//! The server's side of a session: every request reaches its handler at most once.
//!
//! ```text
//!            a newer number              the last fragment
//!   Settled ─────────────────▶ Receiving ──────────────────▶ Executing
//!      ▲ one fragment: at once ───────────────────────────────▲   │
//!      │                           │ refused                      │ reply
//!      └───────────────────────────┴──────────────────────────────┘
//! ```
//!
//! A slot keeps one number and what became of it. A number that is lower is an old packet's, and does
//! nothing; an equal one asks again, and gets the reply that was kept; a higher one says that the client
//! has done with the one before. So no table of requests is kept, and none is executed twice. A session's
//! numbers begin at a random cookie: what was meant for another session, as of a server that was restarted,
//! has no number here, and is answered so.
//!
//! The server repeats nothing by itself and has no timer but that of suspicion: the client asks.

mod receiving;
mod request;
mod sending;
mod slot;

pub use self::request::{AcceptError, Identity, Pending, ReplyTooLarge, Request, ServerEvent};
use self::slot::{Slot, State};
use super::options::{Limits, Timers};
use super::outcome::Payload;
use super::transfer::Transfer;
use super::{Failure, Fragment, Refusal, Rejection, Terms};
use crate::wire::{self, HEADER_BYTES, MAX_CREDITS, Offer, Packet, Status, Words, span};

/// The server's side of one session. `P` is the handle of a reply, `D` of what is received.
#[derive(Debug)]
pub struct Server<P, D> {
    small: u64,
    bulk: u64,
    cookie: u64,
    window: u64,
    fragment: u32,
    max_request: u32,
    /// Calls whose [`Pending`] has not come back, and how many there may be.
    executing: u32,
    backlog: u32,
    heard: u64,
    is_fenced: bool,
    /// Whether its thread had just slept when the last packets came.
    is_woken: bool,
    /// Whether no other client's calls came of late.
    is_alone: bool,
    slots: Box<[Slot<P, D>]>,
    // What is seldom needed.
    control: Control,
    nonce: u64,
    terms: Terms,
    max_reply: u32,
    credits: u16,
    /// Bytes that the unfinished requests announce, and how many they may.
    unfinished: u64,
    max_unfinished: u64,
    timers: Timers,
    next_timer: u64,
    suspected: Option<u64>,
    tells_suspicion: bool,
    is_closed: bool,
    malformed: u64,
    foreign: u64,
}

/// What stands out to be sent that belongs to no call.
#[derive(Debug, Default)]
struct Control {
    opened: bool,
    pong: bool,
    stale: Option<u64>,
}

/// The answer to a packet that belongs to no session, if it is one that a client waits for.
pub fn stale_answer(head: &[u8]) -> Option<[u8; HEADER_BYTES]> {
    match Packet::decode(head.first_chunk()?).ok()? {
        Packet::Request { id, .. }
        | Packet::Fragment { id, .. }
        | Packet::Taken { id, .. }
        | Packet::Query { id }
        | Packet::Ping { id } => Some(Packet::Stale { id }.encode()),
        _ => None,
    }
}

impl<P, D: Fragment> Server<P, D> {
    /// Makes a session of the packet that asks for one. The cookie is from a strong generator, and another
    /// for each session.
    ///
    /// # Errors
    /// [`AcceptError`].
    pub fn accept(
        now: u64,
        head: &[u8],
        identity: Identity,
        cookie: u64,
        limits: Limits,
        timers: Timers,
    ) -> Result<Self, AcceptError> {
        let (header, body) = head.split_first_chunk().ok_or(AcceptError::NotAsked)?;
        let packet = Packet::decode(header).map_err(|_| AcceptError::NotAsked)?;
        let Packet::Open { nonce, version, window, credits } = packet else {
            return Err(AcceptError::NotAsked);
        };
        let rejected = |why| {
            let answer = Packet::Rejected { nonce, version: wire::VERSION, why }.encode();
            Err(AcceptError::Rejected { why, answer })
        };
        if version != wire::VERSION {
            return rejected(Rejection::Version);
        }
        let Some(offer) = Offer::decode(body) else { return rejected(Rejection::Offer) };
        if let Err(why) = identity.service.check(&offer.service) {
            return rejected(why);
        }
        if offer.epoch != 0 && offer.epoch != identity.epoch {
            return rejected(Rejection::Epoch);
        }
        if window == 0 || credits == 0 || offer.fragment == 0 {
            return rejected(Rejection::Offer);
        }
        let (limits, timers) = (limits.checked(), timers.checked());
        let window = 1u64 << window.min(limits.window).ilog2();
        let terms = Terms {
            cookie,
            incarnation: identity.incarnation,
            epoch: identity.epoch,
            fragment: offer.fragment.min(limits.fragment),
            max_request: limits.max_message,
        };
        Ok(Self {
            small: 0,
            bulk: 0,
            cookie,
            window,
            fragment: terms.fragment,
            max_request: terms.max_request,
            executing: 0,
            backlog: limits.backlog.into(),
            heard: now,
            is_fenced: false,
            is_woken: false,
            is_alone: false,
            slots: (0..window).map(|number| Slot::new(cookie.wrapping_add(number))).collect(),
            control: Control { opened: true, ..Control::default() },
            nonce,
            terms,
            max_reply: offer.max_reply.min(super::MAX_MESSAGE as u32),
            credits: credits.min(limits.credits),
            unfinished: 0,
            max_unfinished: limits.unfinished.into(),
            timers,
            next_timer: now,
            suspected: None,
            tells_suspicion: false,
            is_closed: false,
            malformed: 0,
            foreign: 0,
        })
    }

    /// What was agreed.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// How many calls are being executed.
    pub fn executing(&self) -> u32 {
        self.executing
    }

    /// How many packets were dropped that have no header, and how many that are of no request of this session.
    pub fn dropped(&self) -> (u64, u64) {
        (self.malformed, self.foreign)
    }

    /// When the client was last heard of.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// Says whether its thread has just slept, so that what is received next may have waited for it to wake: the client
    /// is told with what is sent from then on.
    #[inline(always)]
    pub fn set_woken(&mut self, is_woken: bool) {
        self.is_woken = is_woken;
    }

    /// Says whether no other client's calls came of late. The client is told with what is long, and may keep more of
    /// it on the way ([`Timers::allowance_alone`]).
    #[inline(always)]
    pub fn set_alone(&mut self, is_alone: bool) {
        self.is_alone = is_alone;
    }

    /// Takes a packet, as [`super::Client::receive`] does.
    #[inline]
    pub fn receive(
        &mut self,
        now: u64,
        head: &[u8],
        len: usize,
        payload: D,
    ) -> Option<ServerEvent<D>> {
        let header = head.first_chunk::<HEADER_BYTES>()?;
        let words = Words::from_bytes(header);
        let index = words.id.wrapping_sub(self.cookie) & (self.window - 1);
        if let Some(slot) = self.slots.get_mut(index as usize)
            && words.is_plain_request()
            && words.id == slot.id.wrapping_add(self.window)
            && slot.state == State::Settled
            && len <= self.fragment.min(self.max_request) as usize
            && 1 << words.credit() <= MAX_CREDITS
            && self.executing < self.backlog
            && !self.is_fenced
        {
            // The call will be executed.
            self.heard = now;
            self.executing += 1;
            self.small &= !(1 << index);
            self.bulk &= !(1 << index);
            slot.take_over(now, words.id, words.method(), words.credit());
            slot.state = State::Executing;
            let deadline = match words.time() {
                0 => None,
                time => Some(now.saturating_add(span::decode(time))),
            };
            return Some(ServerEvent::Request(Request {
                pending: Pending { id: words.id, cookie: self.cookie },
                method: words.method(),
                payload: Payload::One(payload),
                deadline,
                one_way: false,
            }));
        }
        self.receive_slowly(now, header, &head[HEADER_BYTES..], len, payload)
    }

    /// Answers a call; the reply's handle is kept until the client has the reply.
    ///
    /// # Errors
    /// [`ReplyTooLarge`]: the client is told that instead.
    #[inline]
    pub fn reply(
        &mut self,
        now: u64,
        pending: Pending,
        payload: P,
        len: usize,
    ) -> Result<(), ReplyTooLarge> {
        let longest = self.fragment.min(self.max_reply) as usize;
        let Some((index, slot)) = self.finish(&pending) else { return Ok(()) };
        if len > longest {
            return self.reply_long(now, index, payload, len);
        }
        slot.settle(now, Status::Executed);
        slot.payload = Some(payload);
        slot.len = len;
        slot.sends_reply = true;
        self.small |= 1 << index;
        Ok(())
    }

    #[cold]
    fn reply_long(
        &mut self,
        now: u64,
        index: u32,
        payload: P,
        len: usize,
    ) -> Result<(), ReplyTooLarge> {
        let last = Limits::last(self.fragment, len).filter(|_| len <= self.max_reply as usize);
        let Some(last) = last else {
            self.settle(now, index, Status::Failed(Failure::ReplyTooLarge));
            return Err(ReplyTooLarge);
        };
        let slot = &mut self.slots[index as usize];
        slot.settle(now, Status::Executed);
        slot.payload = Some(payload);
        slot.len = len;
        slot.transfer = Some(Box::new(Transfer::new(last, 1 << slot.credit)));
        slot.received_at = now;
        self.bulk |= 1 << index;
        Ok(())
    }

    /// Answers a call that was begun and has no reply.
    pub fn fail(&mut self, now: u64, pending: Pending, why: Failure) {
        if let Some((index, _)) = self.finish(&pending) {
            self.settle(now, index, Status::Failed(why));
        }
    }

    /// Answers a call that was not begun, and never will be.
    pub fn refuse(&mut self, now: u64, pending: Pending, why: Refusal) {
        if let Some((index, _)) = self.finish(&pending) {
            self.settle(now, index, Status::Refused(why));
        }
    }

    /// A packet that was given out cannot be sent, since the reply is there no more: the call ends without one.
    pub fn revoke(&mut self, now: u64, head: &[u8; HEADER_BYTES]) {
        let id = Words::from_bytes(head).id;
        let index = (id.wrapping_sub(self.cookie) & (self.window - 1)) as u32;
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if slot.id != id || slot.status != Some(Status::Executed) {
            return;
        }
        (slot.payload, slot.transfer) = (None, None);
        self.bulk &= !(1 << index);
        self.settle(now, index, Status::Failed(Failure::Abandoned));
    }

    /// A call has come back from its handler: its slot, if the client still waits for an answer.
    #[inline(always)]
    fn finish(&mut self, pending: &Pending) -> Option<(u32, &mut Slot<P, D>)> {
        if pending.cookie != self.cookie {
            return None;
        }
        self.executing = self.executing.saturating_sub(1);
        let index = pending.id.wrapping_sub(self.cookie) & (self.window - 1);
        let slot = self.slots.get_mut(index as usize)?;
        // A one-way call is answered already; one that was given up has left its place.
        (slot.id == pending.id && slot.state == State::Executing).then_some((index as u32, slot))
    }

    /// Ends a call without a reply's payload.
    fn settle(&mut self, now: u64, index: u32, status: Status) {
        let slot = &mut self.slots[index as usize];
        slot.settle(now, status);
        slot.sends_reply = true;
        self.small |= 1 << index;
    }

    /// Whether a client that was heard of within `silence` has not yet all that was answered: as far as it asks for it,
    /// or tells, which it does of long replies only.
    pub fn owes(&self, now: u64, silence: u64) -> bool {
        let is_late = |heard: u64| now.saturating_sub(heard) >= silence;
        // Of a reply that is all there, nothing is kept.
        let is_owed = |slot: &Slot<P, D>| slot.transfer.is_some() && !is_late(slot.received_at);
        self.small != 0 && !is_late(self.heard) || self.slots.iter().any(is_owed)
    }

    /// The service has gone on to another epoch: of this session nothing is begun any more. What is being
    /// executed goes on, and its replies are still given.
    pub fn fence(&mut self, now: u64) {
        self.is_fenced = true;
        for index in 0..self.slots.len() as u32 {
            if self.slots[index as usize].state == State::Receiving {
                self.forget_unfinished(index);
                self.settle(now, index, Status::Refused(Refusal::WrongEpoch));
            }
        }
    }

    /// When [`Server::on_timer`] shall be called, if it is not called before; the end of time if never.
    pub fn next_timer(&self) -> u64 {
        self.next_timer
    }

    /// Suspects a client that asks for nothing any more, not even whether the server lives.
    pub fn on_timer(&mut self, now: u64) {
        if now < self.next_timer {
            return;
        }
        let span = self.timers.suspicion.max(self.timers.keepalive.saturating_mul(2));
        self.next_timer = u64::MAX;
        if self.timers.suspicion == 0 || self.timers.keepalive == 0 || self.is_closed {
            return;
        }
        let at = self.heard.saturating_add(span);
        if now < at {
            self.next_timer = at;
        } else if self.suspected.is_none() {
            self.suspected = Some(now);
            self.tells_suspicion = true;
        }
    }

    /// What happened beside what [`Server::receive`] gave back.
    #[inline]
    pub fn poll_event(&mut self) -> Option<ServerEvent<D>> {
        let since = self.suspected?;
        if std::mem::take(&mut self.tells_suspicion) {
            return Some(ServerEvent::Suspected);
        }
        if self.heard <= since {
            return None;
        }
        self.suspected = None;
        self.next_timer = self.heard;
        Some(ServerEvent::Restored)
    }
}

#[cfg(test)]
mod tests;

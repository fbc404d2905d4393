//! The client's side of a session: it begins calls, repeats what is lost, and ends every call exactly once.
//!
//! ```text
//!          start                    Received, whole
//!   Idle ─────────▶ Sent ─────────────────────────▶ Accepted      Sent      sends the request again
//!    ▲               │ Reply                           │ Reply    Accepted  asks after it: Query
//!    │               ├────────────────▶ Receiving ◀────┤          Receiving tells what it has: Taken
//!    │               ▼ one fragment         │ the last ▼
//!    └────────────── the call's end ◀───────┴──────────┘
//!                        │ nothing heard for the patience, or the deadline passed
//!                        ▼
//!                    Doubtful ── query ──▶ Accepted or Receiving
//! ```
//!
//! A call has a slot of the window, and its number is congruent to the slot's: the next call of a slot has
//! the number of the one before plus the window, and so says that the one before is over. A slot whose call
//! ended in doubt is the last one to be used again, since its outcome can be asked for until then.

mod call;
mod ending;
mod receiving;
mod sending;
mod slot;
mod timing;

use std::collections::VecDeque;

pub use self::call::{Call, Event, QueryError, SessionEnd, StartError};
use self::slot::{Phase, Slot};
use super::congestion::Congestion;
use super::options::{Limits, Timers};
use super::outcome::{Outcome, Payload, RequestId};
use super::reassembly::Fragment;
use super::round_trip::RoundTrip;
use super::transfer::Transfer;
use super::{Refusal, ServiceId, Terms};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asked for, so many times in vain, first and next at these times.
    Opening {
        times: u32,
        since: u64,
        due: u64,
    },
    Open,
    Over,
}

/// What stands out to be sent that belongs to no call.
#[derive(Debug, Default)]
struct Control {
    open: bool,
    ping: bool,
    close: bool,
}

/// The client's side of one session. `P` is the handle of what is sent, `D` of what is received.
#[derive(Debug)]
pub struct Client<P, D> {
    /// What changes with each call stands together.
    small: u64,
    bulk: u64,
    /// The slots that no call holds: without a past, and those whose call ended in doubt.
    free: u64,
    doubtful: u64,
    /// The slots whose call has ended without a reply, to be told.
    ended: u64,
    cookie: u64,
    window: u64,
    fragment: u32,
    /// For the reply: what may come unasked.
    credit: u8,
    /// Something is to be done before a call is sent.
    is_unusual: bool,
    /// Whether this side's thread slept until the last packets came, and the server's until what they answer did.
    is_woken: bool,
    was_server_woken: bool,
    /// Until when its long calls are not alone: a short one ended of late.
    short_until: u64,
    /// This side's thread never does.
    never_sleeps: bool,
    heard: u64,
    next_timer: u64,
    slots: Box<[Slot<P, D>]>,
    round_trip: RoundTrip,
    congestion: Congestion,
    backlog: VecDeque<Call<P>>,
    // What is seldom needed.
    state: State,
    control: Control,
    /// The slots whose fragment, whose request and whose permit is the next, where not all go at once.
    turn: u32,
    short_turn: u32,
    permit_turn: u32,
    /// Requests that went since a fragment did, which waits.
    short_sent: u32,
    /// Not before this, requests are looked for that others have overtaken.
    look_for_overtaken: u64,
    nonce: u64,
    service: ServiceId,
    terms: Terms,
    credits: u16,
    limits: Limits,
    timers: Timers,
    chance: u64,
    pinged: u64,
    suspected: Option<u64>,
    told: Told,
    malformed: u64,
}

/// What of the session itself is still to be told.
#[derive(Debug, Default)]
struct Told {
    suspicion: bool,
    /// A call that waits may be past its deadline.
    expiry: bool,
    end: Option<SessionEnd>,
}

impl<P, D: Fragment> Client<P, D> {
    /// Asks for a session with a service. The nonce is from a strong generator, and another for each
    /// client; `epoch` is the one that the server shall be in, zero for any.
    pub fn new(
        now: u64,
        nonce: u64,
        service: impl Into<ServiceId>,
        epoch: u64,
        limits: Limits,
        timers: Timers,
    ) -> Self {
        let (limits, timers) = (limits.checked(), timers.checked());
        Self {
            small: 0,
            bulk: 0,
            free: 0,
            doubtful: 0,
            ended: 0,
            cookie: 0,
            window: 1,
            fragment: limits.fragment,
            credit: 0,
            is_unusual: true,
            is_woken: false,
            was_server_woken: false,
            short_until: 0,
            never_sleeps: false,
            heard: now,
            next_timer: now.saturating_add(timers.rto_initial),
            slots: Box::default(),
            round_trip: RoundTrip::new(&timers),
            congestion: Congestion::new(timers.allowance),
            backlog: VecDeque::with_capacity(limits.backlog.into()),
            state: State::Opening {
                times: 0,
                since: now,
                due: now.saturating_add(timers.rto_initial),
            },
            control: Control { open: true, ..Control::default() },
            turn: 0,
            short_turn: 0,
            permit_turn: 0,
            short_sent: 0,
            look_for_overtaken: 0,
            nonce,
            service: service.into(),
            terms: Terms { cookie: 0, incarnation: 0, epoch, fragment: 0, max_request: 0 },
            credits: limits.credits,
            limits,
            timers,
            chance: nonce | 1,
            pinged: now,
            suspected: None,
            told: Told::default(),
            malformed: 0,
        }
    }

    /// What was agreed; nothing before the session is there.
    pub fn terms(&self) -> Option<&Terms> {
        (!self.slots.is_empty()).then_some(&self.terms)
    }

    /// How many calls can be under way at once: as agreed, or as will be offered.
    pub fn window(&self) -> usize {
        if self.slots.is_empty() { self.limits.window.into() } else { self.slots.len() }
    }

    /// Whether calls can be begun.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Begins a call, or lets it wait for its turn in the backlog.
    ///
    /// # Errors
    /// [`StartError`] gives the arguments back: the call has ended, not executed.
    #[inline]
    pub fn start(&mut self, now: u64, call: Call<P>) -> Result<(), StartError<P>> {
        let fits =
            call.len <= self.fragment as usize && call.len <= self.terms.max_request as usize;
        if self.free == 0 || !self.backlog.is_empty() || !fits {
            return self.start_slowly(now, call);
        }
        let index = self.free.trailing_zeros();
        self.free &= self.free - 1;
        self.place(now, index, call);
        Ok(())
    }

    #[cold]
    fn start_slowly(&mut self, now: u64, call: Call<P>) -> Result<(), StartError<P>> {
        let max = match self.state {
            State::Over => return Err(refused(Refusal::NoSession, call)),
            State::Opening { .. } => super::MAX_MESSAGE,
            State::Open => self.terms.max_request as usize,
        };
        if call.len > max {
            return Err(refused(Refusal::TooLarge, call));
        }
        if call.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(refused(Refusal::DeadlinePassed, call));
        }
        if self.state == State::Open && self.backlog.is_empty() {
            let Some(last) = Limits::last(self.fragment, call.len) else {
                return Err(refused(Refusal::TooLarge, call));
            };
            if let Some(index) = self.vacant() {
                self.place_long(now, index, call, last);
                return Ok(());
            }
        }
        if self.backlog.len() >= self.limits.backlog.into() {
            return Err(refused(Refusal::Overload, call));
        }
        self.wake(call.deadline.unwrap_or(u64::MAX));
        self.backlog.push_back(call);
        Ok(())
    }

    /// A slot for a call: one without a past, rather than one in doubt.
    fn vacant(&mut self) -> Option<u32> {
        let from = if self.free != 0 { &mut self.free } else { &mut self.doubtful };
        if *from == 0 || self.state != State::Open {
            return None;
        }
        let index = from.trailing_zeros();
        *from &= *from - 1;
        Some(index)
    }

    /// Gives a call a slot that is no longer free; its arguments fit into one packet.
    #[inline(always)]
    fn place(&mut self, now: u64, index: u32, call: Call<P>) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        slot.begin(now, call, self.window);
        slot.due = now.saturating_add(self.timers.patience).min(slot.deadline);
        self.next_timer = self.next_timer.min(slot.due);
        slot.send = slot::Send::REQUEST;
        self.small |= 1 << index;
    }

    /// The same for arguments of any length.
    fn place_long(&mut self, now: u64, index: u32, call: Call<P>, last: u16) {
        self.place(now, index, call);
        if last > 0 {
            self.small &= !(1 << index);
            self.bulk |= 1 << index;
            let slot = &mut self.slots[index as usize];
            slot.send = slot::Send::default();
            slot.transfer = Some(Box::new(Transfer::new(last, self.credits)));
        }
    }

    /// Gives the calls that wait their slots; ends what cannot be begun, one of them.
    fn advance_backlog(&mut self, now: u64) -> Option<Event<D>> {
        if std::mem::take(&mut self.told.expiry) {
            let is_past = |call: &Call<P>| call.deadline.is_some_and(|deadline| deadline <= now);
            if let Some(at) = self.backlog.iter().position(is_past) {
                self.told.expiry = true;
                let call = self.backlog.remove(at)?;
                return Some(ended(call.token, None, Outcome::Refused(Refusal::DeadlinePassed)));
            }
        }
        while let Some(first) = self.backlog.front() {
            let last = Limits::last(self.fragment, first.len);
            let last = last.filter(|_| first.len <= self.terms.max_request as usize);
            let why = match (self.state, last) {
                (State::Over, _) => Some(Refusal::NoSession),
                (State::Opening { .. }, _) => return None,
                (State::Open, None) => Some(Refusal::TooLarge),
                (State::Open, Some(_)) => None,
            };
            if let Some(why) = why {
                let call = self.backlog.pop_front()?;
                return Some(ended(call.token, None, Outcome::Refused(why)));
            }
            let index = self.vacant()?;
            let call = self.backlog.pop_front()?;
            self.place_long(now, index, call, last?);
        }
        None
    }

    /// Asks for the outcome of a call that ended in doubt. It ends once more, with what the server says: if
    /// it never arrived, it never will.
    ///
    /// # Errors
    /// [`QueryError`]: then nobody knows.
    pub fn query(&mut self, now: u64, request: RequestId) -> Result<(), QueryError> {
        if self.state != State::Open {
            return Err(QueryError::SessionOver);
        }
        let index = request.number & (self.window - 1);
        let slot = &mut self.slots[index as usize];
        let id = request.cookie.wrapping_add(request.number);
        if self.doubtful >> index & 1 == 0 || request.cookie != self.cookie || slot.id != id {
            return Err(QueryError::NotInDoubt);
        }
        self.doubtful &= !(1 << index);
        slot.resume(now);
        slot.due = now.saturating_add(self.round_trip.timeout());
        self.next_timer = self.next_timer.min(slot.due);
        self.small |= 1 << index;
        Ok(())
    }

    /// What happened beside what [`Client::receive`] gave back. To be asked until there is nothing, after
    /// whatever was received or done.
    #[inline]
    pub fn poll_event(&mut self, now: u64) -> Option<Event<D>> {
        let quiet = self.ended == 0 && self.backlog.is_empty();
        if quiet && self.told.end.is_none() && self.suspected.is_none() {
            return None;
        }
        self.poll_event_slowly(now)
    }

    #[cold]
    fn poll_event_slowly(&mut self, now: u64) -> Option<Event<D>> {
        if let Some(end) = self.told.end.take() {
            return Some(Event::SessionOver(end));
        }
        if self.ended != 0 {
            let index = self.ended.trailing_zeros();
            self.ended &= self.ended - 1;
            return self.tell_end(index);
        }
        if std::mem::take(&mut self.told.suspicion) {
            return Some(Event::Suspected);
        }
        if self.suspected.is_some_and(|since| self.heard > since) {
            self.suspected = None;
            return Some(Event::Restored);
        }
        self.advance_backlog(now)
    }

    /// Tells the end of a call that had no reply, and frees its slot.
    fn tell_end(&mut self, index: u32) -> Option<Event<D>> {
        let slot = self.slots.get_mut(index as usize)?;
        let outcome = slot.end.take()?;
        let request = Some(slot.request(self.cookie));
        let token = slot.token;
        let in_doubt = matches!(outcome, Outcome::Unknown(_));
        if self.state == State::Open && in_doubt {
            slot.phase = Phase::Doubtful;
            self.doubtful |= 1 << index;
        } else {
            slot.retire(self.window);
            if self.state == State::Open {
                self.free |= 1 << index;
            }
        }
        let outcome = match outcome {
            Outcome::Unknown(doubt) => Outcome::Unknown(doubt),
            Outcome::Refused(why) => Outcome::Refused(why),
            // Whoever executed it has answered, which is told at once.
            _ => return None,
        };
        Some(ended(token, request, outcome))
    }
}

fn refused<P>(why: Refusal, call: Call<P>) -> StartError<P> {
    StartError { why, payload: call.payload }
}

fn ended<D>(token: u64, request: Option<RequestId>, outcome: Outcome<Payload<D>>) -> Event<D> {
    Event::Ended { token, request, outcome }
}

#[cfg(test)]
mod tests;

//! A place for one call, and what stands out for it.

use super::Call;
use crate::protocol::outcome::{Outcome, RequestId};
use crate::protocol::reassembly::Reassembly;
use crate::protocol::transfer::Transfer;

/// Where a call stands: see the picture in the module above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Idle,
    Sent,
    Accepted,
    Receiving,
    /// Ended without a reply, which is still to be told.
    Ended,
    Doubtful,
}

/// Which single packet is to be sent for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Send(u8);

impl Send {
    /// The request, in its only fragment.
    pub const REQUEST: Self = Self(1);
    /// What became of it?
    pub const QUERY: Self = Self(2);
    /// What of the reply is here.
    pub const WORD: Self = Self(4);
    /// All of the reply of the call before is here.
    pub const ALL_TAKEN: Self = Self(8);
    /// What of the reply is here, once more of it may be permitted.
    pub const PERMIT: Self = Self(16);
}

#[derive(Debug)]
pub struct Slot<P, D> {
    /// Of the call that holds it; if none does, of the next one: the header is known before the call. Only
    /// one in doubt keeps its own.
    pub id: u64,
    pub phase: Phase,
    pub send: Send,
    pub one_way: bool,
    /// Whether any packet of it was given out to be sent.
    pub was_sent: bool,
    /// In vain, since something was last heard of it.
    pub times: u32,
    /// Of these, one was because later requests were answered, and not for silence.
    pub missed: bool,
    pub method: u16,
    pub max_reply: u32,
    pub sent_at: u64,
    pub due: u64,
    /// When there was a sign of progress.
    pub heard: u64,
    pub deadline: u64,
    pub token: u64,
    pub len: usize,
    pub payload: Option<P>,
    // Of long messages.
    pub transfer: Option<Box<Transfer>>,
    pub reassembly: Option<Box<Reassembly<D>>>,
    /// The reply's sender shall send the first missing fragment again.
    pub resend: bool,
    /// How far the reply's sender was told to send, by what is known to be the last word.
    pub told: u32,
    /// How far it may have been told before that: fragments below this may come unasked.
    pub told_before: u32,
    /// The first fragment beyond what it had been told before, and when it was told.
    pub timed: Option<(u32, u64)>,
    pub end: Option<Outcome<()>>,
}

impl<P, D> Slot<P, D> {
    /// A slot before its first call, which has this id.
    pub fn new(id: u64) -> Self {
        Self {
            id,
            phase: Phase::Idle,
            send: Send::default(),
            one_way: false,
            was_sent: false,
            times: 0,
            missed: false,
            method: 0,
            max_reply: 0,
            sent_at: 0,
            due: u64::MAX,
            heard: 0,
            deadline: u64::MAX,
            token: 0,
            len: 0,
            payload: None,
            transfer: None,
            reassembly: None,
            resend: false,
            told: 0,
            told_before: 0,
            timed: None,
            end: None,
        }
    }

    /// Takes a call. One that was in doubt is given up.
    #[inline(always)]
    pub fn begin(&mut self, now: u64, call: Call<P>, window: u64) {
        if self.phase == Phase::Doubtful {
            self.retire(window);
        }
        self.phase = Phase::Sent;
        self.one_way = call.one_way;
        self.was_sent = false;
        (self.times, self.missed) = (0, false);
        (self.told, self.told_before) = (0, 0);
        self.method = call.method;
        self.max_reply = call.max_reply;
        self.heard = now;
        self.deadline = call.deadline.unwrap_or(u64::MAX);
        self.token = call.token;
        self.len = call.len;
        self.payload = Some(call.payload);
    }

    /// Takes up a call in doubt again.
    pub fn resume(&mut self, now: u64) {
        self.heard = now;
        self.times = 1;
        self.deadline = u64::MAX;
        if self.reassembly.is_some() {
            self.phase = Phase::Receiving;
            self.send = Send::WORD;
            self.resend = true;
        } else {
            self.phase = Phase::Accepted;
            self.send = Send::QUERY;
        }
    }

    /// Whether a call holds it whose end is not known.
    #[inline(always)]
    pub fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Sent | Phase::Accepted | Phase::Receiving)
    }

    /// Whether a reply is awaited.
    #[inline(always)]
    pub fn is_waiting_for(&self, id: u64) -> bool {
        self.id == id && self.is_busy() && self.was_sent
    }

    /// The server has the arguments: nobody asks for them again.
    pub fn release_arguments(&mut self) {
        self.payload = None;
        self.transfer = None;
    }

    /// Whether its request was sent again because later ones were answered.
    #[inline(always)]
    pub fn was_missed(&self) -> bool {
        self.missed && self.send == Send::default()
    }

    /// How many fragments of the reply were permitted and have not come.
    pub fn permitted(&self) -> u32 {
        // Of a call in doubt nothing is awaited.
        let reassembly = self.reassembly.as_ref().filter(|_| self.phase == Phase::Receiving);
        reassembly.map_or(0, |it| self.told.min(it.count()).saturating_sub(it.arrived()))
    }

    /// The request says how many fragments of its reply may come unasked, as a logarithm. Of one that is sent again nobody
    /// knows which of them came: `before` is what was permitted, where that was not noted.
    pub fn permit_first(&mut self, credit: u8, before: u32) {
        self.told_before = self.told_before.max(self.told).max(before);
        self.told = 1 << credit;
    }

    /// Whether there are fragments of the reply that were not permitted.
    pub fn lacks_permits(&self) -> bool {
        self.reassembly.as_ref().is_some_and(|it| self.told < it.count())
    }

    pub fn end_without_reply(&mut self, end: Outcome<()>) {
        self.phase = Phase::Ended;
        self.send = Send::default();
        self.end = Some(end);
        self.due = u64::MAX;
        self.release_arguments();
    }

    /// Frees it for the next call, whose id is known now.
    #[inline(always)]
    pub fn retire(&mut self, window: u64) {
        self.phase = Phase::Idle;
        self.id = self.id.wrapping_add(window);
        self.due = u64::MAX;
        self.payload = None;
        if self.transfer.is_some() || self.reassembly.is_some() {
            self.clear();
        }
    }

    #[cold]
    pub fn clear(&mut self) {
        self.transfer = None;
        self.reassembly = None;
        self.resend = false;
        (self.told, self.told_before) = (0, 0);
        self.timed = None;
    }

    pub fn request(&self, cookie: u64) -> RequestId {
        RequestId { cookie, number: self.id.wrapping_sub(cookie) }
    }
}

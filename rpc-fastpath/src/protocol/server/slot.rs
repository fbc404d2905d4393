//! The last request of a place in the window, and what became of it.

use crate::protocol::reassembly::Reassembly;
use crate::protocol::transfer::Transfer;
use crate::wire::{Status, span};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There was none yet, or what became of it is known.
    Settled,
    /// Some fragments are here.
    Receiving,
    /// Its handler has it.
    Executing,
}

#[derive(Debug)]
pub struct Slot<P, D> {
    pub id: u64,
    pub state: State,
    /// Nothing while it is not settled, before the first request, and once the client has it all.
    pub status: Option<Status>,
    /// The reply's first and only fragment is to be sent.
    pub sends_reply: bool,
    /// What is here of the request is to be told.
    pub sends_word: bool,
    pub one_way: bool,
    /// The logarithm of how many fragments of the reply may be sent unasked.
    pub credit: u8,
    pub method: u16,
    pub received_at: u64,
    /// How long the request was here, as a span.
    pub held: u16,
    pub payload: Option<P>,
    pub len: usize,
    // Of long messages.
    pub transfer: Option<Box<Transfer>>,
    pub reassembly: Option<Box<Reassembly<D>>>,
    pub last: u16,
    /// Once the first fragment has told.
    pub deadline: Option<u64>,
}

impl<P, D> Slot<P, D> {
    pub fn new(id: u64) -> Self {
        Self {
            id,
            state: State::Settled,
            status: None,
            sends_reply: false,
            sends_word: false,
            one_way: false,
            credit: 0,
            method: 0,
            received_at: 0,
            held: 0,
            payload: None,
            len: 0,
            transfer: None,
            reassembly: None,
            last: 0,
            deadline: None,
        }
    }

    /// Becomes that of a newer request: the client has done with the one before.
    #[inline(always)]
    pub fn take_over(&mut self, now: u64, id: u64, method: u16, credit: u8) {
        self.id = id;
        self.status = None;
        self.sends_reply = false;
        self.sends_word = false;
        self.method = method;
        self.credit = credit;
        self.received_at = now;
        self.payload = None;
        if self.transfer.is_some() {
            self.transfer = None;
        }
    }

    #[inline(always)]
    pub fn settle(&mut self, now: u64, status: Status) {
        self.state = State::Settled;
        self.status = Some(status);
        self.sends_word = false;
        self.held = span::encode(now.saturating_sub(self.received_at));
        self.len = 0;
    }
}

//! What a binding knows of its calls under way.

use std::os::fd::BorrowedFd;
use std::task::Waker;

use segment::wait::Waiter;
use unet::{Channel, CloseReason, Delivery};

use crate::a_stack::A_STACKS;
use crate::outcome::{Outcome, UnknownReason};
use crate::wire::{CallWord, call_word, status};

/// What is known of an A-stack.
#[derive(Clone, Copy)]
pub(super) enum AStack {
    Free,
    /// A call is under way on it, with this number; somebody waits.
    Waiting(u32),
    /// The reply is kept in [`State::replies`]; somebody will come for it.
    Replied,
    /// A call is under way on it, and nobody waits any more.
    Abandoned(u32),
}

pub(super) struct State {
    pub channel: Channel,
    pub a_stacks: Box<[AStack]>,
    /// By procedure: free A-stacks, the last used on top.
    pub free: Box<[Vec<u16>]>,
    /// Replies that a nested call received for the one it is nested in; at most one an A-stack.
    pub replies: Vec<(u16, Delivery)>,
    pub number: u32,
    /// What was received last.
    pub message: Delivery,
    pub scratch: Box<[u8]>,
    /// Who awaits a reply; at most one an A-stack.
    pub wakers: Vec<(u16, Waker)>,
    /// Who is to be woken once the state is not borrowed any more: they may call on the binding.
    pub woken: Vec<Waker>,
    /// An event loop waits for the channel's doorbell.
    pub armed: bool,
    /// A reply was taken, or the end, of which the event loop does not know yet.
    pub news: bool,
    /// The end was taken.
    pub ended: bool,
}

impl State {
    /// The server says that it failed, or that it executed the call and then makes no sense: it may
    /// have.
    #[cold]
    pub fn broken<T>(&mut self, tag: u16) -> Outcome<T> {
        Outcome::Unknown(match tag {
            status::FAILED => UnknownReason::Failed,
            status::RESULTS_TOO_LARGE => UnknownReason::ResultsTooLarge,
            _ => UnknownReason::Closed(self.channel.poison_protocol()),
        })
    }

    #[cold]
    pub fn lost<T>(&mut self, a_stack: u16, reason: CloseReason) -> Outcome<T> {
        self.end();
        self.release(a_stack);
        Outcome::Unknown(UnknownReason::Closed(reason))
    }

    pub fn release(&mut self, a_stack: u16) {
        self.a_stacks[usize::from(a_stack)] = AStack::Free;
        self.free[usize::from(a_stack) / A_STACKS].push(a_stack);
    }

    /// Nothing more is received. `true` the first time: whoever awaits something looks again then.
    #[cold]
    pub fn end(&mut self) -> bool {
        let first = !std::mem::replace(&mut self.ended, true);
        self.news |= first;
        self.woken.extend(self.wakers.drain(..).map(|(_, waker)| waker));
        first
    }

    /// Takes the replies that are there, and the end. `true` if there was anything.
    pub fn take_replies(&mut self) -> bool {
        let mut taken = false;
        // It ends: each A-stack has one reply at most, and a server that sends more is poisoned.
        loop {
            match self.channel.try_recv_into(&mut self.message) {
                Ok(true) => {
                    self.keep(call_word(&self.message));
                    taken = true;
                }
                Ok(false) if self.channel.closed().is_none() => return taken,
                // That look found the end; what was sent before it is taken too.
                Ok(false) => {}
                Err(_) => return self.end() || taken,
            }
        }
    }

    /// Keeps a reply for the call that waits for it, or drops one that nobody waits for.
    #[cold]
    pub fn keep(&mut self, word: Option<CallWord>) {
        self.news = true;
        let message = std::mem::take(&mut self.message);
        let place = word.and_then(|word| self.a_stacks.get_mut(usize::from(word.a_stack)));
        match (word, place.as_deref()) {
            (Some(word), Some(AStack::Waiting(number))) if *number == word.number => {
                self.a_stacks[usize::from(word.a_stack)] = AStack::Replied;
                self.replies.push((word.a_stack, message));
                let waker = self.forget_waker(word.a_stack);
                self.woken.extend(waker);
            }
            (Some(word), Some(AStack::Abandoned(number))) if *number == word.number => {
                self.release(word.a_stack);
            }
            _ => {
                self.channel.poison_protocol();
            }
        }
    }

    /// Sleeps for a reply, or until `other` is readable. An event loop that waits for the doorbell goes
    /// on waiting for it: it is armed again, with what was there until then taken.
    #[cold]
    pub fn park(&mut self, waiter: &Waiter, other: Option<BorrowedFd<'_>>) {
        self.channel.park_beside(waiter, other);
        while self.armed && !self.channel.arm() {
            self.take_replies();
            self.armed = !self.ended;
        }
    }

    /// Takes out who awaits a call, to be dropped when the state is not borrowed any more.
    #[cold]
    pub fn forget_waker(&mut self, a_stack: u16) -> Option<Waker> {
        let at = self.wakers.iter().position(|(of, _)| *of == a_stack)?;
        Some(self.wakers.swap_remove(at).1)
    }

    /// Notes that nobody waits for a call any more. A reply that is kept for it already is dropped.
    #[cold]
    pub fn abandon(&mut self, a_stack: u16) {
        match self.a_stacks[usize::from(a_stack)] {
            AStack::Waiting(number) => {
                self.a_stacks[usize::from(a_stack)] = AStack::Abandoned(number);
            }
            AStack::Replied => {
                drop(self.kept(a_stack));
                self.release(a_stack);
            }
            AStack::Free | AStack::Abandoned(_) => {}
        }
    }

    /// Takes the reply that was kept for a call.
    #[cold]
    pub fn kept(&mut self, a_stack: u16) -> Option<Delivery> {
        let at = self.replies.iter().position(|(of, _)| *of == a_stack)?;
        Some(self.replies.swap_remove(at).1)
    }
}

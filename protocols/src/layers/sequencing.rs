//! `sequencing`: in order, and none twice.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use crate::description::OptionError;
use crate::{
    Below, Context, Instant, Message, Opened, Options, Participants, Protocol, Reason, Refusal,
    Slot, Slots, Verdict,
};

/// Numbers the messages of a session, and delivers those that arrive in the order in which they were
/// sent, each once. It repeats nothing: what is lost below stays lost, and after `timeout` it is
/// waited for no longer.
///
/// | bytes | what |
/// |---|---|
/// | 0–3 | the message's number, in network byte order; compared as RFC 1982 says |
///
/// Both ends begin anew when a session is opened. Options: `first`, the number of its first message, the
/// same on both sides (0); `window`, how far ahead of the next one a message may be that is kept (256);
/// `timeout`, how long a gap is waited for, and the next one anew (20ms); `held`, how many messages are
/// kept in all sessions together (64): each keeps the buffers in which it came.
///
/// A message further ahead than the window is dropped; but if it and its direct successor come one
/// after the other, the sender is believed to be there, and the sequence goes on from there (so does
/// RFC 3550, A.1).
#[derive(Debug)]
pub struct Sequencing {
    first: u32,
    window: u32,
    timeout: Duration,
    held_limit: usize,
    held: usize,
    sessions: Slots<Session>,
    skipped: u64,
}

#[derive(Debug)]
struct Session {
    /// The number of the next message to send.
    next: u32,
    /// The number of the next message to deliver.
    expected: u32,
    /// What came too early, by number from the expected one on: no two have the same.
    ahead: VecDeque<Early>,
    /// When the gap before the first of them is given up.
    give_up: Instant,
    /// What a sender that has jumped will send next.
    after_jump: Option<u32>,
}

#[derive(Debug)]
struct Early {
    number: u32,
    message: Message,
    attributes: Participants,
}

const HEADER: usize = 4;
const _: () = assert!(HEADER == size_of::<u32>());

impl Sequencing {
    /// From a description.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.only(&["first", "window", "timeout", "held"])?;
        let window = options.within("window", 1..=1 << 16, "a number from 1 to 65536")?;
        Ok(Self {
            first: options.get("first", "a number below 4294967296")?.unwrap_or(0),
            window: window.unwrap_or(256),
            timeout: options.duration("timeout")?.unwrap_or(Duration::from_millis(20)),
            held_limit: options.get("held", "a number of messages")?.unwrap_or(64),
            held: 0,
            sessions: Slots::new(1 << 16),
            skipped: 0,
        })
    }

    /// A message that is not the expected one.
    #[cold]
    fn out_of_order(
        &mut self,
        slot: Slot,
        number: u32,
        message: &mut Message,
        context: &mut Context,
    ) -> Verdict {
        let Some(session) = self.sessions.get_mut(slot) else {
            return Verdict::Drop(Reason::NoSession);
        };
        let distance = number.wrapping_sub(session.expected);
        if distance >= 1 << 31 {
            return Verdict::Drop(Reason::Late);
        }
        if distance > self.window {
            if session.after_jump.replace(number.wrapping_add(1)) != Some(number) {
                return Verdict::Drop(Reason::TooFarAhead);
            }
            self.release_all(slot, context);
            return self.resume_at(slot, number, message, context);
        }
        let expected = session.expected;
        let far = |early: &Early| early.number.wrapping_sub(expected);
        let Err(place) = session.ahead.binary_search_by_key(&distance, far) else {
            return Verdict::Drop(Reason::Duplicate);
        };
        if self.held >= self.held_limit {
            return Verdict::Drop(Reason::QueueFull);
        }
        if session.ahead.is_empty() {
            session.give_up = context.now() + self.timeout;
            context.wake_at(session.give_up);
        }
        let (message, attributes) = (mem::take(message), context.attributes);
        session.ahead.insert(place, Early { number, message, attributes });
        self.held += 1;
        Verdict::Taken
    }

    fn resume_at(
        &mut self,
        slot: Slot,
        number: u32,
        message: &mut Message,
        context: &mut Context,
    ) -> Verdict {
        if let Some(session) = self.sessions.get_mut(slot) {
            self.skipped += u64::from(number.wrapping_sub(session.expected));
            session.expected = number.wrapping_add(1);
            session.after_jump = None;
        }
        // Behind what was released, so it is emitted as that is.
        context.emit_up(slot, mem::take(message));
        Verdict::Taken
    }

    /// Emits what follows the last one delivered without a gap.
    #[cold]
    fn release(&mut self, slot: Slot, context: &mut Context) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let attributes = context.attributes;
        while session.ahead.front().is_some_and(|early| early.number == session.expected)
            && let Some(Early { message, attributes, .. }) = session.ahead.pop_front()
        {
            session.expected = session.expected.wrapping_add(1);
            self.held -= 1;
            context.attributes = attributes;
            context.emit_up(slot, message);
        }
        context.attributes = attributes;
        if !session.ahead.is_empty() {
            // A further gap, which is waited for anew.
            session.give_up = context.now() + self.timeout;
            context.wake_at(session.give_up);
        }
    }

    /// Gives up the gap in front.
    fn skip_gap(&mut self, slot: Slot, context: &mut Context) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Some(first) = session.ahead.front() else { return };
        self.skipped += u64::from(first.number.wrapping_sub(session.expected));
        session.expected = first.number;
        self.release(slot, context);
    }

    fn release_all(&mut self, slot: Slot, context: &mut Context) {
        // Each time at least one is released.
        while self.sessions.get(slot).is_some_and(|session| !session.ahead.is_empty()) {
            self.skip_gap(slot, context);
        }
    }
}

impl Protocol for Sequencing {
    fn open(&mut self, _who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        let session = Session {
            next: self.first,
            expected: self.first,
            ahead: VecDeque::new(),
            give_up: Instant::NEVER,
            after_jump: None,
        };
        let slot = self.sessions.insert(session).map_err(|_| Refusal::Limit)?;
        Ok(Opened { slot, lower: 0 })
    }

    fn opened(&mut self, _slot: Slot, below: Below) -> Below {
        below.under_header(HEADER)
    }

    fn push(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let Some(session) = self.sessions.get_mut(slot) else {
            return Verdict::Drop(Reason::NoSession);
        };
        let verdict = context.push_header(message, &session.next.to_be_bytes());
        if verdict == Verdict::Pass {
            session.next = session.next.wrapping_add(1);
        }
        verdict
    }

    fn pop(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let mut header = [0; HEADER];
        if message.pop(&mut header).is_err() {
            return Verdict::Drop(Reason::Malformed);
        }
        let number = u32::from_be_bytes(header);
        match self.sessions.get_mut(slot) {
            Some(session) if session.expected == number => {
                session.expected = number.wrapping_add(1);
                if !session.ahead.is_empty() {
                    self.release(slot, context);
                }
                Verdict::Pass
            }
            _ => self.out_of_order(slot, number, message, context),
        }
    }

    fn wake(&mut self, context: &mut Context) {
        let now = context.now();
        let due: Vec<Slot> = self
            .sessions
            .iter_mut()
            .filter(|(_, session)| !session.ahead.is_empty())
            .filter_map(|(slot, session)| {
                let due = session.give_up <= now;
                if !due {
                    context.wake_at(session.give_up);
                }
                due.then_some(slot)
            })
            .collect();
        for slot in due {
            self.skip_gap(slot, context);
        }
    }

    fn drain(&mut self, slot: Slot, context: &mut Context) {
        self.release_all(slot, context);
    }

    fn close(&mut self, slot: Slot, context: &mut Context) {
        if let Some(session) = self.sessions.remove(slot) {
            for _ in session.ahead {
                self.held -= 1;
                context.count(Reason::Closed);
            }
        }
    }

    fn statistics(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        tell("held", self.held as u64);
        tell("skipped", self.skipped);
    }
}

//! `generation`: tells the messages of the stack as it was from those of the stack as it is.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use crate::description::OptionError;
use crate::{
    Answer, Below, Context, Instant, Message, Opened, Options, Participants, Protocol, Reason,
    Refusal, Request, Slot, Slots, Verdict,
};

/// Below the place where layers come and go while messages pass, on both sides: each message says to
/// which generation of the stack above it belongs. One of the next generation waits here, and all
/// that follow it, until this side's stack has changed too; one of an older or a still later
/// generation is dropped and counted.
///
/// | bytes | what |
/// |---|---|
/// | 0–3 | the generation, from zero, in network byte order; it wraps around |
///
/// [`Graph::begin_insert`](crate::Graph::begin_insert) and its sisters do the changes. Options:
/// `held`, how many messages of the next generation wait in all sessions together (64): each keeps
/// the buffers in which it came; `timeout`, how long one waits (1s), after which it is dropped and
/// counted like those that came too late.
#[derive(Debug)]
pub struct Generation {
    held_limit: usize,
    held: usize,
    timeout: Duration,
    sessions: Slots<Session>,
}

#[derive(Debug, Default)]
struct Session {
    sending: u32,
    receiving: u32,
    /// Of the next generation, in the order of their arrival.
    ahead: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// When it is given up.
    until: Instant,
    message: Message,
    attributes: Participants,
}

const HEADER: usize = 4;
const _: () = assert!(HEADER == size_of::<u32>());

/// Orders that the graph gives when it changes the stack above.
pub(crate) const SENDING: Request<'static> = Request::Set("sending", "next");
pub(crate) const RECEIVING: Request<'static> = Request::Set("receiving", "next");

impl Generation {
    /// From a description.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.only(&["held", "timeout"])?;
        Ok(Self {
            held_limit: options.get("held", "a number of messages")?.unwrap_or(64),
            held: 0,
            timeout: options.duration("timeout")?.unwrap_or(Duration::from_secs(1)),
            sessions: Slots::new(1 << 16),
        })
    }
}

impl Protocol for Generation {
    fn open(&mut self, _who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        let slot = self.sessions.insert(Session::default()).map_err(|_| Refusal::Limit)?;
        Ok(Opened { slot, lower: 0 })
    }

    fn opened(&mut self, _slot: Slot, below: Below) -> Below {
        below.under_header(HEADER)
    }

    fn push(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        match self.sessions.get(slot) {
            Some(session) => context.push_header(message, &session.sending.to_be_bytes()),
            None => Verdict::Drop(Reason::NoSession),
        }
    }

    fn pop(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let mut header = [0; HEADER];
        if message.pop(&mut header).is_err() {
            return Verdict::Drop(Reason::Malformed);
        }
        let Some(session) = self.sessions.get_mut(slot) else {
            return Verdict::Drop(Reason::NoSession);
        };
        match u32::from_be_bytes(header).wrapping_sub(session.receiving) {
            0 => Verdict::Pass,
            1 if self.held >= self.held_limit => Verdict::Drop(Reason::QueueFull),
            1 => {
                let until = context.now() + self.timeout;
                let (message, attributes) = (mem::take(message), context.attributes);
                session.ahead.push_back(Waiting { until, message, attributes });
                self.held += 1;
                context.wake_at(until);
                context.stack_is_behind();
                Verdict::Taken
            }
            _ => Verdict::Drop(Reason::Generation),
        }
    }

    /// Gives up what has waited too long.
    fn wake(&mut self, context: &mut Context) {
        let now = context.now();
        for (_, session) in self.sessions.iter_mut() {
            while let Some(first) = session.ahead.front() {
                if first.until > now {
                    context.wake_at(first.until);
                    break;
                }
                session.ahead.pop_front();
                self.held -= 1;
                context.count(Reason::Generation);
            }
        }
    }

    /// Emits what waits, now that the stack above is of its generation; if it is not, since the
    /// session ends, it is for nobody and stays.
    fn drain(&mut self, slot: Slot, context: &mut Context) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if !context.stack_has_changed() {
            return;
        }
        let attributes = context.attributes;
        self.held -= session.ahead.len();
        for Waiting { message, attributes, .. } in session.ahead.drain(..) {
            context.attributes = attributes;
            context.emit_up(slot, message);
        }
        context.attributes = attributes;
    }

    fn close(&mut self, slot: Slot, context: &mut Context) {
        for _ in self.sessions.remove(slot).into_iter().flat_map(|session| session.ahead) {
            self.held -= 1;
            context.count(Reason::Closed);
        }
    }

    fn statistics(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        tell("held", self.held as u64);
    }

    fn control(&mut self, slot: Slot, request: Request<'_>) -> Option<Answer> {
        let session = self.sessions.get_mut(slot)?;
        match request {
            SENDING => session.sending = session.sending.wrapping_add(1),
            RECEIVING => session.receiving = session.receiving.wrapping_add(1),
            Request::Number("sending") => return Some(Answer::Number(session.sending.into())),
            Request::Number("receiving") => return Some(Answer::Number(session.receiving.into())),
            Request::Number("waiting") => return Some(Answer::Number(session.ahead.len() as u64)),
            _ => return None,
        }
        Some(Answer::Done)
    }
}

//! `fragment`: messages longer than what the layers below can carry.

mod header;
mod reassembly;

use std::mem;
use std::time::Duration;

use fbufs::MAX_PARTS;

pub use header::{Header, Invalid};
use reassembly::{Limits, Outcome, Reassembly};

use crate::description::OptionError;
use crate::{
    Below, Context, Message, Opened, Options, Participants, Protocol, Reason, Refusal, Slot, Slots,
    Verdict,
};

/// Sends a message in as many pieces as it takes, and puts the pieces together again, in whatever
/// order they arrive. Nothing is copied: a piece is a part of the message's buffers, and what is put
/// together is a rope of the pieces.
///
/// The header is described with [`Header`]. If a piece is missing, the message is: repeat above or
/// recover below. A piece that was there before is dropped; one that contradicts another, by its
/// place or the length of the whole, drops the whole message (as RFC 5722 does).
///
/// Options: `max`, the longest message (1048576 bytes); `memory`, how much the pieces that wait may
/// take up (4194304 bytes, each piece counted with 512 more; at least twice `max`); `pieces`, how many
/// pieces may wait (128; each part of one counts, for each keeps the buffer in which it came);
/// `messages`, how many incomplete messages may wait (64); `timeout`, how long one waits (100ms). If
/// there is more, the oldest message is dropped.
///
/// A message is sent in no more than `pieces` pieces, nor than [`MAX_PARTS`], which is also how many
/// parts it is put together of at most: a longer one is refused.
#[derive(Debug)]
pub struct Fragment {
    max: usize,
    /// Of one message.
    pieces: usize,
    sessions: Slots<Session>,
    reassembly: Reassembly,
    fragments: u64,
}

#[derive(Debug)]
struct Session {
    next: u32,
    /// How many bytes of a message fit into one piece.
    piece: usize,
    /// How many bytes a message may have.
    longest: usize,
}

impl Fragment {
    /// From a description.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.only(&["max", "memory", "messages", "pieces", "timeout"])?;
        let bytes = "a number of bytes, at most 4294967295";
        let max = options.within("max", 1..=u32::MAX as usize, bytes)?.unwrap_or(1 << 20);
        let memory: usize = options.get("memory", "a number of bytes")?.unwrap_or(4 << 20);
        let number = "a number from 1 to 65536";
        let limits = Limits {
            memory: memory.max(max.saturating_mul(2)),
            messages: options.within("messages", 1..=1 << 16, number)?.unwrap_or(64),
            parts: options.within("pieces", 1..=1 << 16, number)?.unwrap_or(128),
            timeout: options.duration("timeout")?.unwrap_or(Duration::from_millis(100)),
        };
        let (pieces, reassembly) = (limits.parts.min(MAX_PARTS), Reassembly::new(limits));
        Ok(Self { max, pieces, sessions: Slots::new(1 << 16), reassembly, fragments: 0 })
    }

    #[cold]
    fn push_in_pieces(
        &mut self,
        slot: Slot,
        mut header: Header,
        piece: usize,
        message: &mut Message,
        context: &mut Context,
    ) -> Verdict {
        let mut rest = mem::take(message);
        while !rest.is_empty() {
            let at = piece.min(rest.len());
            let Some(mut front) = rest.split_to(at) else {
                return Verdict::Drop(Reason::Unreadable);
            };
            if let Verdict::Drop(reason) = context.push_header(&mut front, &header.encode()) {
                // What was emitted already does no harm: the receiver gives it up.
                return Verdict::Drop(reason);
            }
            context.emit_down(slot, front);
            self.fragments += 1;
            header.offset += at as u32;
        }
        Verdict::Taken
    }
}

impl Protocol for Fragment {
    fn open(&mut self, _who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        let session = Session { next: 0, piece: 0, longest: 0 };
        let slot = self.sessions.insert(session).map_err(|_| Refusal::Limit)?;
        Ok(Opened { slot, lower: 0 })
    }

    fn opened(&mut self, slot: Slot, below: Below) -> Below {
        let under = below.under_header(Header::LEN);
        let longest = self.max.min(under.max_message.saturating_mul(self.pieces));
        if let Some(session) = self.sessions.get_mut(slot) {
            (session.piece, session.longest) = (under.max_message, longest);
        }
        Below { max_message: longest, ..under }
    }

    fn push(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let Some(session) = self.sessions.get_mut(slot) else {
            return Verdict::Drop(Reason::NoSession);
        };
        let total = message.len();
        if total > session.longest || session.piece == 0 {
            return Verdict::Drop(Reason::TooLarge);
        }
        let header = Header { message: session.next, offset: 0, total: total as u32 };
        session.next = session.next.wrapping_add(1);
        if total <= session.piece {
            return context.push_header(message, &header.encode());
        }
        let piece = session.piece;
        self.push_in_pieces(slot, header, piece, message, context)
    }

    fn pop(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let mut bytes = [0; Header::LEN];
        if message.pop(&mut bytes).is_err() {
            return Verdict::Drop(Reason::Malformed);
        }
        let header = match Header::decode(bytes, message.len()) {
            Ok(header) => header,
            Err(Invalid) => return Verdict::Drop(Reason::Malformed),
        };
        if header.total as usize > self.max {
            return Verdict::Drop(Reason::TooLarge);
        }
        if header.total as usize == message.len() {
            return Verdict::Pass;
        }
        match self.reassembly.add(slot, header, mem::take(message), context) {
            Outcome::Waits => Verdict::Taken,
            Outcome::Complete(whole) => {
                *message = whole;
                Verdict::Pass
            }
            Outcome::Refused(reason) => Verdict::Drop(reason),
        }
    }

    fn wake(&mut self, context: &mut Context) {
        self.reassembly.expire(context);
    }

    fn close(&mut self, slot: Slot, context: &mut Context) {
        self.sessions.remove(slot);
        self.reassembly.forget(slot, context);
    }

    fn statistics(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        tell("fragments", self.fragments);
        tell("reassembled", self.reassembly.completed);
        tell("bytes held", self.reassembly.held as u64);
        tell("pieces held", self.reassembly.parts as u64);
    }
}

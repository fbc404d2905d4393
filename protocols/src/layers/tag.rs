//! `tag`: the smallest layer with a header; it shows how a layer is written, and what one costs.

use crate::description::OptionError;
use crate::{
    Below, Context, Message, Opened, Options, Participants, Protocol, Reason, Refusal, Slot, Slots,
    Verdict,
};

/// A number in front of every message; a message with another one is refused.
///
/// | bytes | what |
/// |---|---|
/// | 0–7 | the number, in network byte order |
///
/// Options: `number`, zero if nothing is said.
#[derive(Debug)]
pub struct Tag {
    number: u64,
    sessions: Slots<u64>,
}

/// How long the header is.
const HEADER: usize = 8;

impl Tag {
    /// From a description.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.only(&["number"])?;
        let number = options.get("number", "a whole number")?.unwrap_or(0);
        Ok(Self { number, sessions: Slots::new(1 << 16) })
    }
}

impl Protocol for Tag {
    fn open(&mut self, _who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        let slot = self.sessions.insert(self.number).map_err(|_| Refusal::Limit)?;
        Ok(Opened { slot, lower: 0 })
    }

    fn opened(&mut self, _slot: Slot, below: Below) -> Below {
        below.under_header(HEADER)
    }

    #[inline]
    fn push(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        match self.sessions.get(slot) {
            Some(number) => context.push_header(message, &number.to_be_bytes()),
            None => Verdict::Drop(Reason::NoSession),
        }
    }

    #[inline]
    fn pop(&mut self, slot: Slot, message: &mut Message, _context: &mut Context) -> Verdict {
        let mut header = [0; HEADER];
        if message.pop(&mut header).is_err() {
            return Verdict::Drop(Reason::Malformed);
        }
        match self.sessions.get(slot) {
            Some(number) if *number == u64::from_be_bytes(header) => Verdict::Pass,
            Some(_) => Verdict::Drop(Reason::NotForUs),
            None => Verdict::Drop(Reason::NoSession),
        }
    }

    fn close(&mut self, slot: Slot, _context: &mut Context) {
        self.sessions.remove(slot);
    }
}

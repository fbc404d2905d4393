//! `loopback`: a device whose frames come back.

use std::mem;

use crate::description::OptionError;
use crate::{Context, Message, Opened, Options, Participants, Protocol, Refusal, Slot, Verdict};

/// Whatever is pushed into it comes up again, without attributes. There are no options.
#[derive(Debug, Default)]
pub struct Loopback;

impl Loopback {
    /// From a description.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.only(&[])?;
        Ok(Self)
    }
}

impl Protocol for Loopback {
    fn open(&mut self, _who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        Ok(Opened { slot: Slot(0), lower: 0 })
    }

    fn push(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        context.attributes = Participants::default();
        context.emit_up(slot, mem::take(message));
        Verdict::Taken
    }

    fn pop(&mut self, _slot: Slot, _message: &mut Message, _context: &mut Context) -> Verdict {
        Verdict::Pass
    }
}

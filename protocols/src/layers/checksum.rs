//! `checksum`: end to end, whatever the layers below check or break.

use segment::crc32c;

use crate::description::OptionError;
use crate::{
    Below, Context, Message, Opened, Options, Participants, Protocol, Reason, Refusal, Slot, Slots,
    Verdict,
};

/// A CRC-32C (Castagnoli) over the message, in front of it. One that does not fit is refused and
/// counted as [`Reason::Checksum`].
///
/// | bytes | what |
/// |---|---|
/// | 0–3 | CRC-32C of all bytes that follow, in network byte order (RFC 3720, B.4, has test vectors) |
///
/// It finds what goes wrong by chance: every error of up to 32 bits in a row. It is no protection
/// against somebody who wants to deceive, and none for volatile bytes, which their writer can still
/// change after the check: secure those first.
///
/// # Cost
/// Every byte is read once on either side; nothing is copied that is not volatile.
#[derive(Debug)]
pub struct Checksum {
    sessions: Slots<()>,
    checked: u64,
}

const HEADER: usize = 4;
const _: () = assert!(HEADER == size_of::<u32>());

/// The CRC-32C of a message; `None` if a part of it cannot be read any more.
fn sum(message: &Message) -> Option<u32> {
    let mut sum = 0;
    message.for_each_chunk(|chunk| sum = crc32c::append(sum, chunk)).ok()?;
    Some(sum)
}

impl Checksum {
    /// From a description. There are no options.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.only(&[])?;
        Ok(Self { sessions: Slots::new(1 << 16), checked: 0 })
    }
}

impl Protocol for Checksum {
    fn open(&mut self, _who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        let slot = self.sessions.insert(()).map_err(|()| Refusal::Limit)?;
        Ok(Opened { slot, lower: 0 })
    }

    fn opened(&mut self, _slot: Slot, below: Below) -> Below {
        below.under_header(HEADER)
    }

    fn push(&mut self, _slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        match sum(message) {
            Some(sum) => context.push_header(message, &sum.to_be_bytes()),
            None => Verdict::Drop(Reason::Unreadable),
        }
    }

    fn pop(&mut self, _slot: Slot, message: &mut Message, _context: &mut Context) -> Verdict {
        let mut header = [0; HEADER];
        if message.pop(&mut header).is_err() {
            return Verdict::Drop(Reason::Malformed);
        }
        match sum(message) {
            Some(sum) if sum == u32::from_be_bytes(header) => {
                self.checked += 1;
                Verdict::Pass
            }
            Some(_) => Verdict::Drop(Reason::Checksum),
            None => Verdict::Drop(Reason::Unreadable),
        }
    }

    fn close(&mut self, slot: Slot, _context: &mut Context) {
        self.sessions.remove(slot);
    }

    fn statistics(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        tell("checked", self.checked);
    }
}

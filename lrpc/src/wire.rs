//! What calls, replies and requests to bind look like in a message.
//!
//! A call's tag is the procedure's index, a reply's tag its status. Both begin with the call word;
//! then follow the arguments or results, unless they are in the A-stack.

use unet::{Channel, Delivery, Fbuf, Offer, SendError};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::outcome::Reason;
use crate::{Interface, Shape};

/// Identifies a call on its binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct CallWord {
    /// Counts the binding's calls, so that a reply to an earlier call on the same A-stack is known
    /// as such.
    pub number: u32,
    /// The A-stack the call occupies.
    pub a_stack: u16,
    /// Zero, or [`IN_A_STACK`].
    pub flags: u16,
}

/// The arguments or results are in the A-stack, not in the message.
pub(crate) const IN_A_STACK: u16 = 1;

/// The bytes of a call word.
pub(crate) const CALL_WORD: usize = size_of::<CallWord>();
const _: () = assert!(CALL_WORD == 8);

/// How many bytes of arguments or results travel in a message, beside a buffer or not.
pub(crate) const fn inline_limit(with_bulk: bool) -> usize {
    let room = if with_bulk { unet::MAX_INLINE_WITH_FBUF } else { unet::MAX_INLINE };
    room - CALL_WORD
}

/// The status of a reply: its tag.
pub(crate) mod status {
    pub const EXECUTED: u16 = 0;
    pub const NOT_SERVED: u16 = 1;
    pub const BAD_ARGUMENTS: u16 = 2;
    pub const TOO_DEEP: u16 = 3;
    /// The handler began, and failed.
    pub const FAILED: u16 = 4;
    pub const OVERLOADED: u16 = 5;
    pub const TOO_LATE: u16 = 6;
    /// The handler has returned, and what it returned cannot be sent.
    pub const RESULTS_TOO_LARGE: u16 = 7;
    pub const STOPPING: u16 = 8;
    /// And beyond: what the handler declined with.
    pub const DECLINED: u16 = 0x100;
}

/// The refusal that a status stands for; `None` if it stands for nothing.
pub(crate) fn refusal(tag: u16) -> Option<Reason> {
    match tag {
        status::NOT_SERVED => Some(Reason::NotServed),
        status::BAD_ARGUMENTS => Some(Reason::BadArguments),
        status::TOO_DEEP => Some(Reason::TooDeep),
        status::OVERLOADED => Some(Reason::Overloaded),
        status::TOO_LATE => Some(Reason::TooLate),
        status::STOPPING => Some(Reason::Stopping),
        status::DECLINED.. => Some(Reason::Declined(tag - status::DECLINED)),
        _ => None,
    }
}

/// The call word of a reply; `None` if the message is too short for one.
#[inline(always)]
pub(crate) fn call_word(message: &Delivery) -> Option<CallWord> {
    CallWord::read_from_prefix(message.inline()).ok().map(|(word, _)| word)
}

/// Sends a call word and what follows it.
#[inline(always)]
pub(crate) fn send(
    channel: &mut Channel,
    tag: u16,
    word: CallWord,
    bytes: &[u8],
    bulk: Option<Fbuf>,
) -> Result<(), Reason> {
    let sent = match bulk {
        None => channel.try_send_parts(tag, word.as_bytes(), bytes),
        Some(fbuf) => {
            let mut inline = [0; unet::MAX_INLINE_WITH_FBUF];
            let end = CALL_WORD + bytes.len();
            inline[..CALL_WORD].copy_from_slice(word.as_bytes());
            inline[CALL_WORD..end].copy_from_slice(bytes);
            channel.try_send_fbuf(tag, fbuf, &inline[..end]).map(|offer| match offer {
                Offer::Taken => Offer::Taken,
                Offer::Full(_) => Offer::Full(()),
            })
        }
    };
    match sent {
        Ok(Offer::Taken) => Ok(()),
        Ok(Offer::Full(())) => Err(Reason::QueueFull),
        Err(SendError::Closed(reason)) => Err(Reason::Closed(reason)),
        Err(_) => Err(Reason::ForeignBuffer),
    }
}

/// What a client asks for when it binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct BindRequest {
    magic: u64,
    layout: u64,
    version: u32,
    name_len: u32,
    name: [u8; MAX_INTERFACE_NAME],
}

/// The longest name of an interface.
const MAX_INTERFACE_NAME: usize = 64;
const MAGIC: u64 = u64::from_le_bytes(*b"LRPCBIND");

/// The codes with which a server refuses to bind.
pub(crate) mod bind_code {
    pub const UNKNOWN_INTERFACE: u32 = 1;
    pub const VERSION: u32 = 2;
    pub const LAYOUT: u32 = 3;
    pub const REFUSED: u32 = 4;
}

impl BindRequest {
    pub fn of<I: Interface>() -> Self {
        const { assert!(I::NAME.len() <= MAX_INTERFACE_NAME, "an interface's name is too long") };
        const { assert!(I::PROCEDURES.len() <= 1024, "an interface has at most 1024 procedures") };
        let mut name = [0; MAX_INTERFACE_NAME];
        name[..I::NAME.len()].copy_from_slice(I::NAME.as_bytes());
        let name_len = I::NAME.len() as u32;
        Self { magic: MAGIC, layout: I::LAYOUT, version: I::VERSION, name_len, name }
    }

    /// Whether a client's request is for this interface: else the code to refuse it with.
    pub fn check<I: Interface>(private: &[u8]) -> Result<(), u32> {
        let own = Self::of::<I>();
        let asked = Self::read_from_bytes(private).map_err(|_| bind_code::UNKNOWN_INTERFACE)?;
        if asked.magic != MAGIC || asked.name_len != own.name_len || asked.name != own.name {
            return Err(bind_code::UNKNOWN_INTERFACE);
        }
        if asked.version != own.version {
            return Err(bind_code::VERSION);
        }
        if asked.layout != own.layout { Err(bind_code::LAYOUT) } else { Ok(()) }
    }
}

/// Whether a procedure's arguments and results can need its A-stack.
pub(crate) fn needs_a_stack(shape: &Shape) -> bool {
    shape.arguments.1.max(shape.results.1) > inline_limit(true)
}

#[cfg(test)]
#[path = "layout_table.rs"]
mod layout_table;

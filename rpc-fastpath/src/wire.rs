//! The format of calls in messages of a U-Net channel, version 1: a header of 16 bytes, then the payload.
//!
//! The book's chapter on the protocol has the table, the rules and the test vectors; the tests here compare
//! them with this code. Every number is little-endian. What never changes during a session (versions, the
//! service, its epoch, window and limits) is said once, at its opening ([`Offer`], [`Terms`]); a header is
//! two words:
//!
//! - the *what*: kind, flags, and three numbers that depend on the kind;
//! - the *id*: the session's cookie plus the number of the request. The server draws the cookie at random, so
//!   that one comparison tells both that a packet is of this session and which of its requests it is about.
//!
//! A header is therefore known before the packet comes: the next request of a slot has the id of the one
//! before plus the window, and most often the same what. After van Renesse, *Masking the Overhead of
//! Protocol Layering* (SIGCOMM 1996): cookies for the fields that do not change, prediction for those that
//! do.

mod opening;
pub mod pack;
pub mod span;
mod status;

pub use opening::{Offer, ServiceId, Terms};
pub use status::{Failure, Refusal, Rejection, Status};

/// The version of the format.
pub const VERSION: u16 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 16;
/// The most bytes behind the header of a packet that carries no payload.
pub const MAX_CONTROL: usize = 32;
/// The largest number of a fragment: 64 MiB need packets that carry at least 1,025 bytes.
pub const MAX_LAST: u16 = u16::MAX - 1;
/// As the base of a [`Packet::Taken`]: everything was taken.
pub const ALL: u16 = u16::MAX;
/// The most fragments of a message that can be under way unacknowledged.
pub const MAX_CREDITS: u16 = 256;
/// The most calls of a session that can be under way.
pub const MAX_WINDOW: u16 = 64;

/// In a kind: the server sends it.
pub const FROM_SERVER: u8 = 0x80;
const ASK: u8 = 0x10;
const FLAG: u8 = 0x20;
const WOKEN: u8 = 0x40;
const ALONE: u8 = 0x80;
const LOW: u8 = 0x0f;

/// A header, once it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Asks for a session; an [`Offer`] follows.
    Open {
        /// Drawn by the client: what it asks again is the same question.
        nonce: u64,
        /// The format's version.
        version: u16,
        /// How many calls may be under way.
        window: u16,
        /// How many fragments of a message may be under way.
        credits: u16,
    },
    /// Gives a session; [`Terms`] follow.
    Opened {
        /// Of the question.
        nonce: u64,
        /// The format's version.
        version: u16,
        /// How many calls may be under way.
        window: u16,
        /// How many fragments of a message may be under way.
        credits: u16,
    },
    /// Gives none.
    Rejected {
        /// Of the question.
        nonce: u64,
        /// The server's version of the format.
        version: u16,
        /// The reason.
        why: Rejection,
    },
    /// A call: its first fragment, and mostly its only one.
    Request {
        /// Which request of which session.
        id: u64,
        /// What is called.
        method: u16,
        /// The time that is left until the deadline, as a [`span`]; zero without one.
        time: u16,
        /// The number of the last fragment.
        last: u16,
        /// The logarithm of how many fragments of the reply may come unasked.
        credit: u8,
        /// No reply is wanted, only word that the call was handed to its handler.
        one_way: bool,
        /// The sender waits for word of what arrived.
        ask: bool,
    },
    /// A further fragment of a call's arguments.
    Fragment {
        /// Which request of which session.
        id: u64,
        /// What is called.
        method: u16,
        /// Which fragment, from one.
        index: u16,
        /// The number of the last fragment.
        last: u16,
        /// The sender waits for word of what arrived.
        ask: bool,
    },
    /// What became of a call: the first fragment of its reply, and mostly the only one.
    Reply {
        /// Which request of which session.
        id: u64,
        /// How it ended.
        status: Status,
        /// How long the server had the request, as a [`span`]: no part of the network's time.
        held: u16,
        /// The number of the last fragment.
        last: u16,
        /// The sender waits for word of what arrived.
        ask: bool,
        /// The server's thread had just slept when it took what came last: that may have waited for it.
        woken: bool,
    },
    /// A further fragment of a reply.
    Continuation {
        /// Which request of which session.
        id: u64,
        /// Which fragment, from one.
        index: u16,
        /// The number of the last fragment.
        last: u16,
        /// The sender waits for word of what arrived.
        ask: bool,
        /// The server's thread had just slept when it took what came last: that may have waited for it.
        woken: bool,
        /// No other client's calls came to the server of late.
        alone: bool,
    },
    /// The server's word of what it has of a call's arguments; a map of fragments follows.
    Received {
        /// Which request of which session.
        id: u64,
        /// The first fragment that is missing.
        base: u16,
        /// Fragments below this one may be sent.
        limit: u16,
        /// All are there: the call waits, or is being executed.
        whole: bool,
        /// The server's thread had just slept when it took what came last: that may have waited for it.
        woken: bool,
        /// No other client's calls came to the server of late.
        alone: bool,
    },
    /// The client's word of what it has of a reply; a map of fragments follows.
    Taken {
        /// Which request of which session.
        id: u64,
        /// The first fragment that is missing; [`ALL`] if none is.
        base: u16,
        /// Fragments below this one may be sent.
        limit: u16,
        /// Nothing came for too long: the first missing one shall be sent again.
        resend: bool,
    },
    /// Asks what became of a call, which shall not be begun any more if it has not come yet.
    Query {
        /// Which request of which session.
        id: u64,
    },
    /// Asks whether the server still has the session.
    Ping {
        /// The session's cookie.
        id: u64,
    },
    /// The server has it.
    Pong {
        /// The session's cookie.
        id: u64,
    },
    /// The client has ended the session.
    Close {
        /// The session's cookie.
        id: u64,
    },
    /// The server has no session to which this id could belong.
    Stale {
        /// The id.
        id: u64,
    },
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Fewer bytes than a header has.
    #[error("the packet is shorter than a header")]
    Short,
    /// An unknown kind.
    #[error("the packet is of an unknown kind")]
    Kind,
    /// A flag or number that the kind does not have, or out of its range.
    #[error("the header says what a packet of its kind cannot say")]
    Field,
}

impl Packet {
    /// The header as it travels.
    #[inline(always)]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        use Packet::*;
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let (kind, flags, numbers, id): (u8, u8, _, _) = match *self {
            Open { nonce, version, window, credits } => {
                (0x01, 0, [version, window, credits], nonce)
            }
            Request { id, method, time, last, credit, one_way, ask } => {
                let flags = credit & LOW | flag(one_way, FLAG) | flag(ask, ASK);
                (0x02, flags, [method, time, last], id)
            }
            Fragment { id, method, index, last, ask } => {
                (0x03, flag(ask, ASK), [method, index, last], id)
            }
            Taken { id, base, limit, resend } => (0x04, flag(resend, FLAG), [base, limit, 0], id),
            Query { id } => (0x05, 0, [0; 3], id),
            Ping { id } => (0x06, 0, [0; 3], id),
            Close { id } => (0x07, 0, [0; 3], id),
            Opened { nonce, version, window, credits } => {
                (0x81, 0, [version, window, credits], nonce)
            }
            Reply { id, status, held, last, ask, woken } => {
                let (status, why) = status.numbers();
                (0x82, status | flag(ask, ASK) | flag(woken, WOKEN), [why, held, last], id)
            }
            Continuation { id, index, last, ask, woken, alone } => {
                let flags = flag(ask, ASK) | flag(woken, WOKEN) | flag(alone, ALONE);
                (0x83, flags, [0, index, last], id)
            }
            Received { id, base, limit, whole, woken, alone } => {
                let flags = flag(whole, FLAG) | flag(woken, WOKEN) | flag(alone, ALONE);
                (0x84, flags, [base, limit, 0], id)
            }
            Rejected { nonce, version, why } => (0x85, why as u8, [version, 0, 0], nonce),
            Pong { id } => (0x86, 0, [0; 3], id),
            Stale { id } => (0x87, 0, [0; 3], id),
        };
        let [a, b, c] = numbers.map(u64::from);
        let what = u64::from(kind) | u64::from(flags) << 8 | a << 16 | b << 32 | c << 48;
        Words { what, id }.to_bytes()
    }

    /// What a header says.
    ///
    /// # Errors
    /// [`WireError`] names the first check that failed.
    pub fn decode(header: &[u8; HEADER_BYTES]) -> Result<Self, WireError> {
        let Words { what, id } = Words::from_bytes(header);
        let [kind, flags, ..] = what.to_le_bytes();
        let [a, b, c] = [16, 32, 48].map(|shift| (what >> shift) as u16);
        let (low, ask, flag) = (flags & LOW, flags & ASK != 0, flags & FLAG != 0);
        let (woken, alone) = (flags & WOKEN != 0, flags & ALONE != 0);
        let nonce = id;
        let packet = match kind {
            0x01 => Self::Open { nonce, version: a, window: b, credits: c },
            0x02 => {
                Self::Request { id, method: a, time: b, last: c, credit: low, one_way: flag, ask }
            }
            0x03 => Self::Fragment { id, method: a, index: b, last: c, ask },
            0x04 => Self::Taken { id, base: a, limit: b, resend: flag },
            0x05 => Self::Query { id },
            0x06 => Self::Ping { id },
            0x07 => Self::Close { id },
            0x81 => Self::Opened { nonce, version: a, window: b, credits: c },
            0x82 => {
                let status = Status::from_numbers(low, a).ok_or(WireError::Field)?;
                Self::Reply { id, status, held: b, last: c, ask, woken }
            }
            0x83 => Self::Continuation { id, index: b, last: c, ask, woken, alone },
            0x84 => Self::Received { id, base: a, limit: b, whole: flag, woken, alone },
            0x85 => {
                let why = Rejection::from_number(flags.into()).ok_or(WireError::Field)?;
                Self::Rejected { nonce, version: a, why }
            }
            0x86 => Self::Pong { id },
            0x87 => Self::Stale { id },
            _ => return Err(WireError::Kind),
        };
        // Whatever the kind does not have must be zero: then it is the header of exactly one packet.
        if packet.encode() != *header || !packet.is_possible() {
            return Err(WireError::Field);
        }
        Ok(packet)
    }

    /// Whether its numbers are within their ranges.
    fn is_possible(&self) -> bool {
        match *self {
            Self::Request { last, credit, .. } => last <= MAX_LAST && 1 << credit <= MAX_CREDITS,
            Self::Fragment { index, last, .. } | Self::Continuation { index, last, .. } => {
                last <= MAX_LAST && (1..=last).contains(&index)
            }
            // Only what was executed has something to say, and only that can be long.
            Self::Reply { status, last, .. } => {
                last == 0 || last <= MAX_LAST && status == Status::Executed
            }
            _ => true,
        }
    }
}

/// Whether a header is of what a client sends of a call, and no question or sign of life.
#[inline(always)]
pub(crate) fn is_of_call(head: &[u8]) -> bool {
    matches!(head, [0x02..=0x04, ..])
}

/// Whether a request's header says a time that is left; of other headers, no matter what.
#[inline(always)]
pub(crate) fn has_time(head: &[u8]) -> bool {
    !matches!(head, [_, _, _, _, 0, 0, ..])
}

/// A header as two words: what most packets are compared with as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub what: u64,
    pub id: u64,
}

/// Of a `what`: kind, status and the number of the last fragment; not flags, reason and time.
const SHAPE_OF_REPLY: u64 = 0xffff_0000_ffff_ffff;
/// Of a `what`: kind, flags and the number of the last fragment; not credit, method and time.
const SHAPE_OF_REQUEST: u64 = 0xffff_0000_0000_f0ff;

impl Words {
    #[inline(always)]
    pub fn from_bytes(header: &[u8; HEADER_BYTES]) -> Self {
        let [what, id] = *header.as_chunks::<8>().0 else { return Self { what: 0, id: 0 } };
        Self { what: u64::from_le_bytes(what), id: u64::from_le_bytes(id) }
    }

    #[inline(always)]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.what.to_le_bytes());
        bytes[8..].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    /// Whether it is the reply that is expected: executed, in one fragment.
    #[inline(always)]
    pub fn is_plain_reply(self) -> bool {
        self.what & SHAPE_OF_REPLY == 0x82
    }

    /// Whether it is the request that is expected: in one fragment, its reply wanted. Its credit is the
    /// sender's word and may be out of range.
    #[inline(always)]
    pub fn is_plain_request(self) -> bool {
        self.what & SHAPE_OF_REQUEST == 0x02
    }

    /// The method of a request.
    #[inline(always)]
    pub fn method(self) -> u16 {
        (self.what >> 16) as u16
    }

    /// The span of time of a request or a reply.
    #[inline(always)]
    pub fn time(self) -> u16 {
        (self.what >> 32) as u16
    }

    /// The credit of a request, as it stands there.
    #[inline(always)]
    pub fn credit(self) -> u8 {
        (self.what >> 8) as u8 & LOW
    }
}

#[cfg(test)]
mod tests;

//! Why messages are dropped.

/// Why a message was dropped. Counted for each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u8)]
pub enum Reason {
    /// It is shorter than its header, or its header says what cannot be.
    Malformed,
    /// Its checksum is wrong.
    Checksum,
    /// No session is open for it and nobody listens for such.
    NoSession,
    /// There are as many sessions as there may be.
    SessionLimit,
    /// Nothing leads to its destination.
    NoRoute,
    /// The destination's address on the link was not found out.
    Unresolved,
    /// It is addressed to somebody else.
    NotForUs,
    /// It was seen before.
    Duplicate,
    /// It comes after its successors were delivered, or too long after the rest of it.
    Late,
    /// It is so far ahead of its predecessors that it is not kept.
    TooFarAhead,
    /// It is longer than what can be sent, or put together.
    TooLarge,
    /// It contradicts another part of the same message.
    Overlap,
    /// Parts of it did not arrive in time.
    Incomplete,
    /// It has passed as many hops as it may.
    HopLimit,
    /// As much is held as may be.
    QueueFull,
    /// The application has not taken what was delivered before.
    InboxFull,
    /// No buffer is free for a header or a message of the layer's own.
    NoBuffer,
    /// Its bytes cannot be read: whoever wrote them has taken them back.
    Unreadable,
    /// A fault injector dropped it.
    Injected,
    /// It belongs to a generation of the stack that is gone or not there yet.
    Generation,
    /// Its session was closed while it was held.
    Closed,
    /// One message led to more work than is allowed.
    Budget,
    /// The layer does not handle what it carries.
    Unsupported,
}

impl Reason {
    /// Every reason, in the order in which they are counted.
    pub const ALL: [Reason; 23] = [
        Self::Malformed,
        Self::Checksum,
        Self::NoSession,
        Self::SessionLimit,
        Self::NoRoute,
        Self::Unresolved,
        Self::NotForUs,
        Self::Duplicate,
        Self::Late,
        Self::TooFarAhead,
        Self::TooLarge,
        Self::Overlap,
        Self::Incomplete,
        Self::HopLimit,
        Self::QueueFull,
        Self::InboxFull,
        Self::NoBuffer,
        Self::Unreadable,
        Self::Injected,
        Self::Generation,
        Self::Closed,
        Self::Budget,
        Self::Unsupported,
    ];
}

const _: () = {
    let mut at = 0;
    while at < Reason::ALL.len() {
        assert!(Reason::ALL[at] as usize == at, "a reason's number is its place");
        at += 1;
    }
};

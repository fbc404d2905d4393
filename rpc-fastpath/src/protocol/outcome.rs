//! How a call ends: executed, refused, or unknown; never twice, never not at all.

use super::{Failure, Refusal};

/// Which call it was, for ever: no session has the cookie of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// The session's.
    pub cookie: u64,
    /// Counts the session's calls, with gaps.
    pub number: u64,
}

/// How a call ended. `R` is the reply, or its handle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome<R> {
    /// It was executed once, and this is its reply.
    Executed(R),
    /// A one-way call was handed to its handler, once.
    Delivered,
    /// It was begun once, and has no reply.
    Failed(Failure),
    /// It was not executed, and never will be.
    Refused(Refusal),
    /// It was executed once or not at all, or will be yet.
    Unknown(Doubt),
}

impl<R> Outcome<R> {
    /// The same with what `make` makes of the reply.
    pub fn map<S>(self, make: impl FnOnce(R) -> S) -> Outcome<S> {
        match self {
            Self::Executed(reply) => Outcome::Executed(make(reply)),
            Self::Delivered => Outcome::Delivered,
            Self::Failed(why) => Outcome::Failed(why),
            Self::Refused(why) => Outcome::Refused(why),
            Self::Unknown(doubt) => Outcome::Unknown(doubt),
        }
    }
}

/// Why nobody here knows what became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Doubt {
    /// There was no sign of progress for as long as the patience lasts: ask for the outcome.
    #[error("nothing was heard of the call for too long: ask for its outcome")]
    NoAnswer,
    /// The deadline passed after the call was sent: ask for the outcome.
    #[error("the deadline passed after the call was sent: ask for its outcome")]
    DeadlinePassed,
    /// The server does not know the session any more: it was restarted, or gave it up. It can tell no
    /// outcome.
    #[error("the server does not know the session any more, and can tell no outcome")]
    SessionLost,
    /// The arguments were taken back by whose buffers they were in, and could not be sent again: ask for the
    /// outcome.
    #[error("the arguments were taken back before they could be sent again: ask for the outcome")]
    Revoked,
    /// The session was closed here while the call was under way.
    #[error("the session was closed while the call was under way")]
    Closed,
}

/// What was received, as handles: in one piece, or in several that follow one another.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload<D> {
    /// In one packet.
    One(D),
    /// In fragments, in order.
    Many(Vec<D>),
}

impl<D> Payload<D> {
    /// The pieces, in order.
    pub fn pieces(&self) -> &[D] {
        match self {
            Payload::One(piece) => std::slice::from_ref(piece),
            Payload::Many(pieces) => pieces,
        }
    }
}

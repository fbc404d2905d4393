//! What a caller gives, and is told.

use crate::protocol::outcome::{Outcome, Payload, RequestId};
use crate::wire::{Refusal, Rejection, Terms};

/// A call to begin.
#[derive(Debug)]
pub struct Call<P> {
    /// The caller's own name for it, given back with its end.
    pub token: u64,
    /// What is called.
    pub method: u16,
    /// The arguments' handle, kept until they have arrived.
    pub payload: P,
    /// How many bytes they are.
    pub len: usize,
    /// When the caller needs the reply no longer: the server does not begin the call after this.
    pub deadline: Option<u64>,
    /// The longest reply that the caller takes.
    pub max_reply: u32,
    /// No reply is wanted: the call ends when it was handed to its handler.
    pub one_way: bool,
}

/// Why a call was not begun; it has ended with that, and was certainly not executed.
#[derive(Debug, thiserror::Error)]
#[error("the call was not begun: {why}")]
pub struct StartError<P> {
    /// The reason.
    pub why: Refusal,
    /// The arguments' handle.
    pub payload: P,
}

/// Why an outcome cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// Its place is taken by a later call, or it never ended in doubt.
    #[error("the call is not in doubt, or its place was taken by a later call")]
    NotInDoubt,
    /// The session is over: nobody can be asked.
    #[error("the session is over: nobody can be asked")]
    SessionOver,
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The server gave none.
    #[error("the server gave no session: {0}")]
    Rejected(Rejection),
    /// The server did not answer for as long as the patience lasts.
    #[error("the server did not answer: try again later, or elsewhere")]
    NoAnswer,
    /// The server does not know the session any more: it was restarted, or gave it up.
    #[error("the server does not know the session any more: open a new one")]
    Lost,
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Event<D> {
    /// The session is there.
    Opened(Terms),
    /// A call has ended. Every call that was begun does, once; one that was asked after, once again.
    Ended {
        /// The caller's name for it.
        token: u64,
        /// Which call it was, if it had a number: by it the outcome can be asked for.
        request: Option<RequestId>,
        /// How it ended.
        outcome: Outcome<Payload<D>>,
    },
    /// Nothing was heard of the server for longer than the suspicion lasts, though it was asked. That is no
    /// more than a suspicion, and ends no call.
    Suspected,
    /// The server was heard of again.
    Restored,
    /// There is no session any more. The ends of all calls follow.
    SessionOver(SessionEnd),
}

//! What a handler is given, and gives back.

use crate::protocol::outcome::{Payload, RequestId};
use crate::wire::{HEADER_BYTES, Rejection, ServiceId};

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it serves.
    pub service: ServiceId,
    /// Drawn when the process started.
    pub incarnation: u64,
    /// The epoch it is in.
    pub epoch: u64,
}

/// Why no session was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The packet asks for none.
    #[error("the packet asks for no session")]
    NotAsked,
    /// What was asked for is not given; the answer is to be sent.
    #[error("the session was rejected: {why}")]
    Rejected {
        /// The reason.
        why: Rejection,
        /// A packet for the client.
        answer: [u8; HEADER_BYTES],
    },
}

/// A reply was not sent, since it is longer than the client takes; that was told it instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reply is longer than the client takes, which was told so instead")]
pub struct ReplyTooLarge;

/// A call that is being executed: consumed by its reply. One that is dropped without is never answered,
/// and counts as being executed for ever.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the call is answered by giving this back"]
pub struct Pending {
    pub(super) id: u64,
    pub(super) cookie: u64,
}

impl Pending {
    /// Which call it is.
    pub fn request(&self) -> RequestId {
        RequestId { cookie: self.cookie, number: self.id.wrapping_sub(self.cookie) }
    }
}

/// A call to execute. It comes once.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Request<D> {
    /// To reply by.
    pub pending: Pending,
    /// What is called.
    pub method: u16,
    /// The arguments.
    pub payload: Payload<D>,
    /// When it shall not be begun any more; nested calls carry it on.
    pub deadline: Option<u64>,
    /// The client has been told already; the reply goes nowhere.
    pub one_way: bool,
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum ServerEvent<D> {
    /// A call is to be executed.
    Request(Request<D>),
    /// The packet asks for a session that is not this one: [`super::Server::accept`] takes it.
    OtherSession,
    /// Nothing was heard of the client for longer than the suspicion lasts.
    Suspected,
    /// The client was heard of again.
    Restored,
    /// The client has ended the session.
    Closed,
}

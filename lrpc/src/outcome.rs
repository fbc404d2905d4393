//! What became of a call. Exactly one of three things, and never a guess.

use unet::CloseReason;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a call that was not executed looks like one that was, unless its outcome is read"]
pub enum Outcome<T> {
    /// The procedure was executed, once; its results.
    Executed(T),
    /// It was certainly not executed.
    Refused(Reason),
    /// It may have been executed or not, and nobody here can know.
    Unknown(UnknownReason),
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The binding was closed before the call was sent.
    #[error("the binding is closed: {0}")]
    Closed(CloseReason),
    /// As many calls of this procedure as it has A-stacks are under way on this binding.
    #[error("as many calls of this procedure as it has A-stacks are under way")]
    NoAStack,
    /// The queue to the server is full.
    #[error("the server has not taken earlier calls yet")]
    QueueFull,
    /// The buffer belongs to another binding.
    #[error("the buffer was allocated from another binding")]
    ForeignBuffer,
    /// The server does not serve this procedure.
    #[error("the server does not serve this procedure")]
    NotServed,
    /// The arguments are no value of their type.
    #[error("the arguments are no value of their type")]
    BadArguments,
    /// The server is already so many calls deep that it takes no further one.
    #[error("calls are nested too deeply in the server")]
    TooDeep,
    /// The arguments are larger than the largest buffer of this binding.
    #[error("the arguments are larger than the binding's largest buffer")]
    TooLarge,
    /// No buffer is free for the arguments.
    #[error("no buffer is free for the arguments")]
    NoBuffer,
    /// The server has as many calls waiting as it takes, in all or of this client.
    #[error("the server has as many calls waiting as it takes")]
    Overloaded,
    /// The call's deadline had passed before the handler began.
    #[error("the deadline had passed before the handler began")]
    TooLate,
    /// The server was about to end, and did not begin the call.
    #[error("the server was about to end, and did not begin the call")]
    Stopping,
    /// There is no session with a server, and the call was never sent: of callers over channels.
    #[error("there is no session with a server, and the call was never sent")]
    NoSession,
    /// The service has gone on to another epoch: of callers over channels, whose next call goes there.
    #[error("the service has gone on to another epoch")]
    WrongEpoch,
    /// The handler declined before doing anything, with this code (codes above 65,279 arrive as it).
    #[error("the handler declined with code {0}")]
    Declined(u16),
}

/// Why nobody can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnknownReason {
    /// The binding ended before the reply.
    #[error("the binding ended before the reply: {0}")]
    Closed(CloseReason),
    /// The session, or its server, was lost before the reply: of callers over channels, which bind anew.
    #[error("the session with the server was lost before the reply")]
    SessionLost,
    /// Nothing was heard of the call for too long: of callers over channels.
    #[error("nothing was heard of the call for too long")]
    NoAnswer,
    /// The caller's time was up before the reply.
    #[error("there was no reply in time")]
    TimedOut,
    /// The handler panicked, or replied with a buffer that is not this binding's, or a service found
    /// no buffer free for its result: what it had done by then is done.
    #[error("the handler failed while it executed the call")]
    Failed,
    /// The handler has returned, so what it did is done; but its results are larger than can be sent.
    #[error("the call was executed, but its results are larger than can be sent")]
    ResultsTooLarge,
    /// The server says that it executed the call; what it sent as results is no value of their type.
    #[error("the results that came are no value of their type")]
    BadResults,
}

/// A call that is not known to be executed, as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotExecuted {
    /// It was certainly not executed.
    #[error("refused, not executed: {0}")]
    Refused(#[from] Reason),
    /// It may have been executed or not.
    #[error("unknown whether executed: {0}")]
    Unknown(#[from] UnknownReason),
}

impl<T> Outcome<T> {
    /// The results, or why there are none, for `?`.
    ///
    /// # Errors
    /// [`NotExecuted`].
    #[inline(always)]
    pub fn executed(self) -> Result<T, NotExecuted> {
        match self {
            Self::Executed(results) => Ok(results),
            Self::Refused(reason) => Err(reason.into()),
            Self::Unknown(reason) => Err(reason.into()),
        }
    }

    /// The same outcome with other results.
    #[inline(always)]
    pub fn map<U>(self, with: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Executed(results) => Outcome::Executed(with(results)),
            Self::Refused(reason) => Outcome::Refused(reason),
            Self::Unknown(reason) => Outcome::Unknown(reason),
        }
    }
}

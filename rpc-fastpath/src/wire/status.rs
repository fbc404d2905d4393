//! How a call or an opening ended on the server's side, and its numbers in a packet.

/// Gives an enum its numbers on the wire, both ways.
macro_rules! numbered {
    ($(#[$outer:meta])* pub enum $name:ident { $($(#[$meta:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum $name { $($(#[$meta])* $variant = $number,)* }

        impl $name {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Which one has this number.
            pub fn from_number(number: u16) -> Option<Self> {
                Self::ALL.iter().copied().find(|this| *this as u16 == number)
            }
        }
    };
}

numbered! {
    /// Why a call was certainly not executed, and never will be.
    pub enum Refusal {
        /// More calls than can be taken: try again later, or elsewhere.
        #[error("too many calls are waiting: try again later, or elsewhere")]
        Overload = 1,
        /// The service has no such method.
        #[error("the service has no such method")]
        UnknownMethod = 2,
        /// The service has gone on to another epoch: open a new session.
        #[error("the service has gone on to another epoch: open a new session")]
        WrongEpoch = 3,
        /// The deadline had passed before the call was begun.
        #[error("the deadline passed before the call was begun")]
        DeadlinePassed = 4,
        /// The arguments are no valid value.
        #[error("the arguments are no valid value")]
        InvalidArguments = 5,
        /// The arguments are larger than the service takes.
        #[error("the arguments are larger than the service takes")]
        TooLarge = 6,
        /// The server was asked what became of the call before the call arrived, and will not take it now.
        #[error("the call was asked after before it had arrived, and is not taken any more")]
        Withdrawn = 7,
        /// There is no session, and the call was never sent.
        #[error("there is no session, and the call was never sent")]
        NoSession = 8,
        /// The one who handles such calls is shutting down.
        #[error("the service is shutting down")]
        ShuttingDown = 9,
        /// The server runs as many handlers within one another as it may.
        #[error("the server is too many calls deep already: break the cycle")]
        TooDeep = 10,
        /// The arguments were taken back by whose buffers they were in, before all of them were sent.
        #[error("the arguments were taken back by their originator before they were sent")]
        Revoked = 11,
    }
}

numbered! {
    /// Why a call has no reply though it was begun. What it did is done.
    pub enum Failure {
        /// The handler panicked: what it did until then is done.
        #[error("the handler panicked: what it did until then is done")]
        Panicked = 1,
        /// The call was executed, but its reply is larger than the caller takes.
        #[error("the call was executed, but its reply is larger than the caller takes")]
        ReplyTooLarge = 2,
        /// The handler gave the call up: what it did until then is done.
        #[error("the handler gave the call up: what it did until then is done")]
        Abandoned = 3,
    }
}

numbered! {
    /// Why there is no session.
    pub enum Rejection {
        /// The server speaks another version of the protocol.
        #[error("the server speaks another version of the protocol")]
        Version = 1,
        /// The server has another service.
        #[error("the server has another service")]
        Service = 2,
        /// The server is in another epoch than the client asks for.
        #[error("the server is in another epoch than was asked for")]
        Epoch = 3,
        /// The server has as many sessions as it takes.
        #[error("the server has as many sessions as it takes: try again later, or elsewhere")]
        Overload = 4,
        /// What was offered makes no sense: a window of none, fragments too small.
        #[error("the server found the offer senseless")]
        Offer = 5,
        /// The server has another version of the service.
        #[error("the server has another version of the service")]
        ServiceVersion = 6,
        /// The service is the same in name and version, and travels in another layout.
        #[error("the server's service has the same version but another layout")]
        Layout = 7,
    }
}

/// How a call ended on the server's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Executed; the reply follows.
    Executed,
    /// A one-way call was handed to its handler.
    Delivered,
    /// Begun, and without reply.
    Failed(Failure),
    /// Not executed.
    Refused(Refusal),
}

impl Status {
    /// Its number and that of its reason.
    #[inline(always)]
    pub(super) fn numbers(self) -> (u8, u16) {
        match self {
            Status::Executed => (0, 0),
            Status::Delivered => (1, 0),
            Status::Failed(why) => (2, why as u16),
            Status::Refused(why) => (3, why as u16),
        }
    }

    pub(super) fn from_numbers(status: u8, reason: u16) -> Option<Self> {
        match (status, reason) {
            (0, 0) => Some(Status::Executed),
            (1, 0) => Some(Status::Delivered),
            (2, why) => Failure::from_number(why).map(Status::Failed),
            (3, why) => Refusal::from_number(why).map(Status::Refused),
            _ => None,
        }
    }
}

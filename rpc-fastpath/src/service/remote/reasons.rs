//! The reasons of the protocol, in the words that all callers of services share.

use lrpc::{Reason, UnknownReason};

use crate::endpoint::Decline;
use crate::protocol::{Doubt, Failure, Refusal};
use crate::service::handling::NotGiven;

impl From<Refusal> for Reason {
    fn from(why: Refusal) -> Self {
        match why {
            Refusal::Overload => Self::Overloaded,
            Refusal::UnknownMethod => Self::NotServed,
            Refusal::WrongEpoch => Self::WrongEpoch,
            Refusal::DeadlinePassed => Self::TooLate,
            Refusal::InvalidArguments => Self::BadArguments,
            Refusal::TooLarge => Self::TooLarge,
            // Of calls that were asked after, and no caller of a service asks.
            Refusal::Withdrawn => Self::Declined(why as u16),
            Refusal::NoSession => Self::NoSession,
            Refusal::ShuttingDown => Self::Stopping,
            Refusal::TooDeep => Self::TooDeep,
            Refusal::Revoked => Self::ForeignBuffer,
        }
    }
}

impl From<Failure> for UnknownReason {
    fn from(why: Failure) -> Self {
        match why {
            Failure::Panicked | Failure::Abandoned => Self::Failed,
            Failure::ReplyTooLarge => Self::ResultsTooLarge,
        }
    }
}

impl From<Doubt> for UnknownReason {
    fn from(why: Doubt) -> Self {
        match why {
            Doubt::NoAnswer | Doubt::Revoked => Self::NoAnswer,
            Doubt::DeadlinePassed => Self::TimedOut,
            Doubt::SessionLost | Doubt::Closed => Self::SessionLost,
        }
    }
}

/// Of the reasons that a server has for a call.
impl From<NotGiven> for Decline {
    fn from(why: NotGiven) -> Self {
        let reason = match why {
            NotGiven::Failed => return Failure::Panicked.into(),
            NotGiven::Refused(reason) => reason,
        };
        let refusal = match reason {
            Reason::TooLate => Refusal::DeadlinePassed,
            Reason::Stopping => Refusal::ShuttingDown,
            Reason::Overloaded | Reason::NoBuffer => Refusal::Overload,
            Reason::TooDeep => Refusal::TooDeep,
            Reason::NotServed => Refusal::UnknownMethod,
            _ => Refusal::InvalidArguments,
        };
        refusal.into()
    }
}

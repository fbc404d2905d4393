//! The calls of a client that have not been given out: under way, to be made again, or ended.

use std::collections::HashMap;
use std::task::Waker;

use lrpc::{Outcome, UnknownReason};
use unet::Message;

use super::buffers::Buffers;
use super::bulk::{NotSplit, split};
use crate::endpoint::{self, Bytes, Content, How, Token};
use crate::protocol::Refusal;

/// What is sent for a call.
#[derive(Clone)]
pub(super) struct Request {
    pub method: u16,
    pub content: Content,
    pub how: How,
}

/// What came back, not decoded yet.
pub(super) struct Received {
    pub head: Content,
    pub bulk: Option<Message>,
}

/// Keeps what came back: a reply is lent.
pub(super) fn keep(
    outcome: endpoint::Outcome<Bytes<'_>>,
    has_bulk: bool,
    buffers: &mut Buffers,
) -> Outcome<Received> {
    let bytes = match outcome {
        endpoint::Outcome::Executed(bytes) => bytes,
        // Of one-way calls only, for which nobody waits.
        endpoint::Outcome::Delivered => return Outcome::Unknown(UnknownReason::BadResults),
        endpoint::Outcome::Failed(why) => return Outcome::Unknown(why.into()),
        endpoint::Outcome::Refused(why) => return Outcome::Refused(why.into()),
        endpoint::Outcome::Unknown(doubt) => return Outcome::Unknown(doubt.into()),
    };
    let kept = if has_bulk {
        let mut head = Vec::new();
        split(bytes, &mut head, buffers).map(|bulk| (Content::from(&head[..]), Some(bulk)))
    } else if let Some(bytes) = bytes.as_slice() {
        Ok((bytes.into(), None))
    } else {
        bytes.to_vec().map(|head| (head.into(), None)).map_err(|_| NotSplit::Malformed)
    };
    match kept {
        Ok((head, bulk)) => Outcome::Executed(Received { head, bulk }),
        Err(NotSplit::Malformed) => Outcome::Unknown(UnknownReason::BadResults),
        Err(NotSplit::NoBuffer) => Outcome::Unknown(UnknownReason::ResultsTooLarge),
    }
}

/// A call that is made again while it is not known to be executed, and that is idempotent.
pub(super) struct Again {
    pub request: Request,
    /// How often yet.
    left: u32,
    /// Why it is not known whether it was executed before.
    doubt: Option<UnknownReason>,
}

impl Again {
    pub fn new(request: Request, retries: u32) -> Self {
        Self { request, left: retries, doubt: None }
    }

    /// What an attempt's outcome says of the call: nothing, where it is to be made again.
    pub fn judge<T>(&mut self, outcome: Outcome<T>) -> Option<Outcome<T>> {
        let is_lost = match &outcome {
            Outcome::Unknown(UnknownReason::SessionLost | UnknownReason::NoAnswer) => true,
            // The attempt before it was lost, and the server is not back yet.
            Outcome::Refused(reason) => self.doubt.is_some() && *reason == lrpc::Reason::NoSession,
            _ => false,
        };
        if let Outcome::Unknown(reason) = &outcome {
            self.doubt = Some(*reason);
        }
        if is_lost && self.left > 0 {
            self.left -= 1;
            return None;
        }
        Some(match (outcome, self.doubt) {
            // That this attempt was not executed does not say it of those before.
            (Outcome::Refused(_), Some(doubt)) => Outcome::Unknown(doubt),
            (outcome, _) => outcome,
        })
    }

    /// As [`Again::judge`], of an attempt that was not begun.
    pub fn refused<T>(&self, why: Refusal) -> Outcome<T> {
        self.doubt.map_or(Outcome::Refused(why.into()), Outcome::Unknown)
    }
}

/// A call that somebody waits for.
pub(super) struct Entry {
    has_bulk: bool,
    again: Option<Again>,
    state: State,
}

enum State {
    UnderWay(Option<Waker>),
    Ended(Outcome<Received>),
}

/// Calls by name.
#[derive(Default)]
pub(super) struct Calls {
    entries: HashMap<Token, Entry>,
    /// To be made again.
    lost: Vec<Token>,
}

impl Calls {
    pub fn insert(&mut self, token: Token, has_bulk: bool, again: Option<Again>) {
        self.entries.insert(token, Entry { has_bulk, again, state: State::UnderWay(None) });
    }

    /// A call has ended. Whom to wake. Calls that nobody waits for are none.
    pub fn on_end(&mut self, end: endpoint::End<'_>, buffers: &mut Buffers) -> Option<Waker> {
        let entry = self.entries.get_mut(&end.token)?;
        let outcome = keep(end.outcome, entry.has_bulk, buffers);
        let judged = match &mut entry.again {
            Some(again) => again.judge(outcome),
            None => Some(outcome),
        };
        match judged {
            Some(outcome) => entry.end(outcome),
            None => {
                self.lost.push(end.token);
                None
            }
        }
    }

    /// The next call that is to be made again.
    pub fn next_lost(&mut self) -> Option<(Token, Request)> {
        while let Some(token) = self.lost.pop() {
            // Nobody may wait for it any more.
            let again = self.entries.get(&token).and_then(|entry| entry.again.as_ref());
            if let Some(again) = again {
                return Some((token, again.request.clone()));
            }
        }
        None
    }

    /// A call was not made again. Whom to wake.
    pub fn on_refusal(&mut self, token: Token, why: Refusal) -> Option<Waker> {
        let entry = self.entries.get_mut(&token)?;
        let outcome = match &entry.again {
            Some(again) => again.refused(why),
            None => Outcome::Refused(why.into()),
        };
        entry.end(outcome)
    }

    pub fn has_ended(&self, token: Token) -> bool {
        self.entries.get(&token).is_none_or(|entry| matches!(entry.state, State::Ended(_)))
    }

    /// The outcome, once.
    pub fn take(&mut self, token: Token) -> Option<Outcome<Received>> {
        if !self.has_ended(token) {
            return None;
        }
        match self.entries.remove(&token)?.state {
            State::Ended(outcome) => Some(outcome),
            State::UnderWay(_) => None,
        }
    }

    /// Notes whom to wake; the one that was noted before.
    pub fn await_end(&mut self, token: Token, waker: Waker) -> Option<Waker> {
        match &mut self.entries.get_mut(&token)?.state {
            State::UnderWay(place) => place.replace(waker),
            State::Ended(_) => Some(waker),
        }
    }

    /// Nobody waits any more.
    pub fn forget(&mut self, token: Token) -> Option<Entry> {
        self.entries.remove(&token)
    }
}

impl Entry {
    fn end(&mut self, outcome: Outcome<Received>) -> Option<Waker> {
        self.again = None;
        match std::mem::replace(&mut self.state, State::Ended(outcome)) {
            State::UnderWay(waker) => waker,
            State::Ended(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use lrpc::Reason;

    use super::*;

    fn again(retries: u32) -> Again {
        let how = How::default();
        Again::new(Request { method: 0, content: Content::default(), how }, retries)
    }

    const LOST: Outcome<u8> = Outcome::Unknown(UnknownReason::SessionLost);

    #[test]
    fn what_is_lost_is_made_again_so_often_and_no_oftener() {
        let mut it = again(2);
        assert_eq!((it.judge(LOST), it.judge(LOST)), (None, None));
        assert_eq!(it.judge(LOST), Some(LOST));
        let mut it = again(1);
        assert_eq!(
            (it.judge(LOST), it.judge(Outcome::Executed(7))),
            (None, Some(Outcome::Executed(7)))
        );
        assert_eq!(again(0).judge(LOST), Some(LOST));
    }

    #[test]
    fn what_is_known_is_not_made_again() {
        for outcome in [
            Outcome::Executed(1),
            Outcome::Refused(Reason::NoSession),
            Outcome::Refused(Reason::Overloaded),
            Outcome::Unknown(UnknownReason::Failed),
            Outcome::Unknown(UnknownReason::TimedOut),
            Outcome::Unknown(UnknownReason::ResultsTooLarge),
        ] {
            assert_eq!(again(9).judge(outcome), Some(outcome));
        }
    }

    #[test]
    fn a_refusal_after_a_doubt_is_a_doubt() {
        let mut it = again(1);
        assert_eq!(it.judge(LOST), None);
        assert_eq!(it.judge(Outcome::Refused(Reason::Overloaded)), Some(LOST));
        let mut it = again(2);
        assert_eq!(it.judge(LOST), None);
        assert_eq!(
            it.judge(Outcome::<u8>::Refused(Reason::NoSession)),
            None,
            "it may come back yet"
        );
        assert_eq!(it.judge(Outcome::Refused(Reason::NoSession)), Some(LOST));
        assert_eq!(it.refused(Refusal::Overload), LOST);
        assert_eq!(again(1).refused::<u8>(Refusal::Overload), Outcome::Refused(Reason::Overloaded));
    }
}

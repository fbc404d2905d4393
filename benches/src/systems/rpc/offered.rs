//! Calls that are begun when they are due, whatever becomes of the ones before.
//!
//! What the client's backlog has no room for is refused where it is begun, and what the server refuses comes
//! back as refused: both at once, and both count as refused.

use std::collections::VecDeque;

use rpc_fastpath::endpoint::{Bytes, Connection, End, How, Outcome, Refusal, Token};

use super::{ECHO, failed, unbegun};
use crate::fault::Fault;
use crate::measure::load::{Mailbox, STAMP, Stamp};
use crate::task::Task;

/// A client that keeps to a schedule, and never sleeps.
pub struct Offering {
    connection: Connection,
    arguments: Vec<u8>,
    ends: Ends,
}

#[derive(Default)]
struct Ends {
    under_way: VecDeque<(Token, Stamp)>,
    came: VecDeque<Stamp>,
    refused: u64,
    fault: Option<Fault>,
}

impl Offering {
    /// Calls with as many bytes as the task says.
    pub fn new(connection: Connection, task: &Task) -> Self {
        Self { connection, arguments: vec![0; task.payload], ends: Ends::default() }
    }
}

impl Ends {
    #[inline(always)]
    fn take(&mut self, end: End<'_>, len: usize) {
        match self.look_at(end, len) {
            Ok(Some(stamp)) => self.came.push_back(stamp),
            Ok(None) => self.refused += 1,
            Err(fault) => self.fault = Some(fault),
        }
    }

    /// What a call was executed with; nothing if it was refused because there was too much.
    #[inline(always)]
    fn look_at(&mut self, end: End<'_>, len: usize) -> Result<Option<Stamp>, Fault> {
        let place = self.under_way.iter().position(|(token, _)| *token == end.token);
        let Some((_, due)) = place.and_then(|place| self.under_way.remove(place)) else {
            return Err(Fault::Other("a call ended that was not under way".into()));
        };
        match end.outcome {
            Outcome::Executed(reply) if reply.len() == len && stamp(reply) == Some(due) => {
                Ok(Some(due))
            }
            Outcome::Executed(reply) => Err(Fault::OutOfOrder {
                expected: due.sequence,
                found: stamp(reply).map_or(u64::MAX, |stamp| stamp.sequence),
            }),
            Outcome::Refused(Refusal::Overload) => Ok(None),
            other => Err(failed(other)),
        }
    }
}

#[inline(always)]
fn stamp(reply: Bytes<'_>) -> Option<Stamp> {
    let mut bytes = [0; STAMP];
    reply.copy_to(0, &mut bytes).ok().and_then(|()| Stamp::read(&bytes))
}

impl Mailbox for Offering {
    /// What is too much is refused and does not pile up: to keep to the schedule comes before the replies.
    const MOST_ALONG: u32 = 1024;

    #[inline]
    fn try_send(&mut self, stamp: Stamp) -> Result<bool, Fault> {
        stamp.write(&mut self.arguments);
        match self.connection.start(ECHO, &self.arguments[..], How::default()) {
            Ok(token) => {
                self.ends.under_way.push_back((token, stamp));
                Ok(true)
            }
            Err(Refusal::Overload) => Ok(false),
            Err(why) => Err(unbegun(why)),
        }
    }

    #[inline]
    fn push(&mut self) -> Result<u64, Fault> {
        self.connection.flush();
        Ok(std::mem::take(&mut self.ends.refused))
    }

    #[inline]
    fn try_receive(&mut self) -> Result<Option<Stamp>, Fault> {
        let Self { connection, arguments, ends } = self;
        if ends.came.is_empty() {
            connection.poll(|end| ends.take(end, arguments.len()));
            if let Some(fault) = ends.fault.take() {
                return Err(fault);
            }
        }
        Ok(ends.came.pop_front())
    }

    fn wait(&mut self) -> Result<bool, Fault> {
        Ok(false)
    }
}

//! Several calls under way: a rate, or a bandwidth.

use std::collections::VecDeque;
use std::time::Duration;

use rpc_fastpath::endpoint::{Connection, Content, End, How, Outcome, Token};

use super::bulk::{Bulk, fill};
use super::{ECHO, GIVE, TAKE, failed, single, unbegun};
use crate::clock::Stamps;
use crate::fault::Fault;
use crate::measure::halves::{Inner, Losses, RoundTrips};
use crate::measure::spread::Spread;
use crate::task::{Bench, Calls, Carries, Task, Wait};

/// How long a client that may sleep waits for an end, before it looks again.
const LOOK: Duration = Duration::from_millis(100);

/// A client that keeps a window of calls full.
pub struct Window {
    caller: Caller,
    calls: Calls,
    spins: bool,
    under_way: VecDeque<UnderWay>,
    /// Calls that have ended beyond those that were asked for.
    ahead: u64,
    /// Whether those under way have a stamp.
    is_stamped: bool,
}

/// What the calls are, and how their ends are looked at.
struct Caller {
    connection: Connection,
    kind: Kind,
    sequence: u64,
    /// Whether buffers can be handed over.
    is_here: bool,
}

enum Kind {
    Echo(Vec<u8>),
    Take(Bulk),
    /// And where the bytes are put; nowhere if they stay where they came.
    Give(Bulk, Option<Vec<u8>>),
}

struct UnderWay {
    token: Token,
    sequence: u64,
    begun: u64,
}

impl Window {
    /// Calls as the task says.
    pub fn new(connection: Connection, task: &Task, is_here: bool) -> Self {
        let kind = match (task.bench, task.calls.carries) {
            (Bench::Bandwidth, Carries::Response) => {
                let space = (!task.calls.in_place).then(|| vec![0; task.payload]);
                Kind::Give(Bulk::new(task.payload), space)
            }
            (Bench::Bandwidth, _) => Kind::Take(Bulk::new(task.payload)),
            _ => Kind::Echo(vec![0; task.payload]),
        };
        Self {
            caller: Caller { connection, kind, sequence: 0, is_here },
            calls: task.calls,
            spins: task.wait == Wait::Spin,
            under_way: VecDeque::with_capacity(task.calls.window),
            ahead: 0,
            is_stamped: false,
        }
    }

    /// Has so many calls end, the window full meanwhile; `each` is told when each of them was begun.
    #[inline(always)]
    fn go(
        &mut self,
        count: u64,
        now: impl Fn() -> u64,
        mut each: impl FnMut(u64),
    ) -> Result<(), Fault> {
        let mut done = std::mem::take(&mut self.ahead);
        while done < count {
            while self.under_way.len() + self.calls.batch <= self.calls.window {
                for _ in 0..self.calls.batch {
                    self.under_way.push_back(self.caller.begin(now())?);
                }
                self.caller.connection.flush();
            }
            done += self.collect(&mut each)?;
        }
        self.ahead = done - count;
        Ok(())
    }

    /// Waits until no call is under way.
    fn drain(&mut self) -> Result<(), Fault> {
        while !self.under_way.is_empty() {
            self.collect(&mut |_| {})?;
        }
        self.ahead = 0;
        Ok(())
    }

    /// Takes the ends that are there, or waits for one.
    #[inline(always)]
    fn collect(&mut self, each: &mut impl FnMut(u64)) -> Result<u64, Fault> {
        let Self { caller: Caller { connection, kind, .. }, under_way, .. } = self;
        let (mut count, mut fault) = (0, None);
        let take = |end: End<'_>| match kind.check(end, under_way) {
            Ok(begun) => {
                count += 1;
                each(begun);
            }
            Err(why) => fault = Some(why),
        };
        match self.spins {
            true => connection.poll(take),
            false => connection.poll_timeout(LOOK, take),
        };
        fault.map_or(Ok(count), Err)
    }
}

impl Caller {
    #[inline(always)]
    fn begin(&mut self, begun: u64) -> Result<UnderWay, Fault> {
        self.sequence += 1;
        let Self { connection, kind, sequence, is_here } = self;
        let word = sequence.to_le_bytes();
        let (method, content) = match kind {
            Kind::Echo(arguments) => {
                if let Some(first) = arguments.first_chunk_mut() {
                    *first = word;
                }
                (ECHO, Content::from(&arguments[..]))
            }
            Kind::Take(bulk) => {
                let len = bulk.len();
                let bytes = bulk.numbered(*sequence);
                let message = is_here.then(|| connection.message(len, fill(bytes)));
                // Where no buffer is free, the connection keeps a copy until one is.
                let content =
                    message.and_then(Result::ok).map_or_else(|| bytes.into(), Content::from);
                (TAKE, content)
            }
            Kind::Give(..) => (GIVE, Content::from(&word)),
        };
        let token = connection.start(method, content, How::default()).map_err(unbegun)?;
        Ok(UnderWay { token, sequence: *sequence, begun })
    }
}

impl Kind {
    /// Looks at the end of one of the calls that are under way, and tells when it was begun.
    #[inline(always)]
    fn check(&mut self, end: End<'_>, under_way: &mut VecDeque<UnderWay>) -> Result<u64, Fault> {
        // Mostly it is the first.
        let place = under_way.iter().position(|call| call.token == end.token);
        let Some(call) = place.and_then(|place| under_way.remove(place)) else {
            return Err(Fault::Other("a call ended that was not under way".into()));
        };
        let reply = match end.outcome {
            Outcome::Executed(reply) => reply,
            other => return Err(failed(other)),
        };
        let mut word = [0; 8];
        let number = match self {
            Self::Give(bulk, _) if reply.len() != bulk.len() => None,
            Self::Give(bulk, Some(space)) => {
                reply.copy_to(0, space).ok().and_then(|()| bulk.number_of(space))
            }
            Self::Give(bulk, None) => {
                let mut last = word;
                let read = reply.copy_to(0, &mut word);
                let read = read.and_then(|()| reply.copy_to(bulk.len() - last.len(), &mut last));
                read.ok().filter(|()| word == last).map(|()| u64::from_le_bytes(word))
            }
            Self::Echo(arguments) if reply.len() != arguments.len() => None,
            Self::Take(_) if reply.len() != word.len() => None,
            _ => reply.copy_to(0, &mut word).ok().map(|()| u64::from_le_bytes(word)),
        };
        match number {
            Some(number) if number == call.sequence => Ok(call.begun),
            Some(found) => Err(Fault::OutOfOrder { expected: call.sequence, found }),
            None => Err(Fault::Other(format!(
                "the reply to call {} is not what it should be: this is a defect, report it",
                call.sequence
            ))),
        }
    }
}

impl RoundTrips for Window {
    fn run(&mut self, count: u64) -> Result<(), Fault> {
        self.is_stamped = false;
        self.go(count, || 0, |_| {})
    }

    fn run_stamped(
        &mut self,
        count: u64,
        stamps: &Stamps,
        spread: &mut Spread,
    ) -> Result<(), Fault> {
        // What is under way without a stamp does not count.
        if !std::mem::replace(&mut self.is_stamped, true) {
            self.drain()?;
        }
        self.go(
            count,
            || stamps.now(),
            |begun| spread.add(stamps.picoseconds(stamps.now().saturating_sub(begun)), 1),
        )
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.drain()?;
        single::finish(&mut self.caller.connection)
    }

    fn copied(&mut self) -> u64 {
        0
    }

    fn inner(&mut self, _: &Stamps) -> Option<Inner> {
        None
    }

    fn losses(&mut self) -> Option<Losses> {
        None
    }
}

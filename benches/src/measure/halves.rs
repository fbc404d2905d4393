//! The loops around a system's single operation, generic so that the operation is inlined.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::Stamps;
use crate::fault::Fault;
use crate::measure::spread::Spread;

/// A client's half that waits for an answer.
pub trait Echo {
    /// One message there and its answer back.
    fn round_trip(&mut self) -> Result<(), Fault>;
    /// Tells the server to leave its loop.
    fn finish(&mut self) -> Result<(), Fault>;
    /// Bytes of payload copied so far on this side, where that is counted.
    fn copied(&mut self) -> u64 {
        0
    }
    /// What is the question, where it is only a part of the round trip; since it was last asked.
    fn inner(&mut self, _: &Stamps) -> Option<Inner> {
        None
    }
    /// How many ticks that part took in the last round trip, [`NOT_IN_QUESTION`] if it had none.
    fn last_inner(&self) -> Option<u64> {
        None
    }
    /// What was lost since it was last asked, where messages can be lost.
    fn losses(&mut self) -> Option<Losses> {
        None
    }
    /// Bytes that others carried beside since it was last asked.
    fn carried(&mut self) -> u64 {
        0
    }
}

/// Messages that were sent again because nothing came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// How many.
    pub messages: u64,
    /// How long they were waited for.
    pub waited: Duration,
}

impl Losses {
    /// Nothing came back for so long.
    pub fn lost(&mut self, waited: Duration) {
        self.messages += 1;
        self.waited += waited;
    }

    /// Something came back twice: what counted as lost was late.
    pub fn found(&mut self) {
        self.messages = self.messages.saturating_sub(1);
    }
}

/// In place of ticks: a round trip that only served the comparison.
pub const NOT_IN_QUESTION: u64 = u64::MAX;

/// A part of round trips that was timed within them, and what it is compared with, by turns.
#[derive(Clone, Copy, Debug)]
pub struct Inner {
    /// The mean.
    pub mean_ns: f64,
    /// The comparison's name and mean.
    pub reference: (&'static str, f64),
}

/// [`Echo`], many times.
pub trait RoundTrips {
    /// `count` round trips, without stamps.
    fn run(&mut self, count: u64) -> Result<(), Fault>;
    /// `count` round trips, each stamped before and after.
    fn run_stamped(
        &mut self,
        count: u64,
        stamps: &Stamps,
        spread: &mut Spread,
    ) -> Result<(), Fault>;
    /// Tells the server to leave its loop.
    fn finish(&mut self) -> Result<(), Fault>;
    /// Bytes of payload copied so far on this side, where that is counted.
    fn copied(&mut self) -> u64;
    /// What is the question, where it is only a part of the round trip; since it was last asked.
    fn inner(&mut self, stamps: &Stamps) -> Option<Inner>;
    /// What was lost since it was last asked, where messages can be lost.
    fn losses(&mut self) -> Option<Losses>;
    /// Bytes that others carried beside since it was last asked.
    fn carried(&mut self) -> u64 {
        0
    }
}

/// Intervals that are kept before they enter the histogram: few enough to stay in the first cache.
const KEPT: usize = 1024;

impl<E: Echo> RoundTrips for E {
    fn run(&mut self, count: u64) -> Result<(), Fault> {
        for _ in 0..count {
            self.round_trip()?;
        }
        Ok(())
    }

    fn run_stamped(
        &mut self,
        count: u64,
        stamps: &Stamps,
        spread: &mut Spread,
    ) -> Result<(), Fault> {
        let mut intervals = [0; KEPT];
        let mut left = count;
        while left > 0 {
            let now = left.min(KEPT as u64) as usize;
            for interval in &mut intervals[..now] {
                let start = stamps.now();
                self.round_trip()?;
                let whole = stamps.now().saturating_sub(start);
                *interval = self.last_inner().unwrap_or(whole);
            }
            // The histogram is touched while no operation is being timed.
            for &interval in intervals[..now].iter().filter(|ticks| **ticks != NOT_IN_QUESTION) {
                spread.add(stamps.picoseconds(interval), 1);
            }
            left -= now as u64;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        Echo::finish(self)
    }

    fn copied(&mut self) -> u64 {
        Echo::copied(self)
    }

    fn inner(&mut self, stamps: &Stamps) -> Option<Inner> {
        Echo::inner(self, stamps)
    }

    fn losses(&mut self) -> Option<Losses> {
        Echo::losses(self)
    }

    fn carried(&mut self) -> u64 {
        Echo::carried(self)
    }
}

/// A server's half that answers every message.
pub trait EchoServer {
    /// Answers one message; false after the one that ends the loop.
    fn answer(&mut self) -> Result<bool, Fault>;
    /// Bytes of payload copied so far on this side, where that is counted.
    fn copied(&mut self) -> u64 {
        0
    }
}

/// [`EchoServer`], until the client finishes.
pub trait EchoLoop {
    /// Answers until the client finishes.
    fn run(&mut self) -> Result<(), Fault>;
    /// Bytes of payload copied so far on this side, where that is counted.
    fn copied(&mut self) -> u64 {
        0
    }
}

impl<S: EchoServer> EchoLoop for S {
    fn run(&mut self) -> Result<(), Fault> {
        while self.answer()? {}
        Ok(())
    }

    fn copied(&mut self) -> u64 {
        EchoServer::copied(self)
    }
}

/// A client's half that only sends.
pub trait Sender {
    /// Starts a new phase: sequence numbers begin again.
    fn begin(&mut self);
    /// Sends one message, waiting for room.
    fn send(&mut self) -> Result<(), Fault>;
    /// Sends the message that ends the phase; it is repeated where messages can be lost.
    fn finish(&mut self) -> Result<(), Fault>;
    /// Whether messages can be lost on the way.
    fn lossy(&self) -> bool;
    /// Bytes of payload copied so far on this side, where that is counted.
    fn copied(&mut self) -> u64 {
        0
    }
}

/// [`Sender`], many times.
pub trait Sends {
    /// Starts a new phase.
    fn begin(&mut self);
    /// Sends `count` messages.
    fn run(&mut self, count: u64) -> Result<(), Fault>;
    /// Ends the phase.
    fn finish(&mut self) -> Result<(), Fault>;
    /// Whether messages can be lost on the way.
    fn lossy(&self) -> bool;
    /// Bytes of payload copied so far on this side, where that is counted.
    fn copied(&mut self) -> u64;
}

impl<S: Sender> Sends for S {
    fn begin(&mut self) {
        Sender::begin(self);
    }

    fn run(&mut self, count: u64) -> Result<(), Fault> {
        for _ in 0..count {
            self.send()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        Sender::finish(self)
    }

    fn lossy(&self) -> bool {
        Sender::lossy(self)
    }

    fn copied(&mut self) -> u64 {
        Sender::copied(self)
    }
}

/// What a receiver met.
pub enum Arrival {
    /// So many messages.
    Messages(u64),
    /// The end of the phase.
    End,
}

/// A server's half that takes messages in.
pub trait Receiver {
    /// Starts a new phase: leftovers of the last one are thrown away.
    fn begin(&mut self) -> Result<(), Fault>;
    /// Waits for the next messages and looks at each one.
    fn receive(&mut self) -> Result<Arrival, Fault>;
    /// Messages that were sent in this phase and did not arrive.
    fn lost(&self) -> u64;
    /// Bytes of payload copied so far on this side, where that is counted.
    fn copied(&mut self) -> u64 {
        0
    }
}

/// What the receiver counted in one phase.
#[derive(Debug, Serialize, Deserialize)]
pub struct Received {
    /// Messages after the first arrival, which starts the clock.
    pub messages: u64,
    /// Those of the first arrival.
    pub first: u64,
    /// From the first arrival to the end.
    pub elapsed_ns: f64,
    /// Messages that did not arrive.
    pub lost: u64,
    /// How often the receiving thread was switched away from.
    pub switches: u64,
    /// Bytes of payload that it copied, where that is counted.
    pub copied: u64,
    /// Time per message, each figure taken over [`MESSAGES_PER_STAMP`] of them; empty without stamps.
    pub spread: Vec<(u64, u64)>,
}

/// A stamp costs more than a small message: one is taken for so many small messages.
pub const MESSAGES_PER_STAMP: u64 = 64;

/// [`Receiver`], for a whole phase.
pub trait ReceiveLoop {
    /// Starts a new phase.
    fn begin(&mut self) -> Result<(), Fault>;
    /// Receives until the phase ends; stamps after every `per_stamp` messages, if any.
    fn run(&mut self, per_stamp: Option<u64>) -> Result<Received, Fault>;
    /// Bytes of payload copied so far on this side, where that is counted.
    fn copied(&mut self) -> u64;
}

impl<R: Receiver> ReceiveLoop for R {
    fn begin(&mut self) -> Result<(), Fault> {
        Receiver::begin(self)
    }

    fn run(&mut self, per_stamp: Option<u64>) -> Result<Received, Fault> {
        let mut spread = Spread::new();
        let step = per_stamp.unwrap_or(u64::MAX);
        let mut started: Option<(Instant, Instant)> = None;
        let (mut first, mut messages, mut since) = (0, 0, 0);
        while let Arrival::Messages(count) = self.receive()? {
            let Some((_, last)) = &mut started else {
                let now = Instant::now();
                started = Some((now, now));
                first = count;
                continue;
            };
            messages += count;
            since += count;
            if since >= step {
                let now = Instant::now();
                let picoseconds = now.duration_since(*last).as_nanos() as u64 * 1000;
                spread.add(picoseconds / since, since);
                *last = now;
                since = 0;
            }
        }
        let elapsed_ns = started.map_or(0.0, |(begun, _)| begun.elapsed().as_secs_f64() * 1e9);
        let (lost, spread) = (self.lost(), spread.buckets());
        Ok(Received { messages, first, elapsed_ns, lost, switches: 0, copied: 0, spread })
    }

    fn copied(&mut self) -> u64 {
        Receiver::copied(self)
    }
}

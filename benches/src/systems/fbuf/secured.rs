//! Received buffers secured by a copy, by turns with the bare copy of one.
//!
//! The originator fills the buffer before each hand-off, so that either copy finds its source where
//! a hand-off leaves it: in the other core's caches. Only the copies are timed; such as were interrupted
//! are left out of the means.

use std::hint::black_box;
use std::time::{Duration, Instant};

use unet::{Channel, ConnectOptions, Delivery, FbufMut, Message, Pool, PoolOptions};

use super::pair::send;
use super::{END, Listener, MESSAGE, Upstream, address, closed, failed, number, unsent};
use crate::clock::Stamps;
use crate::fault::Fault;
use crate::measure::halves::{Echo, EchoServer, Inner, NOT_IN_QUESTION};
use crate::measure::spread::Spread;
use crate::systems::Rival;
use crate::systems::unet::wait;
use crate::task::Task;

/// Copies between two buffers of this process.
pub fn rival(bytes: usize) -> Result<Rival, Fault> {
    let mut pool = super::stream::pool_of(bytes)?;
    let mut take = || pool.alloc(bytes).map_err(|error| failed("allocating", &error));
    let (from, mut to) = (take()?, take()?);
    let sample = move |time: Duration| {
        let started = Instant::now();
        let mut times = Vec::new();
        while started.elapsed() < time {
            let start = Instant::now();
            for _ in 0..8 {
                to.copy_from_slice(black_box(&from));
                black_box(&mut to);
            }
            times.push(start.elapsed().as_secs_f64() * 1e9 / 8.0);
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    Ok(Rival { name: "copy of as much from buffer to buffer", sample: Box::new(sample) })
}

/// The receiver: it asks for a buffer, and secures or copies it.
pub struct Client {
    channel: Channel,
    pool: Pool,
    /// What bare copies go to, as many as the pool has of its own.
    target: FbufMut,
    clock: quanta::Clock,
    delivery: Delivery,
    sequence: u64,
    /// Ticks of what was secured, and of bare copies.
    secured: Spread,
    copied: Spread,
    last: u64,
}

impl Client {
    /// Connects to the originator.
    pub fn connect(task: &Task) -> Result<Self, Fault> {
        let mut options = ConnectOptions::default();
        options.channel.wait = wait(task.wait);
        let channel = Channel::connect(&address(task, 1)?, options);
        let channel = channel.map_err(|error| failed("connecting", &error))?;
        let mut pool = super::path::filled_pool(PoolOptions::default(), task.payload)?;
        let target = pool.alloc(task.payload).map_err(|error| failed("allocating", &error))?;
        Ok(Self {
            channel,
            pool,
            target,
            clock: quanta::Clock::new(),
            delivery: Delivery::default(),
            sequence: 0,
            secured: Spread::new(),
            copied: Spread::new(),
            last: NOT_IN_QUESTION,
        })
    }

    fn ask(&mut self, tag: u16) -> Result<(), Fault> {
        self.sequence += 1;
        send(&mut self.channel, tag, Message::new(), self.sequence)?;
        self.channel.recv_into(&mut self.delivery).map_err(closed)?;
        super::check(&self.delivery, self.sequence)
    }
}

impl Echo for Client {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.ask(MESSAGE)?;
        if self.sequence.is_multiple_of(2) {
            let mut message = self.delivery.take_message();
            let start = self.clock.raw();
            let secured = message.secure(&mut self.pool);
            let took = self.clock.raw().saturating_sub(start);
            self.last = took;
            self.secured.add(took, 1);
            secured.map_err(|error| failed("securing", &error))?;
            black_box(message);
        } else {
            let message = self.delivery.take_message();
            let start = self.clock.raw();
            let copied = message.peek(0, &mut self.target);
            let took = self.clock.raw().saturating_sub(start);
            self.last = NOT_IN_QUESTION;
            self.copied.add(took, 1);
            copied.map_err(|error| failed("copying", &error))?;
            black_box(&mut self.target);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.ask(END)
    }

    fn copied(&mut self) -> u64 {
        self.channel.copied() + self.pool.copied()
    }

    fn last_inner(&self) -> Option<u64> {
        Some(self.last)
    }

    fn inner(&mut self, stamps: &Stamps) -> Option<Inner> {
        // Ticks take the place of picoseconds in the distributions.
        let mean = |ticks: &Spread| {
            let thousand = (ticks.uninterrupted_mean_ns() * 1e6) as u64;
            stamps.picoseconds(thousand) as f64 / 1e6 - stamps.cost_ns()
        };
        let (secured, copied) = (mean(&self.secured), mean(&self.copied));
        (self.secured, self.copied) = (Spread::new(), Spread::new());
        Some(Inner { mean_ns: secured, reference: ("bare copy of the same", copied) })
    }
}

/// The originator: fills a buffer and hands it over whenever it is asked to.
pub struct Writer {
    upstream: Upstream,
    delivery: Delivery,
    bytes: usize,
}

impl Writer {
    /// Accepts the receiver.
    pub fn accept(listener: Listener, task: &Task) -> Result<Self, Fault> {
        let upstream = listener.accept()?;
        Ok(Self { upstream, delivery: Delivery::default(), bytes: task.payload })
    }
}

impl EchoServer for Writer {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        self.upstream.receive(&mut self.delivery)?;
        let (tag, sequence) = (self.delivery.tag(), number(&self.delivery));
        let channel = self.upstream.channel()?;
        if tag == END {
            return send(channel, END, Message::new(), sequence).map(|()| false);
        }
        let mut fbuf = channel.alloc(self.bytes).map_err(|error| failed("allocating", &error))?;
        fbuf.fill(sequence as u8);
        channel.send_fbuf(MESSAGE, fbuf.freeze(), &sequence.to_le_bytes()).map_err(unsent)?;
        Ok(true)
    }
}

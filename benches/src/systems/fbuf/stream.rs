//! One way along a path: as many messages under way as the first domain has buffers.

use unet::{Channel, Class, Delivery, Message, Path, Pool, PoolOptions};

use super::pair::send;
use super::path::{allocate, connect, filled_pool};
use super::read::sum;
use super::{END, Listener, MESSAGE, Upstream, failed, number};
use crate::fault::Fault;
use crate::measure::halves::{Arrival, EchoServer, Receiver, Sender};
use crate::task::{Task, Wait};

/// How many messages of a size are under way at most: 4 MiB of them, but not less than four.
pub fn window(bytes: usize) -> usize {
    ((4 << 20) / bytes.max(1)).clamp(4, 64)
}

/// A pool of as many buffers of one size, each filled with the words 0, 1, 2 and so on.
pub fn pool_of(bytes: usize) -> Result<Pool, Fault> {
    let mut options = PoolOptions { classes: Default::default(), ..PoolOptions::default() };
    let buffer_bytes = bytes.next_multiple_of(64) as u32;
    options.classes[0] = Class { buffer_bytes, buffers: window(bytes) as u32 };
    filled_pool(options, bytes)
}

/// The first domain.
pub struct Source {
    channel: Channel,
    pool: Pool,
    bytes: usize,
    sequence: u64,
    yields: bool,
}

impl Source {
    /// Connects the whole path.
    pub fn connect(task: &Task) -> Result<Self, Fault> {
        let pool = pool_of(task.payload)?;
        let path = Path::of(&pool).map_err(|error| failed("making a path", &error))?;
        let (channel, yields) = (connect(task, path)?, task.wait != Wait::Spin);
        Ok(Self { channel, pool, bytes: task.payload, sequence: 0, yields })
    }
}

impl Sender for Source {
    fn begin(&mut self) {
        self.sequence = 0;
    }

    #[inline]
    fn send(&mut self) -> Result<(), Fault> {
        let message = allocate(&mut self.pool, &mut self.channel, self.bytes, self.yields)?;
        send(&mut self.channel, MESSAGE, message, self.sequence)?;
        self.sequence += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        send(&mut self.channel, END, Message::new(), self.sequence)
    }

    fn lossy(&self) -> bool {
        false
    }

    fn copied(&mut self) -> u64 {
        self.channel.copied() + self.pool.copied()
    }
}

/// A domain between two others.
pub struct Relay {
    upstream: Upstream,
    downstream: Channel,
    delivery: Delivery,
    yields: bool,
}

impl Relay {
    /// Connects to the next domain with the path of the last one, and then accepts that.
    pub fn accept(mut listener: Listener, task: &Task) -> Result<Self, Fault> {
        let mut incoming = listener.incoming()?;
        let path = incoming.path().map_err(|error| failed("mapping the path", &error))?.clone();
        let downstream = connect(task, path)?;
        let id =
            listener.endpoint.accept(incoming, &[]).map_err(|error| failed("accepting", &error))?;
        let upstream = Upstream { endpoint: listener.endpoint, id };
        let yields = task.wait != Wait::Spin;
        Ok(Self { upstream, downstream, delivery: Delivery::default(), yields })
    }
}

impl EchoServer for Relay {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        while !self.upstream.try_receive(&mut self.delivery)? {
            // What the next domain gave back goes back to the one before.
            self.downstream.lent();
            if self.yields {
                std::thread::yield_now();
            }
        }
        let (tag, sequence) = (self.delivery.tag(), number(&self.delivery));
        send(&mut self.downstream, tag, self.delivery.take_message(), sequence)?;
        if tag == END {
            // Until all is back where it came from.
            while self.downstream.lent().0 > 0 && self.downstream.closed().is_none() {
                std::thread::yield_now();
            }
        }
        Ok(tag != END)
    }

    fn copied(&mut self) -> u64 {
        self.upstream.copied() + self.downstream.copied()
    }
}

/// The last domain.
pub struct Sink {
    upstream: Upstream,
    delivery: Delivery,
    bytes: usize,
    /// What the words add up to, where they are read.
    sum: Option<u64>,
    expected: u64,
}

impl Sink {
    /// Accepts the one before it.
    pub fn accept(listener: Listener, task: &Task, reads: bool) -> Result<Self, Fault> {
        let upstream = listener.accept()?;
        let words = task.payload as u64 / 8;
        let sum = reads.then(|| (words * words.saturating_sub(1)) / 2);
        let delivery = Delivery::default();
        Ok(Self { upstream, delivery, bytes: task.payload, sum, expected: 0 })
    }
}

impl Receiver for Sink {
    fn begin(&mut self) -> Result<(), Fault> {
        self.expected = 0;
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<Arrival, Fault> {
        self.upstream.receive(&mut self.delivery)?;
        if self.delivery.tag() == END {
            return Ok(Arrival::End);
        }
        match number(&self.delivery) {
            found if found == self.expected => self.expected += 1,
            found => return Err(Fault::OutOfOrder { expected: self.expected, found }),
        }
        let whole = match self.sum {
            None => self.delivery.message().len() == self.bytes,
            Some(expected) => sum(&self.delivery)? == expected,
        };
        if !whole {
            return Err(Fault::Other("a message has other bytes than it had".into()));
        }
        Ok(Arrival::Messages(1))
    }

    fn lost(&self) -> u64 {
        0
    }

    fn copied(&mut self) -> u64 {
        self.upstream.copied()
    }
}

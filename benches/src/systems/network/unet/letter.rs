//! How messages of one size go over a channel of a network: copied into the device's buffer, or in a buffer
//! that was taken before.

use unet::{AllocError, Channel, Delivery, Offer};

use crate::fault::Fault;
use crate::systems::unet::{END, unsent};
use crate::task::{Bench, Task, Wait};

/// Messages up to this size are copied in, as who has few bytes to send does it; all that go one way are.
pub const COPIED: usize = 256;
/// How many messages wait for each other before the device is told.
pub const BURST: u32 = 32;
/// The tag of a message.
const MESSAGE: u16 = 0;
const WORD: usize = size_of::<u64>();

/// Messages of one size.
pub struct Letter {
    bytes: Vec<u8>,
    /// The size of a buffer beside the bytes, or zero.
    buffer: usize,
    posted: u32,
    /// Whether it gives its core away while there is no room.
    yields: bool,
}

impl Letter {
    /// For messages of the task's size.
    pub fn new(task: &Task) -> Self {
        let in_buffers = task.bench == Bench::Rtt && task.payload > COPIED;
        let copied = if in_buffers { WORD } else { task.payload };
        Self {
            bytes: vec![1; copied],
            buffer: task.payload - copied,
            posted: 0,
            yields: task.wait != Wait::Spin,
        }
    }

    /// The bytes of the next message.
    #[inline(always)]
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    #[inline(always)]
    fn number(&mut self, sequence: u64) {
        if let Some(first) = self.bytes.first_chunk_mut() {
            *first = sequence.to_le_bytes();
        }
    }

    /// Sends a message at once, waiting for room.
    #[inline(always)]
    pub fn send(&mut self, channel: &mut Channel, sequence: u64) -> Result<(), Fault> {
        self.number(sequence);
        if self.buffer == 0 {
            return channel.send(&self.bytes).map_err(unsent);
        }
        let fbuf = loop {
            match channel.alloc(self.buffer) {
                Ok(fbuf) => break fbuf.freeze(),
                // Those that are under way come back.
                Err(AllocError::Exhausted) => channel.flush(),
                Err(error) => return Err(Fault::Other(format!("no buffer: {error}"))),
            }
        };
        channel.send_fbuf(MESSAGE, fbuf, &self.bytes).map_err(unsent)
    }

    /// Posts a message, waiting for room; the device is told of a burst.
    #[inline(always)]
    pub fn post(&mut self, channel: &mut Channel, sequence: u64) -> Result<(), Fault> {
        self.number(sequence);
        while !self.try_post(channel)? {
            channel.flush();
            // Who makes room may be on this core.
            if self.yields { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        Ok(())
    }

    /// Posts a message whose bytes are written, if there is room.
    #[inline(always)]
    pub fn try_post(&mut self, channel: &mut Channel) -> Result<bool, Fault> {
        if channel.try_post(MESSAGE, &self.bytes).map_err(unsent)? != Offer::Taken {
            return Ok(false);
        }
        self.posted += 1;
        if self.posted >= BURST {
            self.push(channel);
        }
        Ok(true)
    }

    /// Sends what was posted.
    #[inline(always)]
    pub fn push(&mut self, channel: &mut Channel) {
        if self.posted > 0 {
            self.posted = 0;
            channel.flush();
        }
    }
}

/// Sends the message that ends a phase: how many were sent in all phases.
pub fn send_end(channel: &mut Channel, sent: u64) -> Result<(), Fault> {
    while channel.try_send_tagged(END, &sent.to_le_bytes()).map_err(unsent)? != Offer::Taken {
        std::thread::yield_now();
    }
    Ok(())
}

/// The first bytes of a message, where it has as many.
#[inline(always)]
pub fn first<const N: usize>(message: &Delivery) -> Option<[u8; N]> {
    if let Some(bytes) = message.inline().first_chunk() {
        return Some(*bytes);
    }
    let mut bytes = [0; N];
    message.message().peek(0, &mut bytes).is_ok().then_some(bytes)
}

/// What a message says: its number, or where a phase ended.
pub enum Said {
    /// The message of this number.
    Number(u64),
    /// The end, after so many messages.
    End(u64),
}

impl Said {
    /// Reads a message, if it says anything.
    #[inline(always)]
    pub fn of(message: &Delivery) -> Option<Self> {
        let number = u64::from_le_bytes(first(message)?);
        Some(if message.tag() == END { Self::End(number) } else { Self::Number(number) })
    }
}

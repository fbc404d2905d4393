//! One domain: messages from a producer's code to a consumer's through a queue in private memory.

use std::collections::VecDeque;

use unet::{Message, Pool, PoolOptions};

use super::failed;
use crate::fault::Fault;
use crate::measure::halves::Echo;
use crate::task::Task;

/// Producer and consumer.
pub struct Alone {
    pool: Pool,
    queue: VecDeque<Message>,
    bytes: usize,
}

impl Alone {
    /// Touches the buffers that will be used.
    pub fn new(task: &Task) -> Result<Self, Fault> {
        let pool = Pool::new(PoolOptions::default());
        let mut pool = pool.map_err(|error| failed("making a pool", &error))?;
        let message = pool.message(0, task.payload, |bytes| bytes.fill(1));
        drop(message.map_err(|error| failed("allocating", &error))?);
        Ok(Self { pool, queue: VecDeque::with_capacity(4), bytes: task.payload })
    }

    /// Out of line, as producers are that know nothing of consumers.
    #[inline(never)]
    fn produce(&mut self) -> Result<(), Fault> {
        let message = self.pool.message(0, self.bytes, |_| {});
        self.queue.push_back(message.map_err(|error| failed("allocating", &error))?);
        Ok(())
    }

    #[inline(never)]
    fn consume(&mut self) -> Result<(), Fault> {
        match self.queue.pop_front() {
            Some(message) if message.len() == self.bytes => Ok(()),
            _ => Err(Fault::Other("a message has another length than it had".into())),
        }
    }
}

impl Echo for Alone {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.produce()?;
        self.consume()
    }

    fn finish(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn copied(&mut self) -> u64 {
        self.pool.copied()
    }
}

//! One call at a time, beside bulk flows of other clients over the same link.
//!
//! All clients are in one thread, since it takes no scheduler to share a link: each has its connection, and gets
//! a turn while the call is waited for. The bytes are written once, into buffers whose handles are sent again
//! and again, and of what arrives the length is looked at: neither side stops to copy for itself.

use rpc_fastpath::endpoint::{Connection, How, Outcome, Token};
use unet::{Address, Message, Pool, PoolOptions};

use super::{ECHO, FETCH, STORE, connect, failed, single, unbegun};
use crate::fault::Fault;
use crate::measure::halves::Echo;
use crate::task::{Calls, Carries, Task};

/// A null call's client, and those of the flows.
pub struct Beside {
    small: Connection,
    flows: Vec<Flow>,
    carried: u64,
}

/// A client that keeps bulk calls under way.
struct Flow {
    connection: Connection,
    calls: Calls,
    bytes: Message,
    under_way: usize,
}

impl Beside {
    /// Connects all of them.
    pub fn new(address: &Address, task: &Task) -> Result<Self, Fault> {
        let small = connect(address, task)?;
        let flow = |_| Flow::new(connect(address, task)?, task);
        let flows = (0..task.calls.flows).map(flow).collect::<Result<_, _>>()?;
        Ok(Self { small, flows, carried: 0 })
    }

    fn turn(&mut self) -> Result<(), Fault> {
        for flow in &mut self.flows {
            flow.begin()?;
            self.carried += flow.collect()?;
        }
        Ok(())
    }
}

impl Flow {
    fn new(connection: Connection, task: &Task) -> Result<Self, Fault> {
        Ok(Self { connection, calls: task.calls, bytes: bulk(task.payload)?, under_way: 0 })
    }

    /// Fills the window.
    fn begin(&mut self) -> Result<(), Fault> {
        while self.under_way < self.calls.window {
            let begun = match self.calls.carries {
                Carries::Response => self.connection.start(FETCH, b"", How::default()),
                _ => self.connection.start(STORE, self.bytes.clone(), How::default()),
            };
            begun.map_err(unbegun)?;
            self.under_way += 1;
        }
        Ok(())
    }

    /// Takes the ends that are there: how many bytes their calls carried.
    fn collect(&mut self) -> Result<u64, Fault> {
        let Self { connection, calls, bytes, under_way } = self;
        let (mut ended, mut fault) = (0, None);
        let due = match calls.carries {
            Carries::Response => bytes.len(),
            _ => 0,
        };
        connection.poll(|end| match end.outcome {
            Outcome::Executed(reply) if reply.len() == due => ended += 1,
            Outcome::Executed(_) => fault = Some(Fault::Other("a reply has another length".into())),
            other => fault = Some(failed(other)),
        });
        *under_way = under_way.saturating_sub(ended);
        fault.map_or(Ok((ended * bytes.len()) as u64), Err)
    }
}

impl Echo for Beside {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        let token = self.small.start(ECHO, b"", How::default()).map_err(unbegun)?;
        self.small.flush();
        while !has_ended(&mut self.small, token)? {
            self.turn()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        for flow in &mut self.flows {
            while flow.under_way > 0 {
                flow.collect()?;
            }
        }
        single::finish(&mut self.small)
    }

    fn carried(&mut self) -> u64 {
        std::mem::take(&mut self.carried)
    }
}

#[inline(always)]
fn has_ended(connection: &mut Connection, token: Token) -> Result<bool, Fault> {
    let mut found = Ok(false);
    connection.poll(|end| {
        found = match end.outcome {
            Outcome::Executed(reply) if end.token == token && reply.is_empty() => Ok(true),
            Outcome::Executed(_) => Err(Fault::Other("a reply came that was not due".into())),
            other => Err(failed(other)),
        };
    });
    found
}

/// As many bytes, in buffers of this process.
pub fn bulk(bytes: usize) -> Result<Message, Fault> {
    let failed = |why: &dyn std::fmt::Display| Fault::Other(format!("no buffers: {why}"));
    let mut pool = Pool::new(PoolOptions::default()).map_err(|error| failed(&error))?;
    pool.message(0, bytes, |to| to.fill(1)).map_err(|error| failed(&error))
}

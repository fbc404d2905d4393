//! The loops around one call, in whichever runtime.

use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use super::END;
use crate::clock::Stamps;
use crate::cpus;
use crate::fault::Fault;
use crate::measure::halves::{Inner, Losses, RoundTrips};
use crate::measure::spread::Spread;

/// A client, connected.
pub trait Call {
    /// Calls with a word, and gives what comes back.
    async fn call(&mut self, word: u64) -> Result<u64, Fault>;
}

/// What runs futures of this thread.
pub trait Drive {
    /// Runs one to its end.
    fn drive<F: Future>(&self, future: F) -> F::Output;
}

impl Drive for Runtime {
    fn drive<F: Future>(&self, future: F) -> F::Output {
        self.block_on(future)
    }
}

/// A runtime of one thread, with tasks that stay on it.
pub struct Local {
    /// The runtime.
    pub runtime: Runtime,
    /// Its tasks.
    pub tasks: LocalSet,
}

impl Drive for Local {
    fn drive<F: Future>(&self, future: F) -> F::Output {
        self.tasks.block_on(&self.runtime, future)
    }
}

/// Calls again and again from the thread that measures.
pub struct Caller<D, C> {
    drive: D,
    client: C,
    sequence: u64,
}

impl<D: Drive, C: Call> Caller<D, C> {
    /// Puts a client to use.
    pub fn new(drive: D, client: C) -> Self {
        Self { drive, client, sequence: 0 }
    }

    /// So many calls, `each` after another.
    fn go(&mut self, count: u64, mut each: impl FnMut()) -> Result<(), Fault> {
        let Self { drive, client, sequence } = self;
        let calls = async {
            for _ in 0..count {
                *sequence += 1;
                let found = client.call(*sequence).await?;
                if found != *sequence {
                    return Err(Fault::OutOfOrder { expected: *sequence, found });
                }
                each();
            }
            Ok(())
        };
        cpus::roaming(|| drive.drive(calls))
    }
}

impl<D: Drive, C: Call> RoundTrips for Caller<D, C> {
    fn run(&mut self, count: u64) -> Result<(), Fault> {
        self.go(count, || {})
    }

    fn run_stamped(
        &mut self,
        count: u64,
        stamps: &Stamps,
        spread: &mut Spread,
    ) -> Result<(), Fault> {
        let mut last = stamps.now();
        self.go(count, || {
            spread.add(stamps.picoseconds(stamps.now().saturating_sub(last)), 1);
            // What entering takes is no part of the next call.
            last = stamps.now();
        })
    }

    fn finish(&mut self) -> Result<(), Fault> {
        match self.drive.drive(self.client.call(END))? {
            END => Ok(()),
            found => Err(Fault::OutOfOrder { expected: END, found }),
        }
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

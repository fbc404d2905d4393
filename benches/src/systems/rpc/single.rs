//! One call at a time.

use rpc_fastpath::endpoint::{Bytes, Connection, Content, How, Outcome};

use super::{ECHO, FINISH, failed};
use crate::fault::Fault;
use crate::measure::halves::Echo;
use crate::task::Task;

/// A client that waits for each reply.
pub struct Single {
    connection: Connection,
    arguments: Vec<u8>,
    sequence: u64,
}

impl Single {
    /// Calls with as many bytes as the task says.
    pub fn new(connection: Connection, task: &Task) -> Self {
        Self { connection, arguments: vec![0; task.payload], sequence: 0 }
    }
}

/// The sequence number of a message, or the one that is due where there is no room for one.
#[inline(always)]
fn sequence(bytes: Bytes<'_>, due: u64) -> u64 {
    let mut word = [0; 8];
    match bytes.as_slice() {
        Some([]) => due,
        Some(bytes) => bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word)),
        None => bytes.copy_to(0, &mut word).map_or(0, |()| u64::from_le_bytes(word)),
    }
}

impl Echo for Single {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.sequence += 1;
        if let Some(first) = self.arguments.first_chunk_mut() {
            *first = self.sequence.to_le_bytes();
        }
        let (due, arguments) = (self.sequence, Content::from(&self.arguments[..]));
        let read = |outcome: Outcome<Bytes<'_>>| outcome.map(|reply| sequence(reply, due));
        match self.connection.call_and(ECHO, arguments, How::default(), read) {
            Outcome::Executed(found) if found == due => Ok(()),
            Outcome::Executed(found) => Err(Fault::OutOfOrder { expected: due, found }),
            other => Err(failed(other)),
        }
    }

    fn finish(&mut self) -> Result<(), Fault> {
        finish(&mut self.connection)
    }
}

/// Ends the server's loop, which it leaves with the first call that arrives; the reply may be lost, and nobody
/// repeats it.
pub fn finish(connection: &mut Connection) -> Result<(), Fault> {
    match connection.call(FINISH, b"", How::default()) {
        Outcome::Executed(_) | Outcome::Unknown(_) => Ok(()),
        other => Err(failed(other)),
    }
}

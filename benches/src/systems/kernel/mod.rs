//! What the kernel's four have in common: descriptors that are read and written.
//!
//! Each system's own file only makes the descriptors. The client makes both ends and passes the
//! server's over the control socket. A message's first word is its sequence number, checked by
//! whoever receives it; [`END`] in its place ends a phase.

mod end;
mod halves;

use std::os::fd::{AsFd, OwnedFd};

use crate::fault::Fault;
use crate::process::server::{Request, Server};
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

pub use end::{End, Ends, Line, PATIENCE, RETRY};
pub use halves::{client_half, server_half};

/// The first word of the message that ends a phase.
pub const END: u64 = u64::MAX;
/// A message holds at least its first word.
const WORD: usize = size_of::<u64>();
/// The most that UDP over IPv4 carries in one datagram.
const LARGEST_DATAGRAM: usize = 65_507;

/// One of the kernel's mechanisms: what it is called, and how the two ends of a connection are made.
/// All of them are read and written alike.
pub struct Kernel {
    /// What `--system` calls it.
    pub name: &'static str,
    /// What the records call its transport.
    pub transport: &'static str,
    /// What it is, for the list of systems.
    pub about: &'static str,
    /// Whether messages are datagrams, which keep their bounds and may be lost.
    pub datagrams: bool,
    /// Makes a connection: the client's ends, then the server's.
    pub connect: fn() -> Result<(Ends, Ends), Fault>,
}

impl System for Kernel {
    fn name(&self) -> &'static str {
        self.name
    }

    fn transport(&self) -> &'static str {
        self.transport
    }

    fn about(&self) -> &'static str {
        self.about
    }

    /// A message holds its sequence number at least.
    fn payload(&self, _: Bench, asked: usize) -> usize {
        asked.max(WORD)
    }

    fn refuses(&self, bench: Bench, payload: usize, _: Wait) -> Option<String> {
        if self.datagrams && payload > LARGEST_DATAGRAM {
            return Some(format!("carries at most {LARGEST_DATAGRAM} bytes in a datagram"));
        }
        (bench == Bench::Scale)
            .then(|| "has no bindings to a server thread, which `scale` is about".to_owned())
    }

    fn remark(&self, bench: Bench, asked: usize) -> Option<String> {
        let bytes = self.payload(bench, asked);
        (bench == Bench::NullRpc).then(|| {
            format!("the kernel has no procedures: the nearest is a message of {bytes} bytes and its echo")
        })
    }

    fn client(&self, task: &Task, server: &Server) -> Result<ClientHalf, Fault> {
        let (ours, theirs) = (self.connect)()?;
        server.ask(
            &Request::Open(task.clone()),
            &[theirs.incoming.as_fd(), theirs.outgoing.as_fd()],
        )?;
        server.expect_ready()?;
        server.expect_done()?;
        // The server's are closed here, so that its death is seen as the end of the stream.
        drop(theirs);
        Ok(client_half(End::new(ours, task, self.datagrams)?, task))
    }

    fn server(
        &self,
        task: &Task,
        fds: Vec<OwnedFd>,
        ready: Ready<'_>,
    ) -> Result<ServerHalf, Fault> {
        let datagrams = self.datagrams;
        let fds: Result<[OwnedFd; 2], _> = fds.try_into();
        let [incoming, outgoing] =
            fds.map_err(|_| Fault::Other("two descriptors were to come along".into()))?;
        let end = End::new(Ends { incoming, outgoing }, task, datagrams)?;
        ready()?;
        Ok(server_half(end, task))
    }
}

/// A message's first word.
pub fn first_word(message: &[u8]) -> u64 {
    message.first_chunk().map_or(END, |word| u64::from_le_bytes(*word))
}

/// Puts a message's first word in its place.
pub fn set_first_word(message: &mut [u8], word: u64) {
    if let Some(first) = message.first_chunk_mut() {
        *first = word.to_le_bytes();
    }
}

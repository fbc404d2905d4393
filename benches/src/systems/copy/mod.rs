//! Pipelines that copy, as rivals of buffers that are handed over: through pipes, and through a ring of
//! our own. A domain receives a message into private memory and sends it on from there.
//!
//! Times are those of one hop, there and back by the same way.

use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::fault::{During, Fault};
use crate::measure::halves::{Echo, EchoServer};
use crate::process::server::{Request, Server};
use crate::systems::kernel::{End, Ends};
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

mod pipe;
mod ring;

/// The first word of the message that ends a phase.
const END: u64 = u64::MAX;
/// Bytes that a pipe holds, where the kernel allows it.
const PIPE_BYTES: usize = 1 << 20;

/// How a neighbour's messages come and go.
pub trait Neighbour {
    /// Fills the message.
    fn receive(&mut self, message: &mut [u8]) -> Result<(), Fault>;
    /// Sends it.
    fn send(&mut self, message: &[u8]) -> Result<(), Fault>;
}

/// By what bytes travel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Written to a pipe and read from it: two copies.
    Pipe,
    /// Lent to the pipe by vmsplice(2), and read from it: one copy.
    Vmsplice,
    /// Copied into a buffer of a channel and out of it: two copies.
    Ring,
}

/// One pipeline of copies.
pub struct Copies {
    way: Way,
    name: &'static str,
    about: &'static str,
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static dyn System> {
    static ALL: [Copies; 3] = [
        Copies { way: Way::Pipe, name: "copy/pipe", about: "written to pipes and read from them" },
        Copies {
            way: Way::Vmsplice,
            name: "copy/vmsplice",
            about: "lent to pipes by vmsplice(2) and read from them",
        },
        Copies {
            way: Way::Ring,
            name: "copy/ring",
            about: "copied into buffers of a channel and out of them",
        },
    ];
    ALL.iter().map(|system| system as &'static dyn System)
}

impl System for Copies {
    fn name(&self) -> &'static str {
        self.name
    }

    fn transport(&self) -> &'static str {
        if self.way == Way::Ring { "shm:" } else { "pipe:" }
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn payload(&self, _: Bench, asked: usize) -> usize {
        asked.max(size_of::<u64>())
    }

    fn answers(&self, bench: Bench) -> bool {
        bench == Bench::Fbuf
    }

    fn refuses(&self, _: Bench, _: usize, _: Wait) -> Option<String> {
        None
    }

    fn remark(&self, _: Bench, _: usize) -> Option<String> {
        Some(match self.way {
            Way::Pipe => "copied twice a hop, by write(2) and read(2); pipes of 1 MiB".to_owned(),
            Way::Vmsplice => "copied once a hop, by read(2); pipes of 1 MiB".to_owned(),
            Way::Ring => "copied twice a hop, in and out of shared memory".to_owned(),
        })
    }

    fn domains(&self) -> (usize, usize) {
        (2, 4)
    }

    fn client_along(&self, task: &Task, servers: &[Server]) -> Result<ClientHalf, Fault> {
        if self.way == Way::Ring {
            // From the far end: whoever is ready connects to the next, which listens by then.
            for (at, server) in servers.iter().enumerate().rev() {
                let task = Task { position: at + 1, ..task.clone() };
                server.ask(&Request::Open(task), &[])?;
                server.expect_ready()?;
            }
            let next = ring::Ring::connect(task)?;
            for server in servers {
                server.expect_done()?;
            }
            return Ok(ClientHalf::Echo(Box::new(Source::new(next, task))));
        }
        let joined = servers.iter().map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
        let mut joined = joined.into_iter();
        let Some((ours, mut left)) = joined.next() else { return Err(Fault::PeerGone) };
        for (at, server) in servers.iter().enumerate() {
            let task = Task { position: at + 1, ..task.clone() };
            let right = joined.next();
            let mut fds = vec![left.incoming.as_fd(), left.outgoing.as_fd()];
            if let Some((near, _)) = &right {
                fds.extend([near.incoming.as_fd(), near.outgoing.as_fd()]);
            }
            server.ask(&Request::Open(task), &fds)?;
            server.expect_ready()?;
            server.expect_done()?;
            // A server's ends are closed here, so that its death is seen as the end of the stream.
            if let Some((_, far)) = right {
                left = far;
            }
        }
        let next = pipe::Pipe::new(End::new(ours, task, false)?, task, self.way == Way::Vmsplice);
        Ok(ClientHalf::Echo(Box::new(Source::new(next, task))))
    }

    fn client(&self, task: &Task, server: &Server) -> Result<ClientHalf, Fault> {
        self.client_along(task, std::slice::from_ref(server))
    }

    fn server(
        &self,
        task: &Task,
        fds: Vec<OwnedFd>,
        ready: Ready<'_>,
    ) -> Result<ServerHalf, Fault> {
        let last = task.position + 1 == task.domains;
        if self.way == Way::Ring {
            let listening = ring::Listening::new(task)?;
            ready()?;
            let next = if last { None } else { Some(ring::Ring::connect(task)?) };
            return Ok(domain(listening.accept()?, next, task));
        }
        let lent = self.way == Way::Vmsplice;
        let mut fds = fds.into_iter();
        let mut neighbour = || -> Result<Option<pipe::Pipe>, Fault> {
            let (Some(incoming), Some(outgoing)) = (fds.next(), fds.next()) else {
                return Ok(None);
            };
            let end = End::new(Ends { incoming, outgoing }, task, false)?;
            Ok(Some(pipe::Pipe::new(end, task, lent)))
        };
        let previous = neighbour()?.ok_or(Fault::PeerGone)?;
        let next = neighbour()?;
        ready()?;
        Ok(domain(previous, next, task))
    }
}

/// Two pipes between neighbours: the ends of the one nearer to the client, then the other's.
fn connect() -> Result<(Ends, Ends), Fault> {
    let make = || {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).during("making a pipe")?;
        // A user may have used up what pipes may hold; then it keeps its usual size.
        let _ = fcntl_setpipe_size(&writer, PIPE_BYTES);
        Ok::<_, Fault>((reader, writer))
    };
    let ((far_in, near_out), (near_in, far_out)) = (make()?, make()?);
    let near = Ends { incoming: near_in, outgoing: near_out };
    Ok((near, Ends { incoming: far_in, outgoing: far_out }))
}

fn domain<N: Neighbour + 'static>(previous: N, next: Option<N>, task: &Task) -> ServerHalf {
    let message = vec![0; task.payload];
    ServerHalf::Echo(Box::new(Domain { previous, next, message }))
}

fn first_word(message: &[u8]) -> u64 {
    message.first_chunk().map_or(END, |word| u64::from_le_bytes(*word))
}

/// The first domain.
struct Source<N> {
    next: N,
    out: Vec<u8>,
    back: Vec<u8>,
    sequence: u64,
}

impl<N: Neighbour> Source<N> {
    fn new(next: N, task: &Task) -> Self {
        Self { next, out: vec![1; task.payload], back: vec![0; task.payload], sequence: 0 }
    }

    #[inline]
    fn exchange(&mut self, word: u64) -> Result<(), Fault> {
        if let Some(first) = self.out.first_chunk_mut() {
            *first = word.to_le_bytes();
        }
        self.next.send(&self.out)?;
        self.next.receive(&mut self.back)?;
        match first_word(&self.back) {
            found if found == word => Ok(()),
            found => Err(Fault::OutOfOrder { expected: word, found }),
        }
    }
}

impl<N: Neighbour> Echo for Source<N> {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.sequence += 1;
        self.exchange(self.sequence)
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.exchange(END)
    }
}

/// A further domain: passes messages on both ways, or answers where there is none further.
struct Domain<N> {
    previous: N,
    next: Option<N>,
    message: Vec<u8>,
}

impl<N: Neighbour> EchoServer for Domain<N> {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        self.previous.receive(&mut self.message)?;
        if let Some(next) = &mut self.next {
            next.send(&self.message)?;
            next.receive(&mut self.message)?;
        }
        self.previous.send(&self.message)?;
        Ok(first_word(&self.message) != END)
    }
}

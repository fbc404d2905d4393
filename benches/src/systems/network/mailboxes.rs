//! The kernel's sockets as a load finds them: a message goes now or not, and comes now or not.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{MsgFlags, MultiHeaders, sendmmsg};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};

use crate::fault::{During, Fault};
use crate::measure::load::{Mailbox, NAP, STAMP, Stamp};
use crate::task::{Task, Wait};

/// What a receiver of a byte stream takes from the kernel at once, at least.
const CHUNK: usize = 64 << 10;

fn written(result: rustix::io::Result<usize>) -> Result<usize, Fault> {
    match result {
        // A datagram that finds the device's queue full is refused, too.
        Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(0),
        result => result.during("offering a message"),
    }
}

fn read(result: rustix::io::Result<usize>) -> Result<Option<usize>, Fault> {
    match result {
        Ok(0) => Err(Fault::PeerGone),
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error).during("receiving a message"),
    }
}

/// A socket with its way of waiting.
struct Socket {
    fd: OwnedFd,
    sleeps: bool,
    shared: bool,
}

impl Socket {
    fn new(fd: OwnedFd, task: &Task) -> Result<Self, Fault> {
        ioctl_fionbio(&fd, true).during("choosing how to wait")?;
        Ok(Self { fd, sleeps: task.wait != Wait::Spin, shared: task.same_core })
    }

    fn wait(&self) -> Result<bool, Fault> {
        if !self.sleeps {
            if self.shared {
                rustix::thread::sched_yield();
            }
            return Ok(false);
        }
        let nap = Timespec::try_from(NAP).ok();
        match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], nap.as_ref()) {
            Ok(ready) => Ok(ready == 0),
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(error).during("sleeping for a message"),
        }
    }
}

/// Datagrams in one system call at most.
const BURST: usize = 32;

/// A connected UDP socket: who is behind with sending sends several in one system call.
pub struct Datagrams {
    socket: Socket,
    headers: MultiHeaders<()>,
    out: Vec<Vec<u8>>,
    /// How many of them wait.
    waiting: usize,
    refused: u64,
    back: Vec<u8>,
}

impl Datagrams {
    /// Puts a socket to use.
    pub fn new(fd: OwnedFd, task: &Task) -> Result<Self, Fault> {
        let (out, back) = (vec![vec![0; task.payload]; BURST], vec![0; task.payload]);
        let headers = MultiHeaders::preallocate(BURST, None);
        Ok(Self { socket: Socket::new(fd, task)?, headers, out, waiting: 0, refused: 0, back })
    }

    /// Sends what waits, as far as the kernel takes it now.
    #[inline]
    fn send_waiting(&mut self) -> Result<(), Fault> {
        let batch = &self.out[..std::mem::take(&mut self.waiting)];
        let sent = match batch {
            [] => return Ok(()),
            [one] => usize::from(written(rustix::io::write(&self.socket.fd, one))? > 0),
            many => {
                let slices: [[IoSlice<'_>; 1]; BURST] =
                    std::array::from_fn(|at| [IoSlice::new(many.get(at).map_or(&[], |m| m))]);
                let (fd, flags) = (self.socket.fd.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
                let slices = &slices[..many.len()];
                match sendmmsg(fd, &mut self.headers, slices, [None; BURST], [], flags) {
                    Ok(sent) => sent.count(),
                    Err(errno) => written(Err(Errno::from_raw_os_error(errno as i32)))?,
                }
            }
        };
        self.refused += (batch.len() - sent.min(batch.len())) as u64;
        Ok(())
    }
}

impl Mailbox for Datagrams {
    #[inline]
    fn try_send(&mut self, stamp: Stamp) -> Result<bool, Fault> {
        stamp.write(&mut self.out[self.waiting]);
        self.waiting += 1;
        if self.waiting == BURST {
            self.send_waiting()?;
        }
        Ok(true)
    }

    #[inline]
    fn push(&mut self) -> Result<u64, Fault> {
        self.send_waiting()?;
        Ok(std::mem::take(&mut self.refused))
    }

    #[inline]
    fn try_receive(&mut self) -> Result<Option<Stamp>, Fault> {
        let count = read(rustix::io::read(&self.socket.fd, &mut self.back[..]))?;
        // What has another size is none of ours.
        let whole = count.is_some_and(|count| count == self.back.len());
        Ok(if whole { Stamp::read(&self.back) } else { None })
    }

    fn wait(&mut self) -> Result<bool, Fault> {
        self.socket.wait()
    }
}

/// A TCP connection.
pub struct Stream {
    socket: Socket,
    out: Vec<u8>,
    /// How much of the last message is written.
    written: usize,
    buffer: Vec<u8>,
    taken: usize,
    filled: usize,
    payload: usize,
}

impl Stream {
    /// Puts a socket to use.
    pub fn new(fd: OwnedFd, task: &Task) -> Result<Self, Fault> {
        let payload = task.payload.max(STAMP);
        Ok(Self {
            socket: Socket::new(fd, task)?,
            out: vec![0; payload],
            written: payload,
            buffer: vec![0; CHUNK.max(2 * payload)],
            taken: 0,
            filled: 0,
            payload,
        })
    }
}

impl Mailbox for Stream {
    #[inline]
    fn try_send(&mut self, stamp: Stamp) -> Result<bool, Fault> {
        if !self.flush()? {
            return Ok(false);
        }
        stamp.write(&mut self.out);
        self.written = written(rustix::io::write(&self.socket.fd, &self.out))?;
        if self.written == 0 {
            // Nothing of it is under way: it is refused whole.
            self.written = self.payload;
            return Ok(false);
        }
        Ok(true)
    }

    fn flush(&mut self) -> Result<bool, Fault> {
        if self.written < self.payload {
            let rest = &self.out[self.written..];
            self.written += written(rustix::io::write(&self.socket.fd, rest))?;
        }
        Ok(self.written == self.payload)
    }

    #[inline]
    fn try_receive(&mut self) -> Result<Option<Stamp>, Fault> {
        if self.filled - self.taken < self.payload {
            self.buffer.copy_within(self.taken..self.filled, 0);
            (self.filled, self.taken) = (self.filled - self.taken, 0);
            let room = &mut self.buffer[self.filled..];
            self.filled += read(rustix::io::read(&self.socket.fd, room))?.unwrap_or(0);
        }
        if self.filled - self.taken < self.payload {
            return Ok(None);
        }
        let message = &self.buffer[self.taken..self.taken + self.payload];
        self.taken += self.payload;
        Ok(Stamp::read(message))
    }

    fn wait(&mut self) -> Result<bool, Fault> {
        self.socket.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Bench;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_message_that_the_stream_took_in_part_arrives_whole_and_once() {
        let task = Task {
            system: String::new(),
            bench: Bench::Sweep,
            payload: 1000,
            wait: Wait::Spin,
            same_core: false,
            idle_bindings: 0,
            domains: 2,
            position: 0,
            rendezvous: String::new(),
            port: 0,
            agent_cpu: 0,
            calls: crate::task::Calls::default(),
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut from = Stream::new(ours.into(), &task).unwrap();
        let mut to = Stream::new(theirs.into(), &task).unwrap();
        let (mut sent, mut received, mut refused) = (0, 0, 0);
        while received < 5000 {
            if sent < 5000 && from.try_send(Stamp { sequence: sent, due_ns: 7 }).unwrap() {
                sent += 1;
                continue;
            }
            refused += 1;
            from.flush().unwrap();
            while let Some(stamp) = to.try_receive().unwrap() {
                assert_eq!((stamp.sequence, stamp.due_ns), (received, 7));
                received += 1;
            }
        }
        assert!(refused > 0, "the queue was never full");
    }
}

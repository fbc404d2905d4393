//! One process's descriptors, read and written with patience.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};

use crate::fault::{During, Fault};
use crate::task::{Task, Wait};

/// Polls before an adaptive side sleeps.
const POLLS_BEFORE_SLEEP: u64 = 256;
/// Polls in vain, each a system call, between two looks at the clock.
const POLLS_BEFORE_CLOCK: u64 = 1 << 14;
/// How long a side waits for a datagram that may be lost.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How long who asked across a network waits for the answer before it asks again: longer than other work
/// takes a core away.
pub const RETRY: Duration = Duration::from_millis(100);

/// Carries messages as bytes, both ways.
pub trait Line {
    /// Whether messages are datagrams, which keep their bounds and may be lost.
    fn datagrams(&self) -> bool;
    /// Reads something: at least a byte, at most the buffer; a whole datagram where there are any.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault>;
    /// Writes a message.
    fn write(&mut self, message: &[u8]) -> Result<(), Fault>;
    /// Throws away the datagrams that have arrived.
    fn empty(&mut self) -> Result<(), Fault>;

    /// Fills the message.
    #[inline]
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        let mut filled = 0;
        while filled < buffer.len() {
            filled += self.read(&mut buffer[filled..])?;
            if self.datagrams() && filled < buffer.len() {
                return Err(Fault::Other(format!("a datagram of {filled} bytes arrived")));
            }
        }
        Ok(())
    }
}

/// The descriptors of one process, before they are put to use.
pub struct Ends {
    /// Where messages come from.
    pub incoming: OwnedFd,
    /// Where messages go.
    pub outgoing: OwnedFd,
}

impl Ends {
    /// Both directions over one socket.
    pub fn of_socket(socket: OwnedFd) -> Result<Self, Fault> {
        let incoming = socket.try_clone().during("duplicating a socket")?;
        Ok(Self { incoming, outgoing: socket })
    }
}

/// One process's descriptors, with its way of waiting.
pub struct End {
    ends: Ends,
    wait: Wait,
    same_core: bool,
    datagrams: bool,
    /// How long it waits for a datagram.
    patience: Duration,
}

impl End {
    /// Puts descriptors to use.
    pub fn new(ends: Ends, task: &Task, datagrams: bool) -> Result<Self, Fault> {
        for end in [&ends.incoming, &ends.outgoing] {
            ioctl_fionbio(end, task.wait != Wait::Park).during("choosing how to wait")?;
        }
        let (wait, same_core, patience) = (task.wait, task.same_core, PATIENCE);
        Ok(Self { ends, wait, same_core, datagrams, patience })
    }

    /// Waits so long for a datagram. Who blocks has set the socket's timeout.
    pub fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Reads something: at least a byte, at most the buffer; a whole datagram where there are any.
    #[inline]
    fn read_some(&self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let fd = &self.ends.incoming;
        let call = || rustix::io::read(fd, &mut *buffer);
        match self.patiently(fd, PollFlags::IN, call)? {
            0 => Err(Fault::PeerGone),
            count => Ok(count),
        }
    }

    /// Fills the message.
    #[inline]
    pub fn read_message(&self, buffer: &mut [u8]) -> Result<(), Fault> {
        let mut filled = 0;
        while filled < buffer.len() {
            filled += self.read_some(&mut buffer[filled..])?;
            if self.datagrams && filled < buffer.len() {
                return Err(Fault::Other(format!("a datagram of {filled} bytes arrived")));
            }
        }
        Ok(())
    }

    /// Writes it.
    #[inline]
    pub fn write_message(&self, message: &[u8]) -> Result<(), Fault> {
        self.write_by(message, |fd, rest| rustix::io::write(fd, rest))
    }

    /// Writes a message by calls of `write`, which says how much it took.
    #[inline]
    pub fn write_by(
        &self,
        mut message: &[u8],
        write: impl Fn(&OwnedFd, &[u8]) -> rustix::io::Result<usize>,
    ) -> Result<(), Fault> {
        let fd = &self.ends.outgoing;
        while !message.is_empty() {
            let call = || write(fd, message);
            message = &message[self.patiently(fd, PollFlags::OUT, call)?..];
        }
        Ok(())
    }

    /// Repeats a call until the kernel does not ask to try again.
    #[inline]
    fn patiently(
        &self,
        fd: &OwnedFd,
        event: PollFlags,
        mut call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Result<usize, Fault> {
        let mut polls = 0;
        let mut begun: Option<Instant> = None;
        loop {
            match call() {
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                result => return result.during("moving a message"),
            }
            polls += 1;
            match self.wait {
                Wait::Spin if polls % POLLS_BEFORE_CLOCK != 0 => std::hint::spin_loop(),
                Wait::Spin if begun.get_or_insert_with(Instant::now).elapsed() < self.patience => {}
                Wait::Adaptive if polls % POLLS_BEFORE_SLEEP == 0 => self.sleep(fd, event)?,
                Wait::Adaptive if self.same_core => rustix::thread::sched_yield(),
                Wait::Adaptive => std::hint::spin_loop(),
                // A blocking call that says so has waited for its whole timeout.
                Wait::Spin | Wait::Park => return Err(Fault::Silent),
            }
        }
    }

    #[cold]
    fn sleep(&self, fd: &OwnedFd, event: PollFlags) -> Result<(), Fault> {
        let patience = Timespec::try_from(self.patience).ok();
        let timeout = if self.datagrams { patience } else { None };
        match poll(&mut [PollFd::new(fd, event)], timeout.as_ref()) {
            Ok(0) => Err(Fault::Silent),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).during("sleeping for a message"),
        }
    }
}

impl Line for End {
    #[inline(always)]
    fn datagrams(&self) -> bool {
        self.datagrams
    }

    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        self.read_some(buffer)
    }

    #[inline]
    fn write(&mut self, message: &[u8]) -> Result<(), Fault> {
        self.write_message(message)
    }

    fn empty(&mut self) -> Result<(), Fault> {
        let incoming = &self.ends.incoming;
        ioctl_fionbio(incoming, true).during("emptying the socket")?;
        while rustix::io::read(incoming, &mut [0; 1][..]).is_ok() {}
        ioctl_fionbio(incoming, self.wait != Wait::Park).during("emptying the socket")
    }
}

//! Through pipes: write(2) or vmsplice(2), and read(2).

use std::io::IoSlice;

use nix::fcntl::{SpliceFFlags, vmsplice};

use super::Neighbour;
use crate::fault::Fault;
use crate::systems::kernel::End;
use crate::task::{Task, Wait};

/// Two pipes to a neighbour.
pub struct Pipe {
    end: End,
    /// Pages are lent to the pipe. They are not written until they were read: every message is
    /// answered before the next one is made.
    lends: bool,
    flags: SpliceFFlags,
}

impl Pipe {
    /// Over these ends.
    pub fn new(end: End, task: &Task, lends: bool) -> Self {
        let flags = match task.wait {
            Wait::Park => SpliceFFlags::empty(),
            Wait::Spin | Wait::Adaptive => SpliceFFlags::SPLICE_F_NONBLOCK,
        };
        Self { end, lends, flags }
    }
}

impl Neighbour for Pipe {
    #[inline]
    fn receive(&mut self, message: &mut [u8]) -> Result<(), Fault> {
        self.end.read_message(message)
    }

    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Fault> {
        if !self.lends {
            return self.end.write_message(message);
        }
        let flags = self.flags;
        self.end.write_by(message, |fd, rest| {
            vmsplice(fd, &[IoSlice::new(rest)], flags)
                .map_err(|errno| rustix::io::Errno::from_raw_os_error(errno as i32))
        })
    }
}

//! What a device is waited on by: a timer of the kernel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// Becomes readable when told to, now or in some time, and stays so until told not to be.
#[derive(Debug)]
pub(crate) struct Wake(OwnedFd);

impl Wake {
    pub fn new() -> Result<Self, Errno> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        timerfd_create(TimerfdClockId::Monotonic, flags).map(Self)
    }

    /// Readable in so much time.
    pub fn after(&self, time: Duration) {
        // Zero would turn it off.
        self.set(time.max(Duration::from_nanos(1)));
    }

    /// Not readable.
    pub fn off(&self) {
        self.set(Duration::ZERO);
    }

    fn set(&self, time: Duration) {
        let value = Timespec {
            tv_sec: time.as_secs().min(1 << 30) as i64,
            tv_nsec: time.subsec_nanos().into(),
        };
        let interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timer = Itimerspec { it_interval: interval, it_value: value };
        // It fails for times that are none, and this is one.
        _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &timer);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

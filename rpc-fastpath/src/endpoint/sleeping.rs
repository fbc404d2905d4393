//! One descriptor to wait on: an endpoint, a time, and a bell that other threads ring.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, read};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use unet::Endpoint;

/// The descriptor, and what is behind it beside an endpoint.
#[derive(Debug)]
pub(super) struct Sleep {
    epoll: OwnedFd,
    timer: OwnedFd,
}

/// Wakes who sleeps.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub fn new() -> Result<Self, Errno> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Self)
    }

    pub fn ring(&self) {
        // It fails only where it was rung 2⁶⁴ times and nobody woke.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub fn hush(&self) {
        // Nothing to read is as good.
        let _ = read(&self.0, &mut [0; 8]);
    }
}

impl Sleep {
    pub fn new(endpoint: &Endpoint, bell: Option<&Bell>) -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let watch =
            |fd: BorrowedFd<'_>| epoll::add(&epoll, fd, EventData::new_u64(0), EventFlags::IN);
        watch(endpoint.as_fd())?;
        watch(timer.as_fd())?;
        if let Some(Bell(bell)) = bell {
            watch(bell.as_fd())?;
        }
        Ok(Self { epoll, timer })
    }

    /// Makes the descriptor readable after some time, and not before for the time.
    pub fn set_timer(&self, after: Option<Duration>) {
        let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = after.map_or(nothing, |after| timespec(after.max(Duration::from_micros(1))));
        let once = Itimerspec { it_interval: nothing, it_value: value };
        // It fails for a time that is none only.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
        if after.is_none() {
            let _ = read(&self.timer, &mut [0; 8]);
        }
    }

    /// Sleeps until the descriptor is readable, or for so long.
    pub fn park(&self, most: Duration) {
        let mut fds = [PollFd::new(&self.epoll, PollFlags::IN)];
        // An interruption is a reason to look, too.
        let _ = poll(&mut fds, Some(&timespec(most)));
    }
}

impl AsFd for Sleep {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn timespec(time: Duration) -> Timespec {
    let secs = time.as_secs().min(i64::MAX as u64) as i64;
    Timespec { tv_sec: secs, tv_nsec: time.subsec_nanos().into() }
}

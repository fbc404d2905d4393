//! The rest of the device: what it is, what it counted, waiting for it, and what its link does.
//!
//! A port is polled: nothing tells that a packet came. Who waits is woken by a timer, after naps that double while
//! nothing comes, and looks.

use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use fbufs::Pool;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use unet::device::{Capabilities, Count, Device, DeviceError, Mode, Statistics};

use crate::device::{BURST, DpdkPort, ETHERNET, RECEIVE_HEADROOM};
use crate::interface::Interface;

/// How long who waits naps at first, and at most: a packet is late by so much.
pub(crate) const SHORTEST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(3);

/// Makes the timer.
pub(crate) fn timer() -> Result<OwnedFd, Errno> {
    timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)
}

/// Sets a timer; to zero, so that it does not ring.
pub(crate) fn set(timer: &OwnedFd, nap: Duration) -> Result<(), Errno> {
    let once = Timespec { tv_sec: nap.as_secs() as i64, tv_nsec: nap.subsec_nanos().into() };
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    let when = Itimerspec { it_interval: never, it_value: once };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &when).map(|_| ())
}

/// The nap of who waits now; the next one is longer, unless something waits for room.
pub(crate) fn nap(next: &mut Duration, cramped: bool) -> Duration {
    let nap = if cramped { SHORTEST_NAP } else { *next };
    *next = (2 * nap).min(LONGEST_NAP);
    nap
}

impl DpdkPort {
    fn set_timer(&self, nap: Duration) -> Result<(), DeviceError> {
        set(&self.timer, nap).map_err(DeviceError::Kernel)
    }

    /// Nobody waits any more.
    #[inline(always)]
    pub(crate) fn disarm(&mut self) {
        if mem::take(&mut self.armed) {
            // It can only be set.
            let _ = self.set_timer(Duration::ZERO);
        }
    }

    /// Asks the port for its link and its MTU, and so the kernel for the interface under it.
    pub(crate) fn look_at_link(&mut self) {
        if self.link == Err(DeviceError::Gone) {
            return;
        }
        let under = self.interface.as_ref().map(Interface::look).transpose();
        self.link = under.map(drop);
        if self.link.is_ok() && !self.port.is_up() {
            self.link = Err(DeviceError::Down);
        }
        if self.link.is_err() {
            self.drop_queue();
        }
        self.facts.mtu = self.port.mtu().unwrap_or(self.facts.mtu);
        if let Ok(Some(mtu)) = under {
            self.facts.mtu = self.facts.mtu.min(mtu);
        }
        let received = self.registered.memory().buffer_bytes - RECEIVE_HEADROOM;
        self.longest = (self.facts.mtu + ETHERNET).min(received);
    }
}

impl Device for DpdkPort {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mode: Mode::UserSpace,
            mtu: self.longest - ETHERNET,
            headroom: 0,
            piece_bytes: self.registered.memory().buffer_bytes - RECEIVE_HEADROOM,
            pieces: self.pieces(),
            burst: BURST,
            stock: self.stock,
        }
    }

    fn statistics(&mut self) -> Statistics {
        let (mut counts, port) = (self.counts, self.port.statistics());
        counts.add(Count::NoBuffer, port.rx_nombuf);
        counts.add(Count::QueueFull, port.imissed);
        counts.add(Count::Truncated, port.ierrors);
        // What was not taken is still here, and is handed over again.
        let errors = if self.manner.refusals_are_errors { 0 } else { port.oerrors };
        let failed = errors.min(counts[Count::Sent]);
        counts.add(Count::Failed, failed);
        counts.add(Count::Sent, 0u64.wrapping_sub(failed));
        counts
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        self.flush();
        self.reap();
        self.restock();
        if self.early.is_empty() {
            let mut mbufs = mem::take(&mut self.burst);
            let came = self.look(&mut mbufs);
            self.early.extend(&mbufs[..came]);
            self.burst = mbufs;
        }
        if !self.early.is_empty() {
            return Ok(false);
        }
        // Who arms again before it rings does not put it off.
        if !self.armed {
            let cramped = self.cramped || !self.queue.is_empty();
            let nap = nap(&mut self.nap, cramped);
            self.set_timer(nap)?;
            self.armed = true;
        }
        self.link.map(|()| true)
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        self.look_at_link();
        self.flush();
        self.link
    }
}

impl AsFd for DpdkPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

//! How a thread waits for its peer: spin, adapt, or park.
//!
//! A [`Waiter`] knows no queue. The owner of the queues asks it after each vain look what to do next,
//! and does it: look again, or park. A [`Pulse`] tells it when to ask the kernel for the peer's health.

use std::hint::spin_loop;
use std::thread::yield_now;
use std::time::{Duration, Instant};

use rustix::thread::sched_getcpu;

use crate::geometry::{CPU, OwnSegment, PeerSegment};
use crate::memory::View;
use crate::sync::{AtomicU64, Ordering};

/// How a thread waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Poll until it is there. Lowest latency; takes a whole core.
    Spin,
    /// Poll for about as long as a wake-up would take, yielding instead of polling where the peer
    /// shares the core; then park.
    #[default]
    Adaptive,
    /// Park at once.
    Park,
}

/// What to do after a vain look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look again.
    Again,
    /// Sleep in the kernel until something happens, or the deadline.
    Park,
    /// The deadline has passed.
    TimedOut,
}

/// How long [`Wait::Adaptive`] polls before it parks: the order of a wake-up on another core, so
/// that waiting never costs more than twice the best choice made in hindsight.
const POLL_FOR: Duration = Duration::from_micros(50);
/// How often a poller asks the kernel whether its peer lives. A death is noticed by then.
const LIVENESS_PERIOD: Duration = Duration::from_millis(2);
/// Looks between two looks at the clock: a power of two.
const LOOKS_PER_CLOCK: u32 = 128;

/// Tells a poller when to ask the kernel about its peers, at a cost that does not show.
#[derive(Debug)]
pub struct Pulse {
    looks: u32,
    last: Instant,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { looks: 0, last: Instant::now() }
    }
}

impl Pulse {
    /// Counts a look. `true` when the kernel should be asked: every two milliseconds of polling.
    ///
    /// # Cost
    /// An increment; a look at the clock each 128, which is no system call where the clock is in
    /// the vDSO.
    #[inline(always)]
    pub fn tick(&mut self) -> bool {
        self.looks = self.looks.wrapping_add(1);
        self.looks.is_multiple_of(LOOKS_PER_CLOCK) && self.consult_clock()
    }

    #[cold]
    fn consult_clock(&mut self) -> bool {
        let now = Instant::now();
        let due = now - self.last > LIVENESS_PERIOD;
        if due {
            self.last = now;
        }
        due
    }
}

/// One wait, from the first vain look to the next success.
#[derive(Debug)]
pub struct Waiter {
    wait: Wait,
    looks: u32,
    since: Option<Instant>,
    deadline: Option<Instant>,
    shares_core: bool,
}

impl Waiter {
    /// Begins a wait. `shares_core` if the peer last ran on the core of this thread.
    #[inline(always)]
    pub fn new(wait: Wait, shares_core: bool, deadline: Option<Instant>) -> Self {
        Self { wait, looks: 0, since: None, deadline, shares_core }
    }

    /// Waits a moment, and says what to do next.
    ///
    /// # Cost
    /// Polling: a `pause`; a look at the clock each 128. Yielding: one system call.
    #[inline(always)]
    pub fn step(&mut self) -> Step {
        let yields = match self.wait {
            Wait::Park => return self.park(),
            Wait::Adaptive if self.shares_core => {
                yield_now();
                true
            }
            Wait::Adaptive | Wait::Spin => {
                spin_loop();
                false
            }
        };
        self.looks = self.looks.wrapping_add(1);
        let clock_due =
            if yields { self.looks >= 4 } else { self.looks.is_multiple_of(LOOKS_PER_CLOCK) };
        if clock_due { self.consult_clock() } else { Step::Again }
    }

    #[cold]
    fn consult_clock(&mut self) -> Step {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Step::TimedOut;
        }
        let since = *self.since.get_or_insert(now);
        if self.wait == Wait::Adaptive && now - since > POLL_FOR { Step::Park } else { Step::Again }
    }

    #[cold]
    fn park(&self) -> Step {
        let over = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if over { Step::TimedOut } else { Step::Park }
    }

    /// How long a park may last; `None` without a deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// Where each side of a channel last waited: hints, from which a yield may be chosen over a spin.
pub struct Cores {
    own: View<AtomicU64>,
    peer: View<AtomicU64>,
    waits: u32,
    shared: bool,
}

impl Cores {
    /// Takes both sides' words.
    pub fn attach(own: &OwnSegment, peer: &PeerSegment) -> Self {
        Self { own: own.cells(CPU, 1), peer: peer.cells(CPU, 1), waits: 0, shared: false }
    }

    /// Whether the peer last waited on this thread's core. Looked up at the first waits and then
    /// every 64th; a lying peer can make this side yield in vain, or spin in vain, no more.
    #[inline(always)]
    pub fn shared(&mut self) -> bool {
        self.waits = self.waits.wrapping_add(1);
        if self.waits < 4 || self.waits.is_multiple_of(64) {
            self.look_up();
        }
        self.shared
    }

    #[cold]
    fn look_up(&mut self) {
        // Plus one, so that zero is "not said yet".
        let here = sched_getcpu() as u64 + 1;
        self.own[0].store(here, Ordering::Relaxed);
        self.shared = self.peer[0].load(Ordering::Relaxed) == here;
    }
}

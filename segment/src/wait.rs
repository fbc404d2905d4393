//! How a thread waits for its peer: spin, adapt, or park.
//!
//! A [`Waiter`] knows no queue. The owner of the queues asks it after each vain look what to do next,
//! and does it: look again, or park. A [`Pulse`] tells it when to ask the kernel for the peer's health.

use std::hint::spin_loop;
use std::thread::yield_now;
use std::time::{Duration, Instant};

use rustix::thread::sched_getcpu;

use crate::geometry::{CPU, OwnSegment, PeerSegment};
use crate::sync::{AtomicU64, Ordering};
use crate::view::View;

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
/// Looks at what is most likely to come, between two looks at everything: see [`Waiter::step`].
pub const LOOKS: u32 = 32;

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
///
/// The clock is first read after some vain looks, and the time runs from there: a wait that ends
/// before costs no look at it.
#[derive(Debug)]
pub struct Waiter {
    wait: Wait,
    looks: u32,
    since: Option<Instant>,
    timeout: Option<Duration>,
    shares_core: bool,
}

impl Waiter {
    /// Begins a wait of at most `timeout`. `shares_core` if the peer last ran on the core of this
    /// thread.
    #[inline(always)]
    pub fn new(wait: Wait, shares_core: bool, timeout: Option<Duration>) -> Self {
        Self { wait, looks: 0, since: None, timeout, shares_core }
    }

    /// Waits a moment, and says what to do next. While it polls it asks `ready`, up to `looks` times,
    /// before it lets the caller look at everything else; not at all, and without a pause, where that is 0:
    /// for who looks at a device, which takes longer than the pause would.
    ///
    /// # Cost
    /// Polling: a `pause` for each look; a look at the clock now and then. Yielding: one system call.
    #[inline(always)]
    pub fn step(&mut self, looks: u32, ready: impl Fn() -> bool) -> Step {
        let yields = match self.wait {
            Wait::Park => return self.park(),
            Wait::Adaptive if self.shares_core => {
                yield_now();
                true
            }
            Wait::Adaptive | Wait::Spin => {
                for _ in 0..looks {
                    spin_loop();
                    if ready() {
                        return Step::Again;
                    }
                }
                false
            }
        };
        self.looks = self.looks.wrapping_add(looks.max(1));
        if yields || self.looks >= LOOKS_PER_CLOCK { self.consult_clock() } else { Step::Again }
    }

    #[cold]
    fn consult_clock(&mut self) -> Step {
        self.looks = 0;
        let waited = self.waited();
        if self.timeout.is_some_and(|timeout| waited >= timeout) {
            return Step::TimedOut;
        }
        if self.wait == Wait::Adaptive && waited > POLL_FOR { Step::Park } else { Step::Again }
    }

    #[cold]
    fn park(&mut self) -> Step {
        let waited = self.waited();
        if self.timeout.is_some_and(|timeout| waited >= timeout) {
            Step::TimedOut
        } else {
            Step::Park
        }
    }

    fn waited(&mut self) -> Duration {
        let now = Instant::now();
        now - *self.since.get_or_insert(now)
    }

    /// How long a park may last; `None` without a limit.
    pub fn remaining(&self) -> Option<Duration> {
        let waited = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        self.timeout.map(|timeout| timeout.saturating_sub(waited))
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

    /// Says on which core this side is, and sees on which the peer was. For one that looks for messages
    /// without ever waiting, now and then.
    #[cold]
    pub fn look_up(&mut self) {
        // Plus one, so that zero is "not said yet".
        let here = sched_getcpu() as u64 + 1;
        self.own[0].store(here, Ordering::Relaxed);
        self.shared = self.peer[0].load(Ordering::Relaxed) == here;
    }
}

//! Keeps DPDK's interrupt thread away from ports that are not safe beside it.
//!
//! When the other end of a memory interface (`net_memif`) goes, DPDK's interrupt thread unmaps what they shared: while
//! the port's own thread reads it in a burst, and while a closing port unmaps it as well, by when something else may
//! lie there. So as long as such a port is open, that thread stands still, where an event of ours has brought it, and
//! does what it has to in *windows*. A burst that falls into one moves nothing; no such port is found or closed meanwhile.
//!
//! ```text
//! interrupt thread   ─ stands ─┐ OPEN, membarrier, no port is busy ┌ its handlers ┐ our event: not OPEN ┌─ stands ─
//! port's thread      busy, not OPEN: a burst, idle       busy, OPEN: nothing, idle       busy, not OPEN: …
//! ```
//!
//! The event is always there, so that thread comes back to it once in each round of its `epoll_wait`, after it has
//! handled whatever else that brought. A burst costs two plain stores and a load more. A window takes some microseconds:
//! ten a second, and a thousand as long as some such port has no link, for the two ends to find each other.
//!
//! # Invariants
//!
//! 1. While `OPEN` is false, the interrupt thread stands in [`stand`], or there is no such port. It makes it false when
//!    it comes there, and true before it leaves, after which it waits for the end of every burst that has not seen it.
//! 2. It does not leave while there is a [`Hold`].
//! 3. What it found ready before it stood, it handles in the next window, by the numbers of descriptors. So none that
//!    was closed meanwhile is used for another port before that window is over ([`Hold::settle`]): it would wait there
//!    for a message that does not come.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dpdk_sys as sys;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};
use rustix::thread::{MembarrierCommand, membarrier};

use crate::eal::check;
use crate::error::Error;
use crate::port::step;

/// Between two windows, while every port has its link, and while one has not.
const CALM: Duration = Duration::from_millis(100);
const EAGER: Duration = Duration::from_millis(1);
/// What is to be sent waits at most so long for the end of a window.
const PATIENCE: Duration = Duration::from_micros(200);
/// Somebody who connects and does not read may keep that thread for ever: this is how long it is waited for.
const LIMIT: Duration = Duration::from_secs(5);

/// Whether bursts are to move nothing.
static OPEN: AtomicBool = AtomicBool::new(true);
static INSIDE: Mutex<Inside> = Mutex::new(Inside {
    ports: Vec::new(),
    event: None,
    called: false,
    stands: false,
    holds: 0,
    waiting: 0,
    windows: 0,
});
static CHANGED: Condvar = Condvar::new();

struct Inside {
    ports: Vec<Arc<State>>,
    /// What brings the interrupt thread to [`stand`], once it was made, while it is readable.
    event: Option<OwnedFd>,
    /// Whether it is.
    called: bool,
    stands: bool,
    holds: usize,
    /// How many wait for a window, and how many windows are over.
    waiting: usize,
    windows: u64,
}

#[derive(Default)]
struct State {
    /// Whether a burst is under way.
    busy: AtomicBool,
    has_link: AtomicBool,
}

/// A port's part of it.
pub(crate) struct Guard {
    state: Arc<State>,
    /// Whether each burst needs a fence of its own.
    fenced: bool,
}

impl Guard {
    /// From here on, the port's bursts go through [`Guard::burst`].
    pub fn new() -> Result<Self, Error> {
        static WORKS: OnceLock<bool> = OnceLock::new();
        let works =
            *WORKS.get_or_init(|| membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok());
        let state = Arc::new(State::default());
        let mut inside = lock();
        inside.call().map_err(|errno| step("watch DPDK's interrupts", errno))?;
        inside.ports.push(Arc::clone(&state));
        CHANGED.notify_all();
        Ok(Self { state, fenced: !works })
    }

    /// Runs a burst, unless the interrupt thread is at work.
    #[inline(always)]
    pub fn burst<T>(&self, burst: impl FnOnce() -> T) -> Option<T> {
        self.state.busy.store(true, Ordering::Relaxed);
        // Invariant 1: the one who opens sees this burst, or this one sees that it is open.
        if self.fenced {
            fence(Ordering::SeqCst);
        } else {
            compiler_fence(Ordering::SeqCst);
        }
        let done = (!OPEN.load(Ordering::Acquire)).then(burst);
        self.state.busy.store(false, Ordering::Release);
        done
    }

    /// As [`Guard::burst`], and waits for the end of a window, but not for long: who sends and then does something else
    /// would leave what it sent behind.
    #[inline(always)]
    pub fn burst_soon<T>(&self, mut burst: impl FnMut() -> T) -> Option<T> {
        match self.burst(&mut burst) {
            None => self.wait_for_burst(burst),
            done => done,
        }
    }

    #[cold]
    fn wait_for_burst<T>(&self, mut burst: impl FnMut() -> T) -> Option<T> {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            // The interrupt thread may want this core.
            thread::yield_now();
            if let Some(done) = self.burst(&mut burst) {
                return Some(done);
            }
        }
        None
    }

    /// Says whether the port has its link.
    pub fn set_link(&self, has_link: bool) {
        if self.state.has_link.swap(has_link, Ordering::Relaxed) && !has_link {
            drop(lock());
            CHANGED.notify_all();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        lock().ports.retain(|state| !Arc::ptr_eq(state, &self.state));
        CHANGED.notify_all();
    }
}

impl Inside {
    /// Has the interrupt thread come and stand.
    fn call(&mut self) -> Result<(), Errno> {
        if self.event.is_none() {
            self.event = Some(register()?);
        }
        if let (Some(event), false) = (&self.event, self.called) {
            write(event, &1u64.to_ne_bytes())?;
            self.called = true;
        }
        Ok(())
    }

    /// Lets it go and do what else it has to.
    fn dismiss(&mut self) {
        if let Some(event) = &self.event {
            // It is readable, or it would not have been called.
            let _ = read(event, &mut [0; 8]);
        }
        self.called = false;
    }
}

/// Makes the event, for as long as the process is there.
fn register() -> Result<OwnedFd, Errno> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    // SAFETY: DPDK has begun. The descriptor is never closed, but where nothing was registered; `stand` takes no argument.
    check(unsafe { sys::unet_watch(event.as_raw_fd(), Some(stand)) })?;
    Ok(event)
}

/// As long as this is there, the interrupt thread stands, if there is any port that asks for it.
pub(crate) struct Hold(());

impl Hold {
    /// Waits until it stands. `None` if it does not: it waits for somebody else.
    pub fn take() -> Option<Self> {
        let mut inside = lock();
        inside.holds += 1;
        let hold = Self(());
        inside = wait(inside, |inside| inside.called && !inside.stands);
        let stands = !inside.called || inside.stands;
        drop(inside);
        stands.then_some(hold)
    }

    /// Ends it, and waits until a window is over (invariant 3).
    pub fn settle(self) {
        drop(self);
        let mut inside = lock();
        let before = inside.windows;
        inside.waiting += 1;
        CHANGED.notify_all();
        inside = wait(inside, |inside| inside.called && inside.windows == before);
        inside.waiting -= 1;
    }
}

/// Waits as long as this is so, and not for ever.
fn wait<'a>(
    inside: MutexGuard<'a, Inside>,
    mut so: impl FnMut(&Inside) -> bool,
) -> MutexGuard<'a, Inside> {
    let waited = CHANGED.wait_timeout_while(inside, LIMIT, |inside| so(inside));
    waited.unwrap_or_else(PoisonError::into_inner).0
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock().holds -= 1;
        CHANGED.notify_all();
    }
}

fn lock() -> MutexGuard<'static, Inside> {
    INSIDE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the interrupt thread stands, until there is a window.
unsafe extern "C" fn stand(_: *mut c_void) {
    let since = Instant::now();
    let mut inside = lock();
    if !inside.called {
        return;
    }
    OPEN.store(false, Ordering::Release);
    inside.stands = true;
    inside.windows += 1;
    CHANGED.notify_all();
    loop {
        let without_link = |state: &Arc<State>| !state.has_link.load(Ordering::Relaxed);
        let pause = match inside.ports.iter().any(without_link) {
            true => EAGER,
            false => CALM,
        };
        let left = pause.saturating_sub(since.elapsed());
        let is_over = left.is_zero() || inside.waiting > 0 || inside.ports.is_empty();
        if inside.holds == 0 && is_over {
            break;
        }
        let left = if is_over { CALM } else { left };
        let waited = CHANGED.wait_timeout(inside, left).unwrap_or_else(PoisonError::into_inner);
        inside = waited.0;
    }
    OPEN.store(true, Ordering::SeqCst);
    // Where it is not there, each burst has a fence.
    let _ = membarrier(MembarrierCommand::PrivateExpedited);
    fence(Ordering::SeqCst);
    for state in &inside.ports {
        while state.busy.load(Ordering::Acquire) {
            thread::yield_now();
        }
    }
    if inside.ports.is_empty() {
        inside.dismiss();
    }
    inside.stands = false;
    // Who waits for it to stand, while there is no port any more.
    CHANGED.notify_all();
}

//! The lock of a link.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use segment::wait::{Step, Waiter};

use super::Link;

/// How many looks at a device are made at most before the lock is let go of: few, for who looks counts them as
/// one when it decides whether to look after the link.
const LOOKS: u32 = 8;

/// A link, shared by its channels and its endpoint.
pub(crate) type Shared = Arc<Lock>;

/// A lock that says whether others wait for it: who spins under it lets them in.
pub(crate) struct Lock {
    link: Mutex<Link>,
    waiting: AtomicU32,
}

/// Makes a link to be shared.
pub(super) fn to_share(link: Link) -> Shared {
    Arc::new(Lock { link: Mutex::new(link), waiting: AtomicU32::new(0) })
}

/// Takes the lock. What a thread that panicked left is whole: nothing is changed in two steps.
#[inline(always)]
pub(crate) fn lock(link: &Lock) -> MutexGuard<'_, Link> {
    match link.link.try_lock() {
        Ok(link) => link,
        Err(TryLockError::Poisoned(error)) => error.into_inner(),
        Err(TryLockError::WouldBlock) => link.wait(),
    }
}

impl Lock {
    #[cold]
    fn wait(&self) -> MutexGuard<'_, Link> {
        // A hint: the lock itself orders what is under it.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        link
    }

    fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// A wait under the lock: several looks at the device, and what the waiter says after each.
pub(crate) struct Spin<'a> {
    waiter: &'a mut Waiter,
    step: Step,
    looks: u32,
}

impl<'a> Spin<'a> {
    pub fn new(waiter: &'a mut Waiter) -> Self {
        Self { waiter, step: Step::Again, looks: 0 }
    }

    /// After a vain look: whether to look again without letting go of the lock.
    #[inline(always)]
    pub fn again(&mut self, lock: &Lock) -> bool {
        self.looks += 1;
        self.step = self.waiter.step(0, || false);
        self.step == Step::Again && self.looks < LOOKS && !lock.is_wanted()
    }

    /// What to do next, once the lock is let go of.
    #[inline]
    pub fn end(self, lock: Option<&Shared>) -> Step {
        if lock.is_some_and(|lock| lock.is_wanted()) {
            // Who is woken for the lock takes longer than this thread would to take it again.
            std::thread::yield_now();
        }
        // Something came, but for nobody who waits here; or the device failed.
        if self.looks == 0 { self.waiter.step(0, || false) } else { self.step }
    }
}

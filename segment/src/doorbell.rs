//! Sleeping and waking: the sender's path has no fence and, while the receiver is awake, no system
//! call.
//!
//! A side that is about to sleep writes a fresh number into its `armed` word, makes sure that the
//! peer either sees it or has already published what it would ring for, looks at its queues once
//! more, and sleeps. A side that has published reads the other's `armed` word; if it holds a number
//! for which it has not rung, it rings, once.
//!
//! ```text
//!   sender                                sleeper
//!   1 publish slot                        1 armed := n
//!     (compiler fence)                    2 membarrier: every running peer executes a full fence
//!   2 read armed; ring if new             3 look at the slot; if empty, sleep on the socket
//! ```
//!
//! The race is the sender's 2 passing its own 1: it reads the old `armed`, the sleeper reads the old
//! slot, and nobody wakes. membarrier(2) forbids it at the sleeper's cost. Where it is missing on
//! either side the sender executes the fence instead ([`Bell::attach`]).
//!
//! The bell itself is a datagram on the control socket, not an eventfd: an eventfd's `O_NONBLOCK` is
//! a property of the open file, which the sleeper shares and can clear, and then fill the counter,
//! so that a hostile sleeper would block its waker for ever in `write`. A datagram is sent with
//! `MSG_DONTWAIT`, which nobody can take away. See docs/src/memory-and-trust.md.

use rustix::thread::{MembarrierCommand, membarrier, membarrier_query};

use crate::control::{Frame, Kind, Sent, Socket};
use crate::failpoint;
use crate::geometry::{ARMED, OwnSegment, PeerSegment};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::view::View;

/// In [`ARMED`]: this side is gone, do not send any more.
const CLOSED: u64 = u64::MAX;

/// Registers this process as one that membarrier may interrupt, and says whether both halves of the
/// protocol work here. Idempotent.
///
/// # Cost
/// Two system calls; done once a channel.
pub fn membarrier_works() -> bool {
    let commands = membarrier_query();
    commands.contains_command(MembarrierCommand::GlobalExpedited)
        && membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok()
}

/// The sleeper's end: this side's `armed` word.
pub struct Sleeper {
    armed: View<AtomicU64>,
    epoch: u64,
    rings: Rings,
    membarrier: bool,
}

/// The bells that were heard: one for each sleep at most.
#[derive(Debug, Default)]
struct Rings {
    newest: u64,
    count: u64,
    /// Bit n: the sleep n before the newest was rung for.
    seen: u64,
}

impl Rings {
    /// Notes a bell for a sleep up to `latest`; `false` if none was due.
    ///
    /// Two threads of an honest peer may find two sleeps and ring for them in either order, with
    /// any delay. So a bell may be late, but there is one a sleep, and never more than sleeps.
    fn note(&mut self, epoch: u64, latest: u64) -> bool {
        if epoch == 0 || epoch > latest || self.count == latest {
            return false;
        }
        if epoch > self.newest {
            self.seen = u32::try_from(epoch - self.newest)
                .ok()
                .and_then(|by| self.seen.checked_shl(by))
                .unwrap_or(0)
                | 1;
            self.newest = epoch;
        } else if let Some(bit) =
            u32::try_from(self.newest - epoch).ok().and_then(|age| 1u64.checked_shl(age))
        {
            if self.seen & bit != 0 {
                return false;
            }
            self.seen |= bit;
        }
        self.count += 1;
        true
    }
}

/// What the sender finds when it looks whether to ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// The peer is awake, or has been rung already.
    Awake,
    /// The peer slept, and was rung.
    Rung,
    /// The peer has closed the channel.
    Closed,
}

impl Sleeper {
    /// Takes this side's word; `membarrier` as [`membarrier_works`] said.
    pub fn attach(own: &OwnSegment, membarrier: bool) -> Self {
        Self::new(own.cells(ARMED, 1), membarrier)
    }

    pub(crate) fn new(armed: View<AtomicU64>, membarrier: bool) -> Self {
        Self { armed, epoch: 0, rings: Rings::default(), membarrier }
    }

    /// Announces sleep. The caller must then call [`Sleeper::settle`], look at its queues once
    /// more, and sleep only if they are empty.
    #[inline]
    pub fn arm(&mut self) {
        self.epoch += 1;
        // PAIRS: doorbell.armed with `Bell::look`, ordered by `settle`.
        self.armed[0].store(self.epoch, Ordering::Relaxed);
    }

    /// Makes sure that every sender either sees what was armed before, or has published what this
    /// thread will see. One call serves any number of armed words.
    ///
    /// # Cost
    /// One system call, which interrupts the cores on which registered processes run.
    #[inline]
    pub fn settle(&self) {
        fence(Ordering::SeqCst);
        if self.membarrier {
            // It cannot fail once the registration has succeeded.
            let _ = membarrier(MembarrierCommand::GlobalExpedited);
        }
    }

    /// Announces that this side is awake.
    #[inline]
    pub fn disarm(&mut self) {
        self.armed[0].store(0, Ordering::Relaxed);
    }

    /// Whether a doorbell with this epoch was due: armed, and not rung before.
    pub fn accept_ring(&mut self, epoch: u64) -> bool {
        self.rings.note(epoch, self.epoch)
    }

    /// Whether a doorbell is for the last sleep that was announced: no later one can be under way.
    pub fn is_latest(&self, epoch: u64) -> bool {
        epoch == self.epoch
    }

    /// Announces that this side is gone, for good. The peer finds out when it next sends.
    pub fn close(&mut self) {
        // PAIRS: doorbell.closed with `Bell::peer_has_closed`.
        self.armed[0].store(CLOSED, Ordering::Release);
    }
}

/// The sender's end: the peer's `armed` word, and the socket to ring it by.
///
/// Shared by all that publish something on the channel: the send queue and the free queue.
pub struct Bell {
    armed: View<AtomicU64>,
    rung: AtomicU64,
    fence: bool,
}

impl Bell {
    /// Takes the sender's end. `fence` unless the peer uses membarrier and this process is
    /// registered for it.
    pub fn attach(peer: &PeerSegment, fence: bool) -> Self {
        Self::new(peer.cells(ARMED, 1), fence)
    }

    pub(crate) fn new(armed: View<AtomicU64>, fence: bool) -> Self {
        Self { armed, rung: AtomicU64::new(0), fence }
    }

    /// To be called after publishing: rings the peer if it sleeps and was not rung since.
    ///
    /// # Cost
    /// One load of a line that changes only when the peer falls asleep; a fence only where
    /// membarrier is missing. One system call if the peer sleeps.
    #[inline(always)]
    pub fn notify(&self, socket: &Socket) -> Listening {
        let armed = self.look();
        if armed == 0 || armed == self.rung.load(Ordering::Relaxed) {
            Listening::Awake
        } else {
            self.ring(armed, socket)
        }
    }

    #[inline(always)]
    pub(crate) fn look(&self) -> u64 {
        if self.fence {
            fence(Ordering::SeqCst);
        } else {
            // The processor's half is the sleeper's membarrier; this keeps the compiler from moving
            // the load above the publication.
            std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
        }
        // PAIRS: doorbell.armed with `Sleeper::arm`.
        self.armed[0].load(Ordering::Relaxed)
    }

    #[cold]
    fn ring(&self, armed: u64, socket: &Socket) -> Listening {
        if armed == CLOSED {
            return Listening::Closed;
        }
        // Two threads may both find it asleep, or one find an older sleep late; each sleep is rung
        // for once, and none that is over.
        if self.rung.fetch_max(armed, Ordering::Relaxed) >= armed {
            return Listening::Awake;
        }
        // A full socket means that the sleeper has bells to hear already.
        match socket.send(&Frame::bare(Kind::Doorbell, armed), &[]) {
            Sent::Yes | Sent::Full => {
                failpoint::hit("send.3-doorbell-rung");
                Listening::Rung
            }
            Sent::NoMemory => {
                // Not rung: whoever publishes next tries again, unless somebody rang for a later
                // sleep meanwhile.
                let before = armed - 1;
                let _ =
                    self.rung.compare_exchange(armed, before, Ordering::Relaxed, Ordering::Relaxed);
                Listening::Awake
            }
            Sent::Gone => Listening::Closed,
        }
    }

    /// Whether the peer announced that it closed the channel.
    pub fn peer_has_closed(&self) -> bool {
        // PAIRS: doorbell.closed with `Sleeper::close`.
        self.armed[0].load(Ordering::Acquire) == CLOSED
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn asleep(times: u64) -> Sleeper {
        let word = Arc::new(vec![AtomicU64::new(0)]);
        let mut sleeper = Sleeper::new(View::heap(&word), false);
        (0..times).for_each(|_| sleeper.arm());
        sleeper
    }

    #[test]
    fn a_bell_is_due_once_for_each_sleep_in_any_order() {
        let mut sleeper = asleep(3);
        assert!([2, 1, 3].iter().all(|epoch| sleeper.accept_ring(*epoch)));
        assert!(![1, 2, 3].iter().any(|epoch| sleeper.accept_ring(*epoch)));
    }

    #[test]
    fn a_bell_for_a_sleep_that_never_was_is_not_due() {
        let mut sleeper = asleep(3);
        assert!(![0, 4, 1 << 40, u64::MAX].iter().any(|epoch| sleeper.accept_ring(*epoch)));
    }

    #[test]
    fn a_very_late_bell_is_due_but_there_are_never_more_than_sleeps() {
        let mut sleeper = asleep(1000);
        assert!(sleeper.accept_ring(1000) && sleeper.accept_ring(1));
        let more = (0..5000).filter(|_| sleeper.accept_ring(1)).count();
        assert_eq!(more, 998);
    }

    #[test]
    fn a_thread_that_finds_an_older_sleep_late_does_not_ring_for_it() {
        let word = Arc::new(vec![AtomicU64::new(0)]);
        let bell = Bell::new(View::heap(&word), true);
        bell.rung.store(6, Ordering::Relaxed);
        let name = format!("bell-{}", std::process::id());
        let listener = crate::control::Listener::bind(&name).expect("the name is free");
        let socket = Socket::connect(&name).expect("it listens");
        assert_eq!(bell.ring(5, &socket), Listening::Awake);
        assert_eq!(bell.ring(7, &socket), Listening::Rung);
        assert_eq!(bell.ring(7, &socket), Listening::Awake);
        drop(listener);
    }
}

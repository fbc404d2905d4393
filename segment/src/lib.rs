//! Shared memory between processes that distrust each other, and what is needed to talk through it.
//!
//! This is the bottom of the house and its only room with `unsafe`. It knows nothing of endpoints
//! or calls; it offers pieces that stay sound whatever the other process does:
//!
//! | module | what it is |
//! |---|---|
//! | [`memory`] | sealed memfds: created, verified, mapped; every page has one writer |
//! | [`geometry`] | the layout of a segment, its header, and the checks of a foreign one |
//! | [`ring`] | the single-producer single-consumer ring of 64-byte slots |
//! | [`free_queue`] | the ring on which a receiver gives buffers back |
//! | [`blocks`] | tokens for the buffers of a region, unique and shared |
//! | [`epochs`] | how often each buffer was revoked, for all who hold it to see |
//! | [`guard`] | buffers whose writer has given up its write access |
//! | [`doorbell`] | sleeping and waking without a fence on the sender's path |
//! | [`wait`] | spin, adapt or park |
//! | [`control`] | the `SOCK_SEQPACKET` socket: rendezvous by name, descriptors, doorbells, hang-up |
//! | [`frame`] | the messages on that socket |
//! | [`peer`] | who is on the other side, and whether it lives |
//! | [`counters`] | the read-only page of refusals and drops |
//! | [`crc32c`] | the checksum by the CPU's instruction |
//! | [`failpoint`] | numbered steps at which tests kill a process |
//!
//! # What a hostile peer can do
//!
//! It can write any value into its own pages at any time. So nothing here holds a reference to
//! plain data in them: control words and slots are atomics, buffer bytes are reached by copies
//! ([`memory::PeerBytes`]). Sizes and positions are private copies taken when a segment is attached.
//! A value that fails a check is a [`Fault`]; what a fault means is decided by the layer above.

pub mod blocks;
#[cfg(all(test, not(loom)))]
mod book;
pub mod control;
pub mod counters;
pub mod crc32c;
pub mod doorbell;
pub mod epochs;
pub mod failpoint;
pub mod fault;
pub mod frame;
pub mod free_queue;
pub mod geometry;
pub mod guard;
#[cfg(all(test, not(loom)))]
mod layout_table;
pub mod memory;
#[cfg(loom)]
pub mod model;
mod pair;
pub mod peer;
mod peer_bytes;
#[cfg(all(test, not(loom)))]
mod properties;
pub mod ring;
#[cfg(feature = "hostile")]
#[doc(hidden)]
pub mod scribble;
mod sync;
mod view;
pub mod wait;

pub use fault::Fault;

use rustix::rand::{GetRandomFlags, getrandom};

/// A number that no earlier or later attachment has: it tells a restarted peer from its predecessor.
///
/// Drawn from the kernel's generator, so that it can neither be predicted nor repeat in practice.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// Draws a new one. `None` when the kernel has no random numbers, which after boot it has.
    ///
    /// # Cost
    /// One system call.
    pub fn draw() -> Option<Self> {
        let mut bytes = [0u8; 8];
        let got = getrandom(&mut bytes, GetRandomFlags::empty()).ok()?;
        (got == bytes.len()).then(|| Self(u64::from_ne_bytes(bytes)))
    }
}

impl std::fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

//! Message buffers that are handed to another process by descriptor, without a copy.
//!
//! ```text
//!   Pool::alloc ─► FbufMut ─freeze─► Fbuf ─send─► lent ···descriptor···► PeerFbuf ─drop─┐
//!       ▲          writable          readable     no handle here          to copy from  │
//!       └──────────────────────────── free queue ◄──────────────────────────────────────┘
//! ```
//!
//! The owner's handles are move-only: sending consumes the last one, so after a hand-off nobody here
//! can write the buffer until the receiver gives it back. The receiver's memory mapping is read-only.
//! Who holds what is known to the owner from private tables alone: a lying or dead receiver cannot
//! change them, and its buffers come back by walking them, never its memory.
//!
//! After Druschel and Peterson, *Fbufs: A High-Bandwidth Cross-Domain Transfer Facility* (SOSP 1993).
//! Ropes, paths of several domains and secured buffers are not here yet.

mod descriptor;
mod peer_pool;
mod pool;

pub use descriptor::Descriptor;
pub use peer_pool::{PeerFbuf, PeerPool};
pub use pool::{AllocError, Fbuf, FbufMut, LendError, Pool};

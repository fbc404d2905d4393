//! Message buffers that are handed to other protection domains by descriptor, without a copy.
//!
//! ```text
//!   Pool::alloc ─► FbufMut ─freeze─► Fbuf ─┐                                ┌─► read by copies
//!       ▲          writable          clones├─► Message ··descriptors··► Message of PeerFbufs
//!       │                            slices┘    push, pop, split,            │ ├─► passed on
//!       │                                       append: no copy              │ └─► secured: an Fbuf
//!       └──────────────────────── free queue ◄──────────────────── drop ◄────┘
//! ```
//!
//! A [`Pool`] is the memory of one domain: it alone writes it, by the kernel's word. A [`Path`] is the
//! order in which messages visit domains; every region is mapped in every later one before the first
//! message. A channel's [`Leases`] say what the receiver holds, its [`Holdings`] what was received.
//! Sending consumes the handle; who holds what is known from private tables alone, so that a lying or
//! dead receiver cannot change it, and its buffers come back by walking them, never its memory.
//!
//! After Druschel and Peterson, *Fbufs: A High-Bandwidth Cross-Domain Transfer Facility* (SOSP 1993).

mod buffer;
mod descriptor;
mod holdings;
mod leases;
mod message;
mod path;
mod pool;

pub use buffer::{Fbuf, FbufMut};
pub use descriptor::Descriptor;
pub use holdings::{Holdings, PeerFbuf, ReadError, SecureError};
pub use leases::{Leases, LendError, MAX_LEASES, Quota};
pub use message::{MAX_HEADER, MAX_PARTS, Message, NoHeadroom, Part};
pub use path::{MAX_REGIONS, Path, PathError};
pub use pool::{AllocError, Pool, PoolOptions};
pub use segment::geometry::{Class, DEFAULT_CLASSES, MAX_CLASSES};

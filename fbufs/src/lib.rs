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
//! ```
//! use fbufs::{Message, Pool, PoolOptions};
//!
//! let mut pool = Pool::new(PoolOptions::default())?;
//! let mut body = pool.alloc_with_headroom(16, 5)?;
//! body.copy_from_slice(b"world");
//! let mut message = Message::from(body.freeze());
//! message.push(b"hello ")?;
//! let mut greeting = [0; 6];
//! message.clone().pop(&mut greeting)?;
//! assert_eq!((&greeting, message.len(), pool.copied()), (b"hello ", 11, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A *domain* is a process that need not be trusted. A [`Pool`] is the memory of one domain: it alone
//! writes it, by the kernel's word. A [`Path`] is the
//! order in which messages visit domains; every region is mapped in every later one before the first
//! message. A channel's [`Leases`] say what the receiver holds, its [`Holdings`] what was received.
//! Sending consumes the handle; who holds what is known from private tables alone, so that a lying or
//! dead receiver cannot change it, and its buffers come back by walking them, never its memory.
//!
//! What another domain wrote is *volatile*: it can still be written. So a [`PeerFbuf`] is read by
//! copies, and only the receiver's own copy ([`Message::secure`]) holds against an originator that
//! means to deceive. The book's chapter on buffers has a table of what each way promises, against
//! whom, and what it costs.
//!
//! After Druschel and Peterson, *Fbufs: A High-Bandwidth Cross-Domain Transfer Facility* (SOSP 1993).

mod buffer;
mod descriptor;
mod holdings;
mod leases;
mod message;
mod path;
mod pool;
mod registered;

pub use buffer::{Fbuf, FbufMut};
pub use descriptor::Descriptor;
pub use holdings::{Holdings, PeerFbuf, ReadError, SecureError};
pub use leases::{Leases, LendError, MAX_LEASES, Quota};
pub use message::{MAX_HEADER, MAX_PARTS, Message, NoHeadroom, Part};
pub use path::{MAX_REGIONS, Path, PathError};
pub use pool::{AllocError, Pool, PoolOptions};
pub use registered::RegisteredMemory;
pub use segment::geometry::{Class, DEFAULT_CLASSES, MAX_CLASSES};
pub use segment::memory::CreateError;

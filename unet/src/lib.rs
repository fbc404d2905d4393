//! U-Net endpoints and channels between processes that need not trust each other.
//!
//! A [`Channel`] joins two processes by two segments of shared memory: each side writes one and maps
//! the other's read-only. In each stand a send queue, the index of what was consumed from the other
//! side's (the receive queue's other half), and a free queue on which received buffers go back. The
//! kernel sets it up and is not in the data path afterwards.
//!
//! Small messages travel in the queue, large ones as descriptors of buffers; what came from one process
//! can be passed on to the next along a [`Path`], without a copy.
//!
//! An [`Endpoint`] holds any number of channels and listeners, receives from all of them at the cost
//! of the active ones, and is one descriptor to wait on.
//!
//! ```no_run
//! use unet::{Address, ConnectOptions, Endpoint, EndpointOptions, Event, ListenOptions};
//!
//! // One process:
//! let mut endpoint = Endpoint::new(EndpointOptions::default())?;
//! endpoint.listen(&"shm:echo".parse()?, ListenOptions::default())?;
//! loop {
//!     match endpoint.recv() {
//!         // A client that cannot be accepted, or does not read, is no reason to stop or to wait.
//!         Event::Incoming(incoming) => _ = endpoint.accept(incoming, b""),
//!         Event::Message(from, message) => {
//!             let Some(channel) = endpoint.channel_mut(from) else { continue };
//!             _ = channel.try_send(message.inline());
//!         }
//!         Event::Closed(..) => break,
//!         _ => {}
//!     }
//! }
//!
//! // The other:
//! let mut channel = unet::Channel::connect(&"shm:echo".parse()?, ConnectOptions::default())?;
//! channel.send(b"ping")?;
//! assert_eq!(channel.recv()?.inline(), b"ping");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! After von Eicken, Basu, Buch and Vogels, *U-Net: A User-Level Network Interface for Parallel and
//! Distributed Computing* (SOSP 1995).

mod address;
mod channel;
#[cfg(feature = "conformance")]
pub mod conformance;
mod connecting;
mod delivery;
pub mod device;
mod endpoint;
mod farewell;
mod handshake;
mod incoming;
mod listening;
mod local;
pub mod mediated;
mod network;
mod policy;
mod readiness;
pub mod wire;

pub use address::{Address, AddressError, NetworkAddress};
pub use channel::{Channel, CloseReason, Offer, SendError};
pub use delivery::{Delivery, MAX_INLINE, MAX_INLINE_WITH_FBUF};
pub use endpoint::{
    Arrival, AttemptId, ChannelId, Endpoint, EndpointError, EndpointOptions, Event, ListenError,
};
pub use fbufs::{
    AllocError, Fbuf, FbufMut, Message, Part, Path, PathError, PeerFbuf, Pool, PoolOptions, Quota,
    ReadError, SecureError,
};
pub use handshake::{
    AcceptError, ChannelOptions, ConnectError, ConnectOptions, ListenOptions, Refusal,
};
pub use incoming::Incoming;
pub use network::{Checksum, LinkAccount, LinkCount, LinkStatus, NetworkOptions};
pub use policy::Policy;
pub use segment::counters::{Counter, Counters, Snapshot};
pub use segment::geometry::{Class, Geometry};
pub use segment::peer::Credentials;
pub use segment::wait::Wait;
pub use segment::{Fault, Incarnation};

/// The code of the book, compiled and run as this crate's documentation tests.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../docs/src/buffers.md")]
    struct Buffers;
}

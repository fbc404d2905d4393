//! Channels over a network: what an endpoint does with a device that carries datagrams.
//!
//! ```text
//!   Channel ─┐                 ┌─ channels, by the number that the peer names
//!   Channel ─┼─► Link (locked) ┼─ ready: messages that were received and not taken yet
//!   Endpoint ┘       │         └─ events: clients that ask, channels that ended
//!                    ▼
//!             dyn Datagrams: a device of its own
//! ```
//!
//! A [`Link`] is a device and the channels over it. Nothing runs by itself: whoever receives or waits moves
//! it on. Its lock is taken by one thread only unless channels of one endpoint are taken apart, so that it
//! is free as a rule.
//!
//! What a channel over a network promises: a message arrives whole and unchanged, at most once, from the
//! peer of that channel and no other, or it does not arrive and is counted. It may be lost or overtaken.

mod account;
mod channel;
mod control;
mod greeting;
mod link;
mod maintenance;
mod opening;
mod receiving;
mod sending;
mod sequence;
mod sharing;

pub use account::{LinkAccount, LinkCount};
pub(crate) use channel::RemoteChannel;
pub(crate) use greeting::Greeting;
pub use link::LinkStatus;
pub(crate) use link::{Asking, Happened, Link};
pub(crate) use opening::{connect, greet, listen};
pub(crate) use sharing::{Shared, Spin, lock};

use std::time::Duration;

use crate::Policy;
use crate::device::Drivers;
pub use crate::wire::Checksum;

/// How channels over a network are built. Channels on this host have no use for it.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// The drivers that open devices.
    pub drivers: Drivers,
    /// How many buffers a device gets, for all its channels.
    pub buffers: usize,
    /// How what this side sends is protected on its way.
    pub checksum: Checksum,
    /// After how long without a word of the peer's, though it was asked, a channel is closed.
    pub silence: Duration,
    /// Which users an agent may run as that an address names (`?via=NAME`).
    pub agent: Policy,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            drivers: Drivers::default(),
            buffers: 2048,
            checksum: Checksum::default(),
            silence: Duration::from_secs(30),
            agent: Policy::SameUserOrRoot,
        }
    }
}

//! A channel: one side of what joins two processes, on this host or over a network.

mod receiving;
mod sending;

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use fbufs::Path;
use segment::counters::Counters;
use segment::memory::PeerBytes;
use segment::peer::Credentials;
use segment::{Fault, Incarnation};

use crate::connecting::connect;
use crate::device::DeviceError;
use crate::handshake::{ConnectError, ConnectOptions};
use crate::local::LocalChannel;
use crate::network::{RemoteChannel, lock};
use crate::{Address, Pool};

/// Why a channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed it.
    #[error("the peer closed the channel")]
    PeerClosed,
    /// The peer's process has ended, or hung up without a word.
    #[error("the peer died")]
    PeerDied,
    /// The peer sent what an honest peer cannot send; the check that failed.
    #[error("the channel is poisoned: {0}")]
    Poisoned(Fault),
    /// Nothing was heard of the peer for too long, though it was asked: it is gone, or cut off.
    #[error("nothing was heard of the peer for too long, though it was asked")]
    PeerSilent,
    /// The peer does not know this channel any more: it was restarted, or had given it up.
    #[error("the peer does not know this channel any more: connect anew")]
    PeerRestarted,
    /// The agent that mediates it says that its policy does not allow the channel any more.
    #[error("the agent's policy does not allow the channel any more")]
    Forbidden,
    /// The device failed, and with it everything over it.
    #[error("the device failed: {0}")]
    DeviceFailed(DeviceError),
}

/// Why a message was not sent, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The channel is closed.
    #[error(transparent)]
    Closed(#[from] CloseReason),
    /// The message is larger than anything this channel can carry.
    #[error("{len} bytes are more than this channel carries in one message ({limit})")]
    TooLarge {
        /// The message's length.
        len: usize,
        /// The largest possible.
        limit: usize,
    },
    /// The buffer was allocated from another channel.
    #[error("the buffer was allocated from another channel")]
    ForeignBuffer,
    /// The peer may never hold as much at once: raise its quota, or send less.
    #[error("the message is larger than what the peer may hold at once")]
    OverQuota,
    /// The buffer could not be guarded: it is shared, does not consist of whole pages, or goes over a
    /// network.
    #[error("the buffer cannot be guarded: it must be unshared and consist of whole pages")]
    NotGuarded,
    /// A part of the message was revoked by its originator.
    #[error("a part of the message was revoked by its originator")]
    Revoked,
    /// The deadline passed while the queue was full.
    #[error("there was no room until the deadline")]
    TimedOut,
}

/// What became of something offered: back-pressure is a result, not an error.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a full queue has taken nothing"]
pub enum Offer<T = ()> {
    /// It is on its way.
    Taken,
    /// There is no room now; it is given back.
    Full(T),
}

/// One side of a channel. Owned by one thread; dropping it closes the channel.
///
/// What differs by the way to the peer:
///
/// | | on this host | over a network |
/// |---|---|---|
/// | a message | arrives, in order | arrives once and unchanged, or is lost and counted; may be overtaken |
/// | its length | as long as there are buffers | [`Channel::limit`]: what fits into a datagram |
/// | a buffer | is handed over, and comes back | is the device's until it was sent |
/// | the peer's end | the kernel's word, at once | its farewell, or its silence |
/// | [`Channel::private`], [`Channel::incarnations`], counters | yes | yes |
/// | [`Channel::credentials`] | the kernel's word | nobody's |
///
/// Who passes messages on holds the channel that they go out by in an [`crate::Endpoint`], or looks at
/// it now and then, by receiving or by [`Channel::lent`]: what comes back there goes back to the domains
/// before this one then. Where it sleeps for what comes in by one channel while what it passed on comes
/// back by another that stands alone, its originator waits until it wakes.
///
/// Closing takes back what the peer still holds: who has sent in buffers of a pool of its own waits until
/// nothing is lent, or the last messages read as revoked.
pub struct Channel {
    pub(crate) way: Way,
}

/// The way to the peer.
#[allow(clippy::large_enum_variant)] // The large one is the frequent one, and the fast one.
pub(crate) enum Way {
    Local(LocalChannel),
    Remote(RemoteChannel),
}

/// Does one thing or the other, by the way to the peer.
macro_rules! by_way {
    ($channel:expr, $local:ident => $here:expr, $remote:ident => $there:expr) => {
        match $channel {
            $crate::channel::Way::Local($local) => $here,
            $crate::channel::Way::Remote($remote) => $there,
        }
    };
}
pub(crate) use by_way;

impl Channel {
    /// Connects to a listener; waits until it has decided.
    ///
    /// # Errors
    /// [`ConnectError`].
    ///
    /// # Cost
    /// Some twenty system calls, once; sleeps in the kernel while it waits.
    pub fn connect(address: &Address, options: ConnectOptions) -> Result<Self, ConnectError> {
        connect(address, options)
    }

    #[inline(always)]
    pub(crate) fn local(&self) -> Option<&LocalChannel> {
        by_way!(&self.way, local => Some(local), _remote => None)
    }

    #[inline(always)]
    pub(crate) fn local_mut(&mut self) -> Option<&mut LocalChannel> {
        by_way!(&mut self.way, local => Some(local), _remote => None)
    }

    /// Why the channel is closed, if it is.
    pub fn closed(&self) -> Option<CloseReason> {
        by_way!(&self.way, local => local.closed(), remote => remote.closed())
    }

    /// Who is on the other side, by the kernel's word; over a network [`Credentials::NOBODY`], for there
    /// nobody vouches.
    pub fn credentials(&self) -> Credentials {
        by_way!(&self.way, local => local.credentials(), _remote => Credentials::NOBODY)
    }

    /// The peer's address, over a network; where an agent mediates and the peer asked, its word for it.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        by_way!(&self.way, local => local.peer_address(), remote => Some(remote.address))
    }

    /// This side's address, over a network.
    pub fn local_address(&self) -> Option<SocketAddr> {
        by_way!(&self.way, _local => None, remote => Some(lock(&remote.link).device().local()))
    }

    /// This side's incarnation and the peer's.
    pub fn incarnations(&self) -> (Incarnation, Incarnation) {
        by_way!(&self.way, local => local.incarnations(), remote => remote.incarnations)
    }

    /// The bytes that the peer sent with the handshake. The peer's word.
    pub fn private(&self) -> &[u8] {
        by_way!(&self.way, local => local.private(), remote => &remote.private)
    }

    /// This side's counters.
    pub fn counters(&self) -> &Counters {
        by_way!(&self.way, local => local.counters(), remote => &remote.counters)
    }

    /// This side's buffers: free, held by the peer, and in all. Free and held by the peer are
    /// brought up to date first. Over a network, those of the device, for all its channels.
    pub fn buffers(&mut self) -> (usize, usize, usize) {
        by_way!(&mut self.way, local => local.buffers(), remote => remote.buffers())
    }

    /// How many of the peer's leases are held here: parts of messages that were not given back yet.
    pub fn held(&self) -> usize {
        by_way!(&self.way, local => local.held(), _remote => 0)
    }

    /// The regions that the peer hands over buffers of, beside its segment's, mapped: to be offered to
    /// the next domain.
    pub fn path(&self) -> &Path {
        by_way!(&self.way, local => local.path(), remote => &remote.path)
    }

    /// How many bytes of payload this library copied on this side: into buffers of the segment's pool,
    /// and out of what the peer handed over.
    pub fn copied(&self) -> u64 {
        by_way!(&self.way, local => local.copied(), remote => remote.copied())
    }

    /// Uses this side's pool: for messages in several buffers, and to secure what is received. Over a
    /// network it is the device's, which is locked meanwhile: `use_it` touches nothing else of that device,
    /// and drops no [`crate::Incoming`] of it.
    pub fn with_pool<R>(&mut self, use_it: impl FnOnce(&mut Pool) -> R) -> R {
        by_way!(&mut self.way, local => use_it(local.pool_mut()), remote => remote.with_pool(use_it))
    }

    /// This side's area: memory that the peer can read and the layer above divides. None over a network.
    #[inline(always)]
    pub fn area_mut(&mut self) -> &mut [u8] {
        by_way!(&mut self.way, local => local.area_mut(), _remote => &mut [])
    }

    /// The peer's area. None over a network.
    #[inline(always)]
    pub fn peer_area(&self) -> Option<&PeerBytes> {
        by_way!(&self.way, local => Some(local.peer_area()), _remote => None)
    }

    /// This side's segment, or page of counters over a network, to be given to a supervisor that reads
    /// the counters.
    pub fn segment(&self) -> BorrowedFd<'_> {
        by_way!(&self.way, local => local.segment(), remote => remote.page())
    }

    /// Asks the kernel whether the peer lives, and takes doorbells off the socket. Called by the
    /// receiving methods every two milliseconds of polling. Over a network: does what is due.
    ///
    /// # Cost
    /// Two system calls, and one for each doorbell that nobody slept to hear.
    pub fn check_liveness(&mut self) {
        by_way!(&mut self.way, local => local.check_liveness(), remote => remote.attend())
    }

    /// Closes the channel because a layer above caught the peer breaking a rule.
    pub fn poison_protocol(&mut self) -> CloseReason {
        by_way!(&mut self.way, local => local.poison_protocol(), remote => remote.poison())
    }

    /// Takes back, at once, what the peer holds of this side's buffers: it is too slow. What it reads
    /// of them from now on is an error to it ([`fbufs::ReadError::Revoked`]), and to every later
    /// domain; its leases stay used up until it has given them back. How many buffers that was; none over
    /// a network.
    ///
    /// # Cost
    /// A walk over a private table.
    pub fn revoke(&mut self) -> usize {
        by_way!(&mut self.way, local => local.revoke(), _remote => 0)
    }

    /// What the peer holds: leases and bytes of payload. Brought up to date first.
    pub fn lent(&mut self) -> (usize, u64) {
        by_way!(&mut self.way, local => local.lent(), _remote => (0, 0))
    }
}

impl From<LocalChannel> for Channel {
    fn from(local: LocalChannel) -> Self {
        Self { way: Way::Local(local) }
    }
}

impl From<RemoteChannel> for Channel {
    fn from(remote: RemoteChannel) -> Self {
        Self { way: Way::Remote(remote) }
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        by_way!(
            &self.way,
            local => local.fmt(f),
            remote => f.debug_struct("Channel").field("peer", &remote.address).finish_non_exhaustive()
        )
    }
}

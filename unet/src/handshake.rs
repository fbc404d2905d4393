//! How a channel comes about: both sides check each other, exchange segments, and are joined.
//!
//! ```text
//!   client                                             listener
//!   connect to the abstract name
//!   is it a user I allow? (SO_PEERCRED)                is it a user I allow? (SO_PEERCRED)
//!   make and seal a segment
//!   Hello + descriptor ───────────────────────────────►
//!                                                      Incoming: the application decides
//!                                                      verify and map the client's segment
//!                                                      make and seal a segment
//!                      ◄─────────────────────────────── Welcome + descriptor, or Refusal
//!   verify and map the listener's segment
//! ```

use std::time::Duration;

use fbufs::{Path, Quota};
use rustix::io::Errno;
use segment::control::{Frame, Kind, MAX_PRIVATE};
use segment::geometry::Geometry;
use segment::memory::{AttachError, CreateError};
use segment::wait::Wait;

use crate::Policy;
use crate::device::{DeviceError, OpenError};
use crate::network::NetworkOptions;

/// The sender of this frame orders its sleep by membarrier, and may be interrupted by the peer's.
pub(crate) const MEMBARRIER: u32 = 1;
/// From this bit on stands the most bytes of one message that the sender of this frame passes on.
const LIMIT: u32 = 16;

/// How one side of a channel is built.
#[derive(Clone, Debug, Default)]
pub struct ChannelOptions {
    /// What this side's segment consists of; each side chooses its own.
    pub geometry: Geometry,
    /// Lock the segment into memory.
    pub locked: bool,
    /// How this side waits.
    pub wait: Wait,
    /// What the peer may hold of this side's buffers.
    pub quota: Quota,
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// How this side of the channel is built.
    pub channel: ChannelOptions,
    /// Which users the listener may run as.
    pub policy: Policy,
    /// Up to 128 bytes for the listener's accept decision.
    pub private: Vec<u8>,
    /// The regions whose buffers this side will hand over, beside its segment's: the listener maps
    /// them before it accepts.
    pub path: Path,
    /// How many regions the listener may offer with its welcome; each is mapped.
    pub regions: usize,
    /// How long the listener may take.
    pub timeout: Duration,
    /// The most bytes of one message from the listener, where what it sends goes on over something
    /// narrower than this channel: told to it, and up to it.
    pub limit: Option<u16>,
    /// Over a network: the drivers, and how the channel is built.
    pub network: NetworkOptions,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            channel: ChannelOptions::default(),
            policy: Policy::default(),
            private: Vec::new(),
            path: Path::default(),
            regions: 0,
            timeout: Duration::from_secs(5),
            limit: None,
            network: NetworkOptions::default(),
        }
    }
}

/// How to listen.
#[derive(Clone, Debug, Default)]
pub struct ListenOptions {
    /// How this side of each accepted channel is built; its `wait` is the endpoint's.
    pub channel: ChannelOptions,
    /// Which users may connect.
    pub policy: Policy,
    /// How many regions a client may offer with its hello; it is turned away if it offers more, before
    /// the application hears of it.
    pub regions: usize,
    /// How many clients of one user may be between connecting and their first word; any number, if `None`:
    /// to be set where users that distrust each other connect.
    pub undecided_per_user: Option<usize>,
    /// Over a network: the drivers, and how the channels are built.
    pub network: NetworkOptions,
}

/// Why the listener said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Its policy does not allow this user.
    #[error("its policy does not allow this user")]
    Policy,
    /// The application refused, with this code.
    #[error("the application refused with code {0}")]
    Application(u32),
    /// It does not take this process's segment.
    #[error("it does not accept this process's segment")]
    Segment,
    /// It speaks another version.
    #[error("it speaks another version of the protocol")]
    Version,
    /// It is out of memory or descriptors.
    #[error("it is out of memory or descriptors")]
    Resources,
    /// Too many others are connecting: try again later.
    #[error("too many others are connecting: try again later")]
    Busy,
    /// The agent's policy does not allow this user that device, port or address.
    #[error("the agent's policy does not allow this user that device, port or address")]
    Forbidden,
    /// The user has as many channels or buffers by the agent as its policy allows.
    #[error("the user has as many channels or buffers as the agent's policy allows")]
    Quota,
    /// The port belongs to somebody else.
    #[error("the port is taken, on the agent's device")]
    PortTaken,
    /// The agent could not open its device.
    #[error("the agent could not open its device: its log says why")]
    Device,
    /// Nobody answered the agent over the network.
    #[error("nobody answered over the network")]
    NoAnswer,
    /// The private bytes are too many for the way by an agent.
    #[error("the private bytes are too many for the way by an agent")]
    PrivateTooLarge,
    /// A reason that this version does not know.
    #[error("for a reason that this version does not know")]
    Other,
}

impl Refusal {
    pub(crate) fn to_frame(self) -> Frame {
        let (value, flags) = self.to_numbers();
        let mut frame = Frame::bare(Kind::Refusal, value);
        frame.flags = flags;
        frame
    }

    /// The reason and the code, as they are told to the client.
    pub(crate) fn to_numbers(self) -> (u64, u32) {
        match self {
            Self::Policy => (1, 0),
            Self::Application(code) => (2, code),
            Self::Segment => (3, 0),
            Self::Version => (4, 0),
            Self::Resources => (5, 0),
            Self::Busy => (6, 0),
            Self::Forbidden => (7, 0),
            Self::Quota => (8, 0),
            Self::PortTaken => (9, 0),
            Self::Device => (10, 0),
            Self::NoAnswer => (11, 0),
            Self::PrivateTooLarge => (12, 0),
            Self::Other => (0, 0),
        }
    }

    pub(crate) fn from_frame(frame: &Frame) -> Self {
        Self::from_numbers(frame.value, frame.flags)
    }

    pub(crate) fn from_numbers(reason: u64, code: u32) -> Self {
        match reason {
            1 => Self::Policy,
            2 => Self::Application(code),
            3 => Self::Segment,
            4 => Self::Version,
            5 => Self::Resources,
            6 => Self::Busy,
            7 => Self::Forbidden,
            8 => Self::Quota,
            9 => Self::PortTaken,
            10 => Self::Device,
            11 => Self::NoAnswer,
            12 => Self::PrivateTooLarge,
            _ => Self::Other,
        }
    }
}

/// Why a connection did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody has that name: is the server running, in this network namespace?
    #[error("nobody listens at that address: is the server running?")]
    NobodyListens,
    /// A user has that name whom this side's policy does not allow.
    #[error("the name is held by another user (uid {0}): allow that user, or end that process")]
    NameOfAnotherUser(u32),
    /// The listener refused.
    #[error("the listener refused: {0}")]
    Refused(Refusal),
    /// The listener did not answer in time.
    #[error("the listener did not answer in time")]
    TimedOut,
    /// The listener died, or hung up, during the handshake.
    #[error("the listener died during the handshake")]
    PeerDied,
    /// The listener speaks another version.
    #[error("the listener speaks version {0} of the protocol")]
    Version(u16),
    /// The listener said something that makes no sense.
    #[error("the listener broke the protocol")]
    Protocol,
    /// The listener's segment failed verification.
    #[error("the listener's segment was refused: {0}")]
    Segment(#[from] AttachError),
    /// This side's segment could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The network's device could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No address is known of the host.
    #[error("no address is known of that host")]
    UnknownHost,
    /// The network's device leads nowhere.
    #[error(transparent)]
    Device(DeviceError),
    /// More private bytes than there is room for.
    #[error("at most {MAX_PRIVATE} private bytes can be sent with a connection")]
    PrivateTooLarge,
    /// The kernel refused for another reason.
    #[error("the kernel refused the connection: {0}")]
    Kernel(Errno),
}

impl From<Errno> for ConnectError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::MFILE | Errno::NFILE => Self::Create(CreateError::OutOfDescriptors),
            Errno::CONNREFUSED => Self::NobodyListens,
            other => Self::Kernel(other),
        }
    }
}

/// Why an incoming connection could not be accepted. It is refused then; the endpoint goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The client's segment failed verification.
    #[error("the client's segment was refused: {0}")]
    Segment(#[from] AttachError),
    /// This side's segment could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The client hung up.
    #[error("the client has hung up")]
    PeerGone,
    /// More private bytes than there is room for.
    #[error("at most {MAX_PRIVATE} private bytes can be sent with a connection")]
    PrivateTooLarge,
    /// The kernel refused for another reason.
    #[error("the kernel refused: {0}")]
    Kernel(Errno),
}

/// The flags of a hello or a welcome.
pub(crate) fn flags(membarrier: bool, limit: Option<u16>) -> u32 {
    let membarrier = if membarrier { MEMBARRIER } else { 0 };
    membarrier | u32::from(limit.unwrap_or(0)) << LIMIT
}

/// The most bytes of one message that the sender of these flags passes on, if it does.
pub(crate) fn limit_of(flags: u32) -> Option<u16> {
    Some((flags >> LIMIT) as u16).filter(|limit| *limit > 0)
}

#[cfg(test)]
#[path = "../../segment/src/book.rs"]
pub(crate) mod book;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_of_a_refusal_are_as_their_table_says() {
        let code = [
            Refusal::Other,
            Refusal::Policy,
            Refusal::Application(7),
            Refusal::Segment,
            Refusal::Version,
            Refusal::Resources,
            Refusal::Busy,
            Refusal::Forbidden,
            Refusal::Quota,
            Refusal::PortTaken,
            Refusal::Device,
            Refusal::NoAnswer,
            Refusal::PrivateTooLarge,
        ];
        let name = |refusal: Refusal| {
            let name = format!("{refusal:?}");
            name.split('(').next().unwrap_or_default().to_owned()
        };
        let found = code.map(|refusal| {
            let frame = refusal.to_frame();
            assert_eq!(Refusal::from_frame(&frame), refusal);
            [frame.value.to_string(), name(refusal)]
        });
        assert_eq!(book::columns(&book::table("A control message", 2), [0, 1]), found);
        // No other number is a reason that has a name.
        let others = (0..1000).map(|value| Refusal::from_frame(&Frame::bare(Kind::Refusal, value)));
        assert_eq!(others.filter(|refusal| *refusal != Refusal::Other).count(), code.len() - 1);
        assert_eq!(Refusal::Application(7).to_frame().flags, 7);
    }

    #[test]
    fn a_hello_says_whether_membarrier_orders_its_sleep_as_the_table_says() {
        let kinds = book::table("A control message", 1);
        for kind in &kinds[..2] {
            assert!(kind[3].starts_with(&format!("{MEMBARRIER}: ")), "{kind:?}");
        }
    }

    #[test]
    fn a_limit_stands_in_the_flags_beside_the_rest() {
        assert_eq!(limit_of(flags(true, None)), None);
        assert_eq!(limit_of(flags(false, Some(1440))), Some(1440));
        assert_eq!(flags(true, Some(u16::MAX)) & MEMBARRIER, MEMBARRIER);
    }
}

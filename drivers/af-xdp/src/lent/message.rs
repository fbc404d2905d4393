//! What client and agent say to each other: one frame each way, in [`segment::control`]'s private bytes.
//!
//! Numbers are in the order of this machine's bytes: both sides run on it.

use rustix::io::Errno;
use segment::control::{Frame, Kind};
use unet::device::{Mode, OpenError};

use crate::options::Way;
use crate::socket::{Binding, RingSizes};

/// The version of these messages.
pub const VERSION: u32 = 1;
/// The longest name of an interface.
pub const MAX_NAME: usize = 15;

const ANY: u32 = u32::MAX;
const REQUEST: usize = 20 + MAX_NAME + 1;
const ANSWER: usize = 40;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The interface, by its name.
    pub interface: String,
    /// The queue; any that is free, if `None`.
    pub queue: Option<u32>,
    /// The UDP port; any that is free, if 0.
    pub port: u16,
    /// How many buffers the memory has.
    pub buffers: u32,
    /// Bytes of each.
    pub buffer_bytes: u32,
    /// Which way into the interface.
    pub way: Way,
    /// Frames of several pieces.
    pub several: bool,
}

/// Why a client gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// No request, or one of another version.
    #[error("that is no request of this version")]
    Malformed,
    /// The policy does not allow it.
    #[error("the policy does not allow that user this interface, queue and port")]
    Forbidden,
    /// The user has as much as the policy allows.
    #[error("the user has as many queues or bytes as the policy allows")]
    Quota,
    /// Too many ask at once.
    #[error("too many ask at once")]
    Crowded,
    /// There is no such interface, or it is no Ethernet interface.
    #[error("there is no such interface")]
    NoInterface,
    /// The queue belongs to another process.
    #[error("the queue belongs to another process, or no queue is free")]
    QueueTaken,
    /// The interface has no such queue.
    #[error("the interface has no such queue")]
    NoQueue,
    /// The port belongs to somebody else.
    #[error("the port belongs to somebody else")]
    PortTaken,
    /// The file is not memory that can be registered.
    #[error("the file is no memory that can be registered")]
    Memory,
    /// The memory cannot be pinned.
    #[error("the memory cannot be pinned")]
    MemoryLock,
    /// Another XDP program is on the interface.
    #[error("another XDP program is on the interface")]
    HookTaken,
    /// The interface cannot be used in this way.
    #[error("the interface cannot be used in this way")]
    Way,
    /// The kernel refused.
    #[error("the kernel refused: {0}")]
    Kernel(Errno),
}

impl Refused {
    const ALL: [Self; 12] = [
        Self::Malformed,
        Self::Forbidden,
        Self::Quota,
        Self::Crowded,
        Self::NoInterface,
        Self::QueueTaken,
        Self::NoQueue,
        Self::PortTaken,
        Self::Memory,
        Self::MemoryLock,
        Self::HookTaken,
        Self::Way,
    ];
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len() + 1;

    /// Its place among the reasons.
    pub fn number(self) -> usize {
        Self::ALL.iter().position(|it| *it == self).unwrap_or(Self::ALL.len())
    }

    /// A word for each reason, in the order of their numbers.
    pub const WORDS: [&'static str; Self::COUNT] = [
        "malformed",
        "forbidden",
        "quota",
        "crowded",
        "no-interface",
        "queue-taken",
        "no-queue",
        "port-taken",
        "memory",
        "memory-lock",
        "hook-taken",
        "way",
        "kernel",
    ];

    fn of(value: u64) -> Option<Self> {
        let number = usize::try_from(value & 0xffff).ok()?;
        let errno = i32::try_from(value >> 16).ok().filter(|errno| (1..4096).contains(errno));
        match Self::ALL.get(number) {
            Some(refused) => Some(*refused),
            None if number == Self::ALL.len() => {
                errno.map(Errno::from_raw_os_error).map(Self::Kernel)
            }
            None => None,
        }
    }

    /// The message.
    pub fn frame(self) -> Frame {
        let errno = if let Self::Kernel(errno) = self { errno.raw_os_error() as u64 } else { 0 };
        Frame::bare(Kind::Refusal, errno << 16 | self.number() as u64)
    }
}

impl From<OpenError> for Refused {
    /// What the agent's own opening came to.
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NoDevice => Self::NoInterface,
            OpenError::AddressInUse => Self::PortTaken,
            OpenError::BadValue(_) => Self::NoQueue,
            OpenError::Unsupported(_) => Self::Way,
            OpenError::Busy(_) => Self::HookTaken,
            OpenError::MemoryLock => Self::MemoryLock,
            OpenError::Kernel { errno, .. } => Self::Kernel(errno),
            OpenError::NotPermitted(_) => Self::Kernel(Errno::PERM),
            _ => Self::Kernel(Errno::INVAL),
        }
    }
}

impl From<Refused> for OpenError {
    /// What it means for who asked.
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Malformed => OTHER_VERSION,
            Refused::Forbidden => Self::NotPermitted(
                "the agent's policy does not allow this user that interface, queue and port",
            ),
            Refused::Quota => Self::NotPermitted(
                "this user has as many queues, or bytes in them, as the agent's policy allows",
            ),
            Refused::Crowded => Self::Busy("too many ask the agent at once: ask again"),
            Refused::NoInterface => Self::NoDevice,
            Refused::QueueTaken => Self::Busy(
                "that queue belongs to another process, or none is free: use another one, or wait for \
                 its end",
            ),
            Refused::NoQueue => {
                Self::BadValue("a queue that the interface has: `ethtool -l IFACE` counts them")
            }
            Refused::PortTaken => Self::AddressInUse,
            Refused::Memory => Self::NotPermitted(
                "the agent takes a memfd of the size that is said, with its pages allocated, sealed \
                 against a change of its size and nothing else",
            ),
            Refused::MemoryLock => Self::MemoryLock,
            Refused::HookTaken => Self::Busy(
                "another XDP program is attached to that interface, and the agent replaces none",
            ),
            Refused::Way => Self::Unsupported(
                "the agent uses the interface in another mode, or its driver cannot do that: leave out \
                 mode=",
            ),
            Refused::Kernel(errno) => Self::Kernel { step: "open the queue for the agent", errno },
        }
    }
}

pub(crate) const OTHER_VERSION: OpenError = OpenError::Unsupported(
    "the agent is of another version: use the one of this program's release",
);

impl Request {
    /// The message; `None` for a name that no interface has.
    pub fn frame(&self) -> Option<Frame> {
        let name = self.interface.as_bytes();
        if name.is_empty() || name.len() > MAX_NAME || self.queue == Some(ANY) {
            return None;
        }
        let mut bytes = [0u8; REQUEST];
        let words = [VERSION, self.queue.unwrap_or(ANY), self.buffers, self.buffer_bytes];
        put(&mut bytes, 0, words.iter().flat_map(|word| word.to_ne_bytes()));
        put(&mut bytes, 16, self.port.to_ne_bytes());
        let way = match self.way {
            Way::Auto => 0,
            Way::Generic => 1,
            Way::Native => 2,
            Way::ZeroCopy => 3,
        };
        put(&mut bytes, 18, [way, u8::from(self.several)]);
        put(&mut bytes, 20, name.iter().copied());
        Frame::new(Kind::Hello, 0, 0, &bytes)
    }

    /// What a message says, if it is a request of this version.
    pub fn of(frame: &Frame) -> Option<Self> {
        let bytes: &[u8; REQUEST] = frame.private().try_into().ok()?;
        if frame.kind != Kind::Hello || word(bytes, 0)? != VERSION {
            return None;
        }
        let name = &bytes[20..];
        let length = name.iter().position(|byte| *byte == 0)?;
        let valid = |byte: &u8| byte.is_ascii_graphic() && *byte != b'/';
        if length == 0
            || !name[..length].iter().all(valid)
            || name[length..].iter().any(|b| *b != 0)
        {
            return None;
        }
        let way = match bytes[18] {
            0 => Way::Auto,
            1 => Way::Generic,
            2 => Way::Native,
            3 => Way::ZeroCopy,
            _ => return None,
        };
        Some(Self {
            interface: String::from_utf8(name[..length].to_vec()).ok()?,
            queue: Some(word(bytes, 4)?).filter(|queue| *queue != ANY),
            port: u16::from_ne_bytes([bytes[16], bytes[17]]),
            buffers: word(bytes, 8)?,
            buffer_bytes: word(bytes, 12)?,
            way,
            several: match bytes[19] {
                0 => false,
                1 => true,
                _ => return None,
            },
        })
    }
}

/// What comes with the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer(pub Binding);

impl Answer {
    /// The message; `None` if the binding is none of a frame device's.
    pub fn frame(&self) -> Option<Frame> {
        let Binding { interface, queue, mac, mtu, mode, pieces, rings, port } = self.0;
        let mut bytes = [0u8; ANSWER];
        let (mtu, pieces) = (u32::try_from(mtu).ok()?, u32::try_from(pieces).ok()?);
        let words = [VERSION, interface, queue, mtu, pieces, rings.receive, rings.transmit];
        put(&mut bytes, 0, words.iter().flat_map(|word| word.to_ne_bytes()));
        put(&mut bytes, 28, port.to_ne_bytes());
        let mode = match mode {
            Mode::Generic => 0,
            Mode::Native => 1,
            Mode::ZeroCopy => 2,
            _ => return None,
        };
        put(&mut bytes, 30, [mode]);
        put(&mut bytes, 32, mac);
        Frame::new(Kind::Welcome, 0, 0, &bytes)
    }

    /// What an agent's message says.
    ///
    /// # Errors
    /// The agent's refusal, or that it is no answer.
    pub fn of(frame: &Frame) -> Result<Self, OpenError> {
        match frame.kind {
            Kind::Refusal => Err(Refused::of(frame.value).map_or(OTHER_VERSION, OpenError::from)),
            Kind::Welcome => Self::read(frame.private()).ok_or(OTHER_VERSION),
            _ => Err(OTHER_VERSION),
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != ANSWER || word(bytes, 0)? != VERSION {
            return None;
        }
        let mode = match bytes[30] {
            0 => Mode::Generic,
            1 => Mode::Native,
            2 => Mode::ZeroCopy,
            _ => return None,
        };
        Some(Self(Binding {
            interface: word(bytes, 4)?,
            queue: word(bytes, 8)?,
            mac: bytes.get(32..38)?.try_into().ok()?,
            mtu: word(bytes, 12)? as usize,
            mode,
            pieces: word(bytes, 16)? as usize,
            rings: RingSizes { receive: word(bytes, 20)?, transmit: word(bytes, 24)? },
            port: u16::from_ne_bytes([bytes[28], bytes[29]]),
        }))
    }
}

fn put(bytes: &mut [u8], at: usize, what: impl IntoIterator<Item = u8>) {
    bytes.iter_mut().skip(at).zip(what).for_each(|(to, from)| *to = from);
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            interface: "a-long-name-15c".into(),
            queue: Some(3),
            port: 4791,
            buffers: 256,
            buffer_bytes: 2048,
            way: Way::Native,
            several: true,
        }
    }

    #[test]
    fn a_request_survives_the_way_and_nonsense_does_not() {
        for request in [request(), Request { queue: None, port: 0, ..request() }] {
            let frame = request.frame().expect("it is valid");
            assert_eq!(Request::of(&frame), Some(request));
        }
        for name in ["", "sixteen-letters-"] {
            assert_eq!(Request { interface: name.into(), ..request() }.frame(), None);
        }
        let frame = request().frame().expect("it is valid");
        let bytes = frame.private();
        for (at, value) in [(0, 9), (18, 4), (19, 2), (20, 0), (21, b'/'), (35, 1)] {
            let mut bytes = bytes.to_vec();
            bytes[at] = value;
            let frame = Frame::new(Kind::Hello, 0, 0, &bytes).expect("short");
            assert_eq!(Request::of(&frame), None, "{at}");
        }
        for cut in 0..bytes.len() {
            let frame = Frame::new(Kind::Hello, 0, 0, &bytes[..cut]).expect("short");
            assert_eq!(Request::of(&frame), None, "{cut}");
        }
        let other = Frame::new(Kind::Welcome, 0, 0, bytes).expect("short");
        assert_eq!(Request::of(&other), None);
    }

    #[test]
    fn an_answer_survives_the_way_and_each_refusal_says_which() {
        let answer = Answer(Binding {
            interface: 7,
            queue: 1,
            mac: [2, 0, 0, 0, 0, 9],
            mtu: 1500,
            mode: Mode::Native,
            pieces: 1,
            rings: RingSizes { receive: 128, transmit: 64 },
            port: 9,
        });
        let frame = answer.frame().expect("a frame device's");
        assert_eq!(Answer::of(&frame), Ok(answer));
        for (number, refused) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(refused.number(), number);
            assert_eq!(Answer::of(&refused.frame()), Err(OpenError::from(refused)));
        }
        let refused = Refused::Kernel(Errno::NODEV);
        assert_eq!(Answer::of(&refused.frame()), Err(refused.into()));
        for value in [12, 12 | 5000 << 16, 12 | 1 << 50, 13, 0xffff] {
            assert_eq!(Answer::of(&Frame::bare(Kind::Refusal, value)), Err(OTHER_VERSION));
        }
        assert_eq!(Answer::of(&Frame::bare(Kind::Hello, 0)), Err(OTHER_VERSION));
        assert_eq!(Answer::of(&Frame::bare(Kind::Welcome, 0)), Err(OTHER_VERSION));
    }
}

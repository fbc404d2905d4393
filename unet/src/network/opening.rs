//! How a link is opened, and how a channel to a listener comes about.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use segment::control::{MAX_PRIVATE, timespec};

use super::link::{Link, Phase, aligned};
use super::sharing::{Shared, lock, to_share};
use super::{Greeting, NetworkOptions};
use crate::NetworkAddress;
use crate::device::{Capabilities, DeviceError, OpenError, Opening};
use crate::endpoint::ListenError;
use crate::handshake::{ConnectError, ConnectOptions};
use crate::wire::HEADER_BYTES;

/// How soon a hello is said again; each time it takes twice as long.
pub(super) const FIRST_PATIENCE: Duration = Duration::from_millis(20);
/// And at most so long.
pub(super) const LONGEST_PATIENCE: Duration = Duration::from_secs(1);
/// How long a look lasts where there is nothing to wait on.
const PAUSE: Duration = Duration::from_millis(1);
/// How many bytes the first piece of a datagram takes at least: all that is said beside data is in one.
const FIRST_PIECE: usize = HEADER_BYTES + MAX_PRIVATE + 16;

/// Opens a device and listens on it.
pub(crate) fn listen(
    address: &NetworkAddress,
    options: &NetworkOptions,
) -> Result<Shared, ListenError> {
    let local = match address.host.as_str() {
        "" => None,
        _ => {
            let found = address.resolve().map_err(|_| OpenError::AddressInUse)?;
            Some(found.first().ok_or(OpenError::AddressInUse)?.ip())
        }
    };
    let device = open(address, local, address.port, None, options)?;
    let link = Link::new(device, true, options.clone()).map_err(|_| OpenError::MemoryLock)?;
    Ok(to_share(link))
}

pub(super) fn open(
    address: &NetworkAddress,
    local: Option<IpAddr>,
    port: u16,
    remote: Option<SocketAddr>,
    options: &NetworkOptions,
) -> Result<Box<dyn crate::device::Datagrams>, OpenError> {
    let driver = options.drivers.find(&address.scheme)?;
    let device = driver.open(&Opening {
        device: &address.device,
        local,
        port,
        remote,
        options: &address.options,
        buffers: options.buffers,
    })?;
    // Relied on wherever a message is laid into pieces.
    let Capabilities { headroom, piece_bytes, pieces, .. } = device.capabilities();
    let first_piece = piece_bytes.saturating_sub(aligned(headroom));
    if first_piece < FIRST_PIECE || pieces == 0 || pieces.checked_mul(piece_bytes).is_none() {
        return Err(OpenError::Unsupported("give it buffers of 256 bytes or more"));
    }
    Ok(device)
}

/// Connects to a listener: by one of the links, if it leads there, or by a new one.
pub(crate) fn connect(
    address: &NetworkAddress,
    options: &ConnectOptions,
    mut existing: impl FnMut(&SocketAddr) -> Option<Shared>,
) -> Result<(Shared, u32), ConnectError> {
    if options.private.len() > MAX_PRIVATE {
        return Err(ConnectError::PrivateTooLarge);
    }
    let addresses = address.resolve().map_err(|_| ConnectError::UnknownHost)?;
    let share = options.timeout / addresses.len().max(1) as u32;
    let mut outcome = Err(ConnectError::UnknownHost);
    for to in addresses {
        let deadline = Instant::now().checked_add(share);
        let link = match existing(&to) {
            Some(link) => link,
            None => match open(address, None, 0, Some(to), &options.network) {
                Ok(device) => {
                    let link = Link::new(device, false, options.network.clone())?;
                    to_share(link)
                }
                Err(error) => {
                    outcome = Err(error.into());
                    continue;
                }
            },
        };
        match ask(&link, to, &options.private, deadline) {
            Ok(channel) => return Ok((link, channel)),
            Err(error @ ConnectError::Refused(_)) => return Err(error),
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

/// Begins to connect to a listener: by the link if there is one that leads there, or by a new one.
pub(crate) fn greet(
    address: &NetworkAddress,
    options: ConnectOptions,
    existing: impl FnOnce(&SocketAddr) -> Option<Shared>,
) -> Result<(Shared, Greeting), ConnectError> {
    let ip: IpAddr = address.host.parse().map_err(|_| ConnectError::UnknownHost)?;
    let to = SocketAddr::new(ip, address.port);
    let link = match existing(&to) {
        Some(link) => link,
        None => {
            let device = open(address, None, 0, Some(to), &options.network)?;
            to_share(Link::new(device, false, options.network)?)
        }
    };
    let greeting = Greeting::new(link.clone(), to, options.private, options.channel.wait)?;
    Ok((link, greeting))
}

/// Says hello until it is answered.
fn ask(
    link: &Shared,
    to: SocketAddr,
    private: &[u8],
    deadline: Option<Instant>,
) -> Result<u32, ConnectError> {
    let mut link = lock(link);
    let channel = loop {
        match link.begin_channel(to) {
            Ok(channel) => break channel,
            Err(ConnectError::Device(DeviceError::Unresolved)) if !is_over(deadline) => {
                // Where no kernel asks the neighbour, the device does, and hears the answer.
                link.poll().map_err(ConnectError::Device)?;
                link.attend();
                std::thread::sleep(PAUSE);
            }
            Err(ConnectError::Device(DeviceError::Unresolved)) => {
                return Err(ConnectError::TimedOut);
            }
            Err(error) => return Err(error),
        }
    };
    let outcome = await_answer(&mut link, channel, private, deadline);
    if outcome.is_err() {
        link.remove(channel);
    }
    outcome.map(|()| channel)
}

fn await_answer(
    link: &mut Link,
    channel: u32,
    private: &[u8],
    deadline: Option<Instant>,
) -> Result<(), ConnectError> {
    let (mut patience, mut next) = (FIRST_PATIENCE, Instant::now());
    loop {
        let now = Instant::now();
        if now >= next {
            link.say_hello(channel, private);
            (patience, next) = ((2 * patience).min(LONGEST_PATIENCE), now + patience);
        }
        link.poll().map_err(ConnectError::Device)?;
        link.attend();
        match link.state(channel).map(|state| state.phase) {
            Some(Phase::Open) => return Ok(()),
            Some(Phase::Refused(why)) => return Err(ConnectError::Refused(why)),
            _ if link.failed.is_some() => {
                return Err(ConnectError::Device(link.failed.unwrap_or(DeviceError::Gone)));
            }
            _ if is_over(deadline) => return Err(ConnectError::TimedOut),
            _ => {}
        }
        let until = deadline.map_or(next, |deadline| deadline.min(next));
        link.sleep(Some(until.saturating_duration_since(now)), None);
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

impl Link {
    /// Sleeps until something arrives, or `other` is readable, or the time is up.
    ///
    /// # Cost
    /// Some system calls.
    pub fn sleep(&mut self, timeout: Option<Duration>, other: Option<std::os::fd::BorrowedFd<'_>>) {
        let longest = self.idle_for().max(PAUSE);
        let timeout = timeout.map_or(longest, |timeout| timeout.min(longest));
        match self.device.arm() {
            Ok(true) => {}
            Ok(false) if !self.is_starved() => return,
            // It is down, or has no buffer: nothing tells when that is over but looking.
            _ => return std::thread::sleep(timeout.min(PAUSE)),
        }
        let device = self.device.as_fd();
        let other = other.unwrap_or(device);
        let watch = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = [watch(device), watch(other)];
        // An interrupted sleep is a vain one: the caller looks again.
        let _ = poll(&mut fds, Some(&timespec(timeout)));
    }
}

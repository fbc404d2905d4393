//! What the kernel says of an interface: asked by netlink (RTM_GETLINK), which needs no privilege.
//!
//! # Invariants
//!
//! 1. The structures of the ioctl are those of `linux/if.h` and `linux/ethtool.h`, and live until it
//!    returns.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, sendto, socket_with};
use unet::device::{DeviceError, OpenError};

const GET_LINK: u16 = 18;
const NEW_LINK: u16 = 16;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const HEADER: usize = 16;
const LINK: usize = 16;

const ADDRESS: u16 = 1;
const NAME: u16 = 3;
const MTU: u16 = 4;
const LINK_INFO: u16 = 18;
const RX_QUEUES: u16 = 32;
const XDP: u16 = 43;
const INFO_KIND: u16 = 1;
const XDP_PROGRAM: u16 = 4;
/// The programs by hook: native, generic, in hardware.
const XDP_PROGRAMS: std::ops::RangeInclusive<u16> = 5..=7;

const UP: u32 = 1;
const LOWER_UP: u32 = 1 << 16;

/// The longest name of an interface.
const MAX_NAME: usize = 15;
/// More than the answer about one interface takes.
const ANSWER: usize = 16 << 10;

/// An interface as it was when the kernel was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its number, which no other one gets while the system runs, within its namespace.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The most bytes behind the Ethernet header.
    pub mtu: usize,
    /// It is up.
    pub up: bool,
    /// It has a carrier.
    pub carrier: bool,
    /// It is made of software: veth, TUN, bridge and their like.
    pub virtual_device: bool,
    /// How many queues receive.
    pub queues: u32,
    /// The numbers of the XDP programs that are attached to it.
    pub programs: Vec<u32>,
}

/// A socket on which the kernel is asked, in the namespace where it was made.
#[derive(Debug)]
pub struct Interfaces {
    socket: OwnedFd,
    sequence: u32,
}

impl Interface {
    /// Asks for an interface by its name.
    ///
    /// # Errors
    /// [`OpenError::NoDevice`], [`OpenError::BadValue`] for what cannot be a name.
    ///
    /// # Cost
    /// Five system calls.
    pub fn find(name: &str) -> Result<Self, OpenError> {
        let valid = (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if !valid {
            return Err(OpenError::BadValue("the name of an interface, such as eth0"));
        }
        let mut interfaces = Interfaces::new()?;
        let mut attribute = vec![0u8; 4 + (name.len() + 1).next_multiple_of(4)];
        attribute[..2].copy_from_slice(&(4 + name.len() as u16 + 1).to_ne_bytes());
        attribute[2..4].copy_from_slice(&NAME.to_ne_bytes());
        attribute[4..4 + name.len()].copy_from_slice(name.as_bytes());
        let mut found = match interfaces.ask(0, &attribute) {
            Ok(found) => found,
            Err(Errno::NODEV) => return Err(OpenError::NoDevice),
            Err(errno) => return Err(OpenError::Kernel { step: "describe the interface", errno }),
        };
        if let Some(queues) = channels(&interfaces.socket, name) {
            found.queues = queues;
        }
        Ok(found)
    }

    /// Whether it carries packets now.
    ///
    /// # Errors
    /// [`DeviceError::Down`].
    pub fn carries(&self) -> Result<(), DeviceError> {
        if self.up && self.carrier { Ok(()) } else { Err(DeviceError::Down) }
    }
}

impl Interfaces {
    /// A socket in this thread's namespace.
    ///
    /// # Errors
    /// [`OpenError::Kernel`].
    pub fn new() -> Result<Self, OpenError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Without a protocol: NETLINK_ROUTE, whose number is 0.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)
            .map_err(|errno| OpenError::Kernel { step: "open a netlink socket", errno })?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks again for an interface.
    ///
    /// # Errors
    /// [`DeviceError::Gone`], [`DeviceError::Kernel`].
    ///
    /// # Cost
    /// Two system calls, no wait.
    pub fn look(&mut self, index: u32) -> Result<Interface, DeviceError> {
        self.ask(index, &[]).map_err(|errno| match errno {
            Errno::NODEV => DeviceError::Gone,
            other => DeviceError::Kernel(other),
        })
    }

    fn ask(&mut self, index: u32, attribute: &[u8]) -> Result<Interface, Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let len = HEADER + LINK + attribute.len();
        let mut request = vec![0u8; len];
        request[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        request[4..6].copy_from_slice(&GET_LINK.to_ne_bytes());
        request[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
        request[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        request[HEADER + 4..HEADER + 8].copy_from_slice(&index.to_ne_bytes());
        request[HEADER + LINK..].copy_from_slice(attribute);
        sendto(&self.socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = vec![0u8; ANSWER];
        // The kernel answers before sendto returns. What is left of earlier questions is passed over.
        for _ in 0..4 {
            let (got, _) = recv(&self.socket, &mut answer[..], RecvFlags::DONTWAIT)?;
            if let Some(result) = parse(&answer[..got.min(ANSWER)], self.sequence) {
                return result;
            }
        }
        Err(Errno::PROTO)
    }
}

/// The answer to question `sequence`, if the message is one.
fn parse(message: &[u8], sequence: u32) -> Option<Result<Interface, Errno>> {
    let len = word(message, 0)? as usize;
    let body = message.get(HEADER..len)?;
    if word(message, 8)? != sequence {
        return None;
    }
    match half(message, 4)? {
        ERROR => Some(Err(Errno::from_raw_os_error(-(word(body, 0)? as i32)))),
        NEW_LINK => link(body).map(Ok),
        _ => None,
    }
}

fn link(body: &[u8]) -> Option<Interface> {
    let flags = word(body, 8)?;
    let mut found = Interface {
        index: word(body, 4)?,
        up: flags & UP != 0,
        carrier: flags & LOWER_UP != 0,
        queues: 1,
        ..Interface::default()
    };
    for (kind, value) in attributes(body.get(LINK..)?) {
        match kind {
            ADDRESS if value.len() == 6 => found.mac.copy_from_slice(value),
            MTU => found.mtu = word(value, 0)? as usize,
            RX_QUEUES => found.queues = word(value, 0)?,
            LINK_INFO => {
                found.virtual_device = attributes(value).any(|(kind, _)| kind == INFO_KIND);
            }
            XDP => found.programs = programs(value),
            _ => {}
        }
    }
    Some(found)
}

fn programs(xdp: &[u8]) -> Vec<u32> {
    let mut programs: Vec<u32> = attributes(xdp)
        .filter(|(kind, _)| *kind == XDP_PROGRAM || XDP_PROGRAMS.contains(kind))
        .filter_map(|(_, value)| word(value, 0))
        .filter(|id| *id != 0)
        .collect();
    programs.dedup();
    programs
}

/// The attributes of a message, as far as they are whole.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(half(bytes, 0)?);
        let kind = half(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

const GET_CHANNELS: u32 = 0x3c;

/// `struct ethtool_channels`: the command, four maxima, and how many there are of each kind.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    most: [u32; 4],
    receive: u32,
    transmit: u32,
    other: u32,
    combined: u32,
}

#[repr(C)]
struct Request {
    name: [u8; MAX_NAME + 1],
    data: *mut c_void,
    padding: [u8; 16],
}

/// How many queues are in use, where the interface's driver says so: more may have been set aside.
fn channels(socket: &OwnedFd, name: &str) -> Option<u32> {
    let mut channels = Channels { command: GET_CHANNELS, ..Channels::default() };
    let mut request =
        Request { name: [0; MAX_NAME + 1], data: (&raw mut channels).cast(), padding: [0; 16] };
    request.name.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    // SAFETY: the structures that SIOCETHTOOL reads and writes for this command (invariant 1).
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), 0x8946, &raw mut request) };
    let queues = channels.receive.max(channels.transmit).saturating_add(channels.combined);
    (done == 0 && queues > 0).then_some(queues)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_found_by_name_and_number() {
        let lo = Interface::find("lo").expect("every namespace has one");
        assert_eq!((lo.index, lo.mac, lo.mtu > 1500), (1, [0; 6], true));
        let again = Interfaces::new().expect("a socket").look(1).expect("there");
        assert_eq!((again.index, again.mtu), (lo.index, lo.mtu));
    }

    #[test]
    fn what_is_not_there_is_said_to_be_so() {
        assert_eq!(Interface::find("unet-none0").err(), Some(OpenError::NoDevice));
        for name in ["", "a/b", "a b", "longer-than-any-name"] {
            assert!(matches!(Interface::find(name), Err(OpenError::BadValue(_))), "{name}");
        }
        let gone = Interfaces::new().expect("a socket").look(u32::MAX >> 1);
        assert_eq!(gone, Err(DeviceError::Gone));
    }

    #[test]
    fn an_answer_cut_anywhere_is_no_answer_and_no_panic() {
        let mut message = vec![0u8; 32 + 12];
        message[..4].copy_from_slice(&44u32.to_ne_bytes());
        message[4..6].copy_from_slice(&NEW_LINK.to_ne_bytes());
        message[8..12].copy_from_slice(&7u32.to_ne_bytes());
        message[20..24].copy_from_slice(&3u32.to_ne_bytes());
        message[32..34].copy_from_slice(&10u16.to_ne_bytes());
        message[34..36].copy_from_slice(&ADDRESS.to_ne_bytes());
        message[36..42].copy_from_slice(&[1, 2, 3, 4, 5, 6]);
        let whole = parse(&message, 7).expect("an answer").expect("an interface");
        assert_eq!((whole.index, whole.mac), (3, [1, 2, 3, 4, 5, 6]));
        assert!((0..44).all(|cut| parse(&message[..cut], 7).is_none()));
        assert!(parse(&message, 8).is_none());
    }
}

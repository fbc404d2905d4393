//! Neighbours: what the kernel knows of them, and which of them are in use.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sendto, socket_with};
use unet::device::DeviceError;

use super::messages::{Message, Neighbour, attach, octets};
use super::socket::Netlink;

/// The most neighbours that are watched.
const WATCHED: usize = 4096;
/// How long one is watched that nobody has looked for.
const IN_USE: Duration = Duration::from_secs(120);
/// How soon the kernel is asked again to find out about one.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is asked between two calls of `maintain`.
const ASKS: usize = 64;
/// RFC 863.
const DISCARD: u16 = 9;

#[derive(Clone, Copy, Debug)]
struct Watched {
    mac: Option<[u8; 6]>,
    looked_for: Instant,
    asked: Option<Instant>,
    /// The kernel is to be told that it is in use.
    due: bool,
}

/// The neighbours of an interface that are in use.
#[derive(Debug)]
pub struct Neighbours {
    index: u32,
    watched: HashMap<IpAddr, Watched>,
    /// How often the kernel may still be asked before the next `maintain`.
    asks: usize,
}

impl Neighbours {
    /// Of an interface.
    pub fn new(index: u32) -> Self {
        Self { index, watched: HashMap::new(), asks: ASKS }
    }

    /// The Ethernet address of a neighbour, if the kernel has it, and whether it is to be asked to find
    /// out.
    ///
    /// # Errors
    /// [`DeviceError::Kernel`], if it does not answer.
    pub fn find(
        &mut self,
        requests: &mut Netlink,
        hop: IpAddr,
    ) -> Result<(Option<[u8; 6]>, bool), DeviceError> {
        let mut known = None;
        let body = self.request(hop, 0);
        let answer = requests.ask(libc::RTM_GETNEIGH, 0, &body, |message| {
            if let Message::Neighbour(neighbour) = message {
                known = Some(neighbour);
            }
        });
        match answer {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOBUFS | Errno::AGAIN | Errno::INTR) => return Err(DeviceError::Unresolved),
            Err(error) => return Err(DeviceError::Kernel(error)),
        }
        let mac = known.and_then(|known| known.usable_mac());
        let wanted = known.is_none_or(|known| wants_use(&known));
        self.watch(hop, mac);
        Ok((mac, wanted && self.may_ask(hop)))
    }

    /// Keeps a neighbour in mind that was looked for, unless there are too many.
    fn watch(&mut self, hop: IpAddr, mac: Option<[u8; 6]>) {
        let now = Instant::now();
        if let Some(watched) = self.watched.get_mut(&hop) {
            (watched.mac, watched.looked_for) = (mac, now);
            return;
        }
        if self.watched.len() < WATCHED {
            self.watched.insert(hop, Watched { mac, looked_for: now, asked: None, due: false });
        }
    }

    /// Whether the kernel may be asked now, and counts that it is.
    fn may_ask(&mut self, hop: IpAddr) -> bool {
        let mut watched = self.watched.get_mut(&hop);
        let asked = watched.as_ref().and_then(|watched| watched.asked);
        if self.asks == 0 || asked.is_some_and(|asked| asked.elapsed() < AGAIN) {
            return false;
        }
        self.asks -= 1;
        if let Some(watched) = &mut watched {
            watched.due = false;
            watched.asked = Some(Instant::now());
        }
        true
    }

    /// Takes note of what the kernel says of a neighbour. Whether that changes a way.
    pub fn note(&mut self, neighbour: &Neighbour) -> bool {
        let watched = neighbour.address.and_then(|address| self.watched.get_mut(&address));
        let Some(watched) = watched else { return false };
        let mac = neighbour.usable_mac();
        watched.due = wants_use(neighbour) && watched.looked_for.elapsed() < IN_USE;
        std::mem::replace(&mut watched.mac, mac) != mac
    }

    /// What was heard of neighbours may not be so any more: all that are in use are to be asked for.
    pub fn forget(&mut self) {
        for watched in self.watched.values_mut() {
            watched.due = watched.looked_for.elapsed() < IN_USE;
        }
    }

    /// Which neighbours the kernel is to be told of, as being in use: some of them. To be called now and
    /// then, and lets it be asked again.
    pub fn due(&mut self) -> Vec<IpAddr> {
        self.asks = ASKS;
        if self.watched.len() >= WATCHED {
            self.watched.retain(|_, watched| watched.looked_for.elapsed() < IN_USE);
        }
        let due = self.watched.iter().filter(|(_, watched)| watched.due);
        let due: Vec<_> = due.map(|(hop, _)| *hop).take(ASKS).collect();
        due.into_iter().filter(|hop| self.may_ask(*hop)).collect()
    }

    /// Tells the kernel that a neighbour is in use: it asks for its address, or confirms it in time.
    ///
    /// # Errors
    /// The kernel's: without CAP_NET_ADMIN it does not listen.
    pub fn use_now(&self, requests: &mut Netlink, hop: IpAddr) -> Result<(), Errno> {
        let body = self.request(hop, libc::NTF_USE);
        let flags = libc::NLM_F_CREATE | libc::NLM_F_ACK;
        requests.ask(libc::RTM_NEWNEIGH, flags, &body, |_| {})
    }

    fn request(&self, hop: IpAddr, flags: u8) -> Vec<u8> {
        let (family, bytes) = octets(hop);
        let mut body = vec![family, 0, 0, 0];
        body.extend(self.index.to_ne_bytes());
        body.extend([0, 0, flags, 0]);
        attach(&mut body, libc::NDA_DST, &bytes);
        body
    }
}

/// Whether the kernel has stopped looking after it.
fn wants_use(neighbour: &Neighbour) -> bool {
    matches!(neighbour.state, libc::NUD_NONE | libc::NUD_STALE | libc::NUD_FAILED)
}

/// Has the kernel send an empty datagram to a neighbour's discard port.
///
/// # Errors
/// The kernel's.
pub fn discard(hop: IpAddr, index: u32) -> Result<(), Errno> {
    let family = if hop.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    let to = match hop {
        IpAddr::V4(_) => SocketAddr::new(hop, DISCARD),
        IpAddr::V6(hop) => SocketAddrV6::new(hop, DISCARD, 0, index).into(),
    };
    sendto(&socket, &[], SendFlags::empty(), &to).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Option<[u8; 6]> = Some([2, 0, 0, 0, 0, 1]);

    fn hop(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn heard(number: u32, state: u16) -> Neighbour {
        Neighbour { index: 1, address: Some(hop(number)), state, mac: MAC }
    }

    #[test]
    fn the_kernel_is_asked_about_one_neighbour_once_a_while() {
        let mut neighbours = Neighbours::new(1);
        neighbours.watch(hop(1), None);
        assert!(neighbours.may_ask(hop(1)));
        assert!(!neighbours.may_ask(hop(1)));
    }

    #[test]
    fn the_kernel_is_asked_about_so_many_neighbours_at_a_time() {
        let mut neighbours = Neighbours::new(1);
        let mut asked = 0;
        for number in 0..10_000 {
            neighbours.watch(hop(number), None);
            asked += usize::from(neighbours.may_ask(hop(number)));
        }
        assert_eq!((asked, neighbours.watched.len()), (ASKS, WATCHED));
        neighbours.forget();
        // Those that were just asked about are among the ones that are due, or not.
        assert!(neighbours.due().len() <= ASKS);
        assert!(neighbours.asks <= ASKS);
    }

    #[test]
    fn one_that_cannot_be_watched_is_asked_about_all_the_same() {
        let mut neighbours = Neighbours::new(1);
        (0..WATCHED as u32 + 1).for_each(|number| neighbours.watch(hop(number), None));
        assert!(!neighbours.watched.contains_key(&hop(WATCHED as u32)));
        assert!(neighbours.may_ask(hop(WATCHED as u32)));
    }

    #[test]
    fn a_neighbour_in_use_is_told_of_before_it_is_forgotten_and_another_is_not() {
        let mut neighbours = Neighbours::new(1);
        neighbours.watch(hop(1), MAC);
        assert!(!neighbours.note(&heard(2, libc::NUD_STALE)));
        assert!(neighbours.due().is_empty());
        assert!(!neighbours.note(&heard(1, libc::NUD_STALE)), "it is usable as before");
        assert_eq!(neighbours.due(), [hop(1)]);
        assert!(neighbours.due().is_empty());
    }

    #[test]
    fn only_another_address_or_its_loss_is_a_change() {
        let mut neighbours = Neighbours::new(1);
        neighbours.watch(hop(1), MAC);
        assert!(!neighbours.note(&heard(1, libc::NUD_DELAY)));
        assert!(neighbours.note(&heard(1, libc::NUD_FAILED)));
        assert!(!neighbours.note(&heard(1, libc::NUD_INCOMPLETE)));
        assert!(neighbours.note(&heard(1, libc::NUD_REACHABLE)));
        let moved = Neighbour { mac: Some([4; 6]), ..heard(1, libc::NUD_REACHABLE) };
        assert!(neighbours.note(&moved));
    }
}

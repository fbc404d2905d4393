//! Ways to destinations by the kernel's word: its routes, neighbours and addresses, by rtnetlink.
//!
//! The kernel owns the interface: it has the addresses, and it asks neighbours for their Ethernet address
//! and answers them. Here is only looked up what it knows. What it does not know it is asked to find out
//! (`NTF_USE`; without CAP_NET_ADMIN by an empty datagram to the discard port), and as our packets pass
//! it by, it is told of neighbours that are in use before it forgets them.

mod messages;
mod neighbours;
mod socket;

use std::net::IpAddr;

use rustix::io::Errno;
use unet::device::{DeviceError, OpenError, Route, Routes};

use messages::{Address, Link, Message, Way, attach, octets};
use neighbours::Neighbours;
use socket::Netlink;

/// How many datagrams of notices one call of [`Routes::maintain`] reads.
const NOTICES: usize = 128;
/// The most local addresses.
const ADDRESSES: usize = 1024;
/// How often a list is read again that changed while it was read.
const ATTEMPTS: usize = 3;
const GROUPS: i32 = libc::RTMGRP_LINK
    | libc::RTMGRP_NEIGH
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV6_ROUTE;

/// The ways that the kernel knows over one interface, of the network namespace in which it was opened.
#[derive(Debug)]
pub struct KernelRoutes {
    index: u32,
    requests: Netlink,
    notices: Netlink,
    link: Link,
    local: Vec<IpAddr>,
    neighbours: Neighbours,
    /// Something changed that [`Routes::maintain`] has not told yet.
    changed: bool,
    /// What must be read again: the interface, its addresses.
    link_due: bool,
    addresses_due: bool,
}

impl KernelRoutes {
    /// Opens the kernel's tables for an interface.
    ///
    /// # Errors
    /// [`OpenError::NoDevice`]; [`OpenError::Unsupported`] if it has no Ethernet addresses.
    ///
    /// # Cost
    /// Some ten system calls.
    pub fn open(interface: &str) -> Result<Self, OpenError> {
        // IFNAMSIZ, with the zero behind it.
        if interface.is_empty() || interface.len() > 15 || interface.contains('\0') {
            return Err(OpenError::NoDevice);
        }
        let refused = |step| move |errno| OpenError::Kernel { step, errno };
        let socket = refused("open a netlink socket");
        // First to be told of changes, then to read what is.
        let notices = Netlink::new(GROUPS as u32).map_err(socket)?;
        let mut requests = Netlink::new(0).map_err(socket)?;
        let mut body = vec![0; 16];
        attach(&mut body, libc::IFLA_IFNAME, &[interface.as_bytes(), &[0]].concat());
        let link = read_link(&mut requests, &body).map_err(|errno| match errno {
            Errno::NODEV => OpenError::NoDevice,
            errno => refused("say what the interface is")(errno),
        })?;
        if link.kind != libc::ARPHRD_ETHER {
            return Err(OpenError::Unsupported("it has no Ethernet addresses: take another one"));
        }
        let (local, neighbours) = (Vec::new(), Neighbours::new(link.index));
        let index = link.index;
        let (changed, link_due, addresses_due) = (false, false, false);
        let mut routes = Self {
            index,
            requests,
            notices,
            link,
            local,
            neighbours,
            changed,
            link_due,
            addresses_due,
        };
        routes.read_addresses().map_err(refused("list the interface's addresses"))?;
        Ok(routes)
    }

    /// The interface's number.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The most bytes of a packet on the interface, as of the last [`Routes::maintain`].
    pub fn mtu(&self) -> usize {
        self.link.mtu.map_or(0, |mtu| mtu as usize)
    }

    fn state(&self) -> Result<(), DeviceError> {
        // Lower up is the carrier.
        const NEEDED: u32 = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
        if self.link.gone {
            Err(DeviceError::Gone)
        } else if self.link.flags & NEEDED != NEEDED {
            Err(DeviceError::Down)
        } else {
            Ok(())
        }
    }

    /// Reads anew what the interface is.
    fn read_link(&mut self) -> Result<(), Errno> {
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&self.index.to_ne_bytes());
        match read_link(&mut self.requests, &body) {
            Ok(link) => self.link = link,
            Err(Errno::NODEV) => self.link.gone = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads anew which addresses the interface has. What was known stays where that fails.
    fn read_addresses(&mut self) -> Result<(), Errno> {
        let (mut found, mut all) = (Err(Errno::INTR), Vec::new());
        for _ in 0..ATTEMPTS {
            all.clear();
            let (local, index) = (&mut all, self.index);
            found = self.requests.ask(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; 8], |message| {
                if let Message::Address(Address { index: on, usable: true, address }) = message
                    && on == index
                    && local.len() < ADDRESSES
                {
                    local.extend(address);
                }
            });
            if found != Err(Errno::INTR) {
                break;
            }
        }
        found?;
        self.local = all;
        Ok(())
    }

    /// What the kernel says of a destination; over this interface only, or over the best one.
    fn look_up(&mut self, to: IpAddr, here: bool, flags: u32) -> Result<Way, Errno> {
        let (family, bytes) = octets(to);
        let mut body = vec![family, bytes.len() as u8 * 8, 0, 0, 0, 0, 0, 0];
        body.extend(flags.to_ne_bytes());
        attach(&mut body, libc::RTA_DST, &bytes);
        if here {
            attach(&mut body, libc::RTA_OIF, &self.index.to_ne_bytes());
        }
        let mut found = None;
        self.requests.ask(libc::RTM_GETROUTE, 0, &body, |message| {
            if let Message::Way(way) = message {
                found = Some(way);
            }
        })?;
        found.ok_or(Errno::PROTO)
    }

    /// The way to a destination over this interface.
    fn way(&mut self, to: IpAddr) -> Result<Way, DeviceError> {
        let is_ours = |way: &Way, index| way.index == Some(index) && way.kind == libc::RTN_UNICAST;
        if to.is_ipv4() {
            match self.look_up(to, false, 0) {
                Ok(way) if is_ours(&way, self.index) => return Ok(way),
                // Its own, everybody's, or many's: on no interface is there a way.
                Ok(way) if way.kind != libc::RTN_UNICAST => return Err(DeviceError::Unreachable),
                Ok(_) => {}
                Err(error) => return Err(unreachable(error)),
            }
            // Another interface is better, but a table may have a way over this one too. Asked for an
            // interface, the kernel would make one up, unless it is asked for the table's entry.
            self.look_up(to, true, libc::RTM_F_FIB_MATCH).map_err(unreachable)?;
        }
        let way = self.look_up(to, true, 0).map_err(unreachable)?;
        if is_ours(&way, self.index) { Ok(way) } else { Err(DeviceError::Unreachable) }
    }

    /// Has the kernel find out, or confirm, a neighbour's Ethernet address.
    fn have_asked(&mut self, hop: IpAddr) {
        if self.neighbours.use_now(&mut self.requests, hop).is_ok() {
            return;
        }
        // Not permitted: have the kernel send something there, if it would go this way.
        let here = self.look_up(hop, hop.is_ipv6(), 0);
        if here.is_ok_and(|way| way.index == Some(self.index)) {
            // What comes of it shows later.
            _ = neighbours::discard(hop, self.index);
        }
    }

    fn note(&mut self, message: &Message) -> Noted {
        match message {
            Message::Link(link) if link.index == self.index => {
                // What is not said stays.
                let link = Link { mtu: link.mtu.or(self.link.mtu), ..*link };
                self.changed |= link != self.link;
                self.link = link;
            }
            Message::Address(address) if address.index == self.index => return Noted::Addresses,
            Message::Way(_) => self.changed = true,
            Message::Neighbour(neighbour) if neighbour.index == self.index => {
                self.changed |= self.neighbours.note(neighbour);
            }
            _ => {}
        }
        Noted::Nothing
    }
}

#[derive(PartialEq, Eq)]
enum Noted {
    Nothing,
    /// The addresses must be read again.
    Addresses,
}

fn read_link(requests: &mut Netlink, body: &[u8]) -> Result<Link, Errno> {
    let mut found = None;
    requests.ask(libc::RTM_GETLINK, 0, body, |message| {
        if let Message::Link(link) = message {
            found = Some(link);
        }
    })?;
    found.ok_or(Errno::PROTO)
}

/// What it means that the kernel knows no way.
fn unreachable(errno: Errno) -> DeviceError {
    match errno {
        Errno::NOBUFS | Errno::AGAIN | Errno::INTR | Errno::NOMEM => DeviceError::Unresolved,
        Errno::PERM => DeviceError::Kernel(errno),
        // No route, or one that forbids.
        _ => DeviceError::Unreachable,
    }
}

impl Routes for KernelRoutes {
    fn resolve(&mut self, to: IpAddr) -> Result<Route, DeviceError> {
        self.state()?;
        let way = self.way(to)?;
        let source = way
            .source
            .or_else(|| self.local.iter().copied().find(|local| local.is_ipv4() == to.is_ipv4()));
        let source = source.ok_or(DeviceError::Unreachable)?;
        let hop = way.gateway.unwrap_or(to);
        let (mac, ask) = self.neighbours.find(&mut self.requests, hop)?;
        if ask {
            self.have_asked(hop);
        }
        let mac = mac.ok_or(DeviceError::Unresolved)?;
        let mtu = way.mtu.map_or(self.mtu(), |mtu| (mtu as usize).min(self.mtu()));
        Ok(Route { source, mac, mtu })
    }

    fn local(&self) -> &[IpAddr] {
        &self.local
    }

    fn maintain(&mut self) -> Result<bool, DeviceError> {
        let mut heard = Vec::new();
        let lost = self.notices.notices(NOTICES, |message| heard.push(message)).is_err();
        let mut stale = false;
        for message in &heard {
            stale |= self.note(message) == Noted::Addresses;
        }
        if lost {
            self.changed = true;
            self.neighbours.forget();
        }
        self.link_due |= lost;
        self.addresses_due |= lost || stale;
        // What the kernel does not tell now, such as a list that changes while it is read, it tells
        // another time: that is no reason to give the device up.
        if self.link_due && self.read_link().is_ok() {
            (self.link_due, self.changed) = (false, true);
        }
        if self.addresses_due && self.read_addresses().is_ok() {
            (self.addresses_due, self.changed) = (false, true);
        }
        for hop in self.neighbours.due() {
            self.have_asked(hop);
        }
        self.state()?;
        Ok(std::mem::take(&mut self.changed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_tell_now_is_asked_for_again_and_ends_nothing() {
        let flags = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
        let link = Link { index: 1, gone: false, kind: libc::ARPHRD_ETHER, flags, mtu: Some(1500) };
        let socket = || Netlink::new(0).expect("netlink is there");
        let mut routes = KernelRoutes {
            index: 1,
            requests: Netlink::deaf(),
            notices: socket(),
            link,
            local: vec!["192.0.2.1".parse().expect("an address")],
            neighbours: Neighbours::new(1),
            changed: false,
            link_due: true,
            addresses_due: true,
        };
        assert_eq!(routes.maintain(), Ok(false));
        assert_eq!(routes.local().len(), 1, "what was known stays");
        routes.requests = socket();
        assert_eq!(routes.maintain(), Ok(true));
        // They are those of the loopback interface, or none.
        assert!(routes.local().iter().all(|local| local.is_loopback()));
        assert_eq!((routes.link_due, routes.addresses_due), (false, false));
    }
}

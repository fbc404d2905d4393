//! A socket of its own for the only destination of a device that listens.
//!
//! The socket that everybody speaks to cannot be connected, and pays for it: the kernel looks the way up for
//! each datagram that is sent, and looks for the socket and checks the sender's address with each that
//! arrives. So the only destination that is open has a second socket at the same local address, connected to
//! it; the kernel prefers that one for what comes from there. Only one, and only while there is no other
//! destination: whoever else speaks waits for a few looks at it, and with two peers or more that would be
//! most of them. It is chosen and given up in `maintain`, so that no stranger has sockets opened faster than
//! that is called: at most every few milliseconds, however many channels are opened.
//!
//! Order: it is chosen, and given up, while nothing waits to be received or is on its way out. What came to
//! the open socket meanwhile is taken first. When it is given up, it is connected to its own address, from
//! where nobody sends; it is closed when what waits in it was taken, and before that nothing is taken
//! elsewhere. A peer that floods can put that off; the others have their turns as before.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use unet::device::{Count, Destination};

use crate::calls::{self, BURST, Held};
use crate::destinations::Entry;
use crate::name::Name;
use crate::peer::Peer;
use crate::port::Port;
use crate::socket;

/// Looks at the favoured socket for one at the open one, while nothing comes to that.
const FEW: u8 = 8;

/// One of the two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Open,
    Favoured,
}

impl Side {
    pub fn other(self) -> Self {
        if self == Self::Open { Self::Favoured } else { Self::Open }
    }
}

/// Which of the two sockets is looked at next.
#[derive(Clone, Copy, Debug)]
struct Turns {
    /// Looks at the favoured one before the next at the open one.
    favoured: u8,
    /// What the open one may still have that came before the favoured one was there.
    earlier: u8,
    /// Only the favoured one, until nothing is there.
    last: bool,
}

impl Turns {
    fn new() -> Self {
        Self { favoured: 0, earlier: BURST as u8, last: false }
    }

    #[inline(always)]
    fn next(&self) -> Side {
        if self.last || self.favoured > 0 { Side::Favoured } else { Side::Open }
    }

    #[inline(always)]
    fn looked(&mut self, side: Side, found: usize) {
        match side {
            Side::Favoured => self.favoured = self.favoured.saturating_sub(1),
            Side::Open if found == 0 => (self.favoured, self.earlier) = (FEW, 0),
            Side::Open if found < self.earlier.into() => self.earlier -= found as u8,
            // Turn about, while both have something.
            Side::Open => (self.favoured, self.earlier) = (1, 0),
        }
    }
}

/// The socket, and whose it is.
pub(crate) struct Favoured {
    pub socket: OwnedFd,
    peer: Peer,
    to: Destination,
    turns: Turns,
    /// The kernel's count of drops, as it was last read.
    drops: u32,
}

impl Favoured {
    /// Has it hear nothing new. Where that fails, as without its address, what comes between the last look
    /// and its end is lost.
    fn give_up(&mut self) {
        let own = socket::local(&self.socket).ok();
        match own.and_then(|own| Peer::connect(&self.socket, own).ok()) {
            Some(itself) => self.peer = itself,
            None => tracing::debug!("udp closes a socket that can still be sent to"),
        }
        self.turns.last = true;
    }

    /// Counts what the kernel dropped since the last time.
    pub fn dropped(&mut self) -> u32 {
        let Ok(Held { drops, .. }) = calls::held(&self.socket) else { return 0 };
        drops.wrapping_sub(std::mem::replace(&mut self.drops, drops))
    }
}

fn is_idle(socket: &OwnedFd) -> bool {
    calls::held(socket).is_ok_and(|held| held.received == 0 && held.sent == 0)
}

impl Port {
    /// Sees to it that the only destination is the favoured one, and that none is where there are several.
    ///
    /// # Cost
    /// Next to nothing where nothing changes; else some ten system calls.
    pub fn favour(&mut self) {
        self.look_for_sole_senders();
        let is_only = |to| self.destinations.is_only(to);
        let Some(favoured) = &mut self.favoured else {
            if !self.client
                && !self.unfavourable.is_some_and(is_only)
                && let Some(only) = self.destinations.only()
            {
                self.begin_to_favour(only);
            }
            return;
        };
        if favoured.turns.last || is_only(favoured.to) || !is_idle(&favoured.socket) {
            return;
        }
        favoured.give_up();
        if let Some(entry) = self.destinations.get_mut(favoured.to) {
            entry.favoured = false;
        }
    }

    fn begin_to_favour(&mut self, to: Destination) {
        if !is_idle(&self.socket) {
            return;
        }
        let Some(entry) = self.destinations.get_mut(to) else { return };
        let peer: SocketAddr = entry.address;
        match socket::beside(&self.socket, self.local, &self.options, peer) {
            Ok((socket, peer)) => {
                entry.favoured = true;
                self.favoured = Some(Favoured { socket, peer, to, turns: Turns::new(), drops: 0 });
            }
            Err(error) => {
                self.unfavourable = Some(to);
                tracing::debug!(%peer, %error, "udp goes on by one socket for all peers");
            }
        }
    }

    /// By which socket to send there, and whom the kernel must be told.
    #[inline(always)]
    pub fn way<'a>(&self, entry: &'a Entry) -> (Side, Option<&'a Name>) {
        match (entry.favoured, self.peer) {
            (true, _) => (Side::Favoured, None),
            (false, Some(_)) => (Side::Open, None),
            (false, None) => (Side::Open, Some(&entry.name)),
        }
    }

    /// From whom all comes that is received from a socket, if it is connected and that is certain.
    #[inline(always)]
    pub fn sole_sender(&self, side: Side) -> Option<SocketAddr> {
        let peer = match side {
            Side::Open => self.peer.as_ref(),
            Side::Favoured => self.favoured.as_ref().map(|favoured| &favoured.peer),
        };
        peer.and_then(Peer::sole)
    }

    /// Looks whether the sockets' senders are certain by now.
    fn look_for_sole_senders(&mut self) {
        if let Some(peer) = &mut self.peer {
            peer.look(&self.socket);
        }
        if let Some(favoured) = &mut self.favoured {
            favoured.peer.look(&favoured.socket);
        }
    }

    /// Whether the favoured socket is looked at next, or the open one.
    #[inline(always)]
    pub fn next_side(&self) -> Side {
        self.favoured.as_ref().map_or(Side::Open, |favoured| favoured.turns.next())
    }

    /// A socket, if there is that one.
    #[inline(always)]
    pub fn at(&self, side: Side) -> &OwnedFd {
        match (&self.favoured, side) {
            (Some(favoured), Side::Favoured) => &favoured.socket,
            _ => &self.socket,
        }
    }

    /// Takes note of how much a look found, errors and what is dropped among it.
    #[inline(always)]
    pub fn looked(&mut self, side: Side, found: usize) {
        let Some(favoured) = &mut self.favoured else { return };
        favoured.turns.looked(side, found);
        if favoured.turns.last && found == 0 {
            self.forget_favoured();
        }
    }

    /// Whether the favoured socket was given up, and is only there for what waits in it.
    pub fn has_last(&self) -> bool {
        self.favoured.as_ref().is_some_and(|favoured| favoured.turns.last)
    }

    /// Closes the favoured socket if it was given up and nothing waits in it.
    pub fn forget_last(&mut self) {
        if self.has_last() && is_idle(self.at(Side::Favoured)) {
            self.forget_favoured();
        }
    }

    #[cold]
    fn forget_favoured(&mut self) {
        if let Some(mut favoured) = self.favoured.take() {
            self.counted.add(Count::QueueFull, favoured.dropped().into());
            self.blocked = self.blocked.map(|_| Side::Open);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UdpOptions;

    /// The sides of so many looks, each of which finds so much at either side.
    fn sides(turns: &mut Turns, looks: usize, found: [usize; 2]) -> Vec<Side> {
        let look = |_| {
            let side = turns.next();
            turns.looked(side, found[side as usize]);
            side
        };
        (0..looks).map(look).collect()
    }

    #[test]
    fn neither_socket_waits_long_for_its_look() {
        let mut turns = Turns::new();
        assert_eq!(turns.next(), Side::Open, "what came before is taken first");
        for (open, favoured, looks_at_open) in
            [(0, 0, 10), (0, 1, 10), (0, BURST, 10), (1, 0, 45), (1, 1, 45), (BURST, BURST, 45)]
        {
            sides(&mut turns, 20, [open, favoured]);
            let sides = sides(&mut turns, 90, [open, favoured]);
            let at_open = sides.iter().filter(|side| **side == Side::Open).count();
            assert_eq!(at_open, looks_at_open, "{open} and {favoured} found");
        }
    }

    #[test]
    fn what_came_before_is_a_burst_at_most() {
        let mut turns = Turns::new();
        assert_eq!(sides(&mut turns, BURST, [1, 1]), [Side::Open; BURST]);
        assert_eq!(sides(&mut turns, 2, [1, 1]), [Side::Favoured, Side::Open]);
        let mut turns = Turns::new();
        assert_eq!(sides(&mut turns, 2, [BURST, 1]), [Side::Open, Side::Favoured]);
    }

    #[test]
    fn a_destination_that_cannot_be_favoured_is_spoken_to_all_the_same() {
        let options = UdpOptions { buffers: 8, ..UdpOptions::default() };
        let mut port = Port::open("127.0.0.1:0".parse().unwrap(), &options, false).unwrap();
        let local = port.local;
        let to = port.open_destination(local, 100).unwrap();
        // An address that is not this host's.
        port.local = "192.0.2.1:9".parse().unwrap();
        port.favour();
        assert!(port.favoured.is_none());
        let mut bytes = port.free_buffer().unwrap();
        bytes.truncate(100);
        assert!(port.send_one(to, bytes.freeze()).is_ok());
        // It is not tried again, nor can anybody share the port.
        port.local = local;
        port.favour();
        assert!(port.favoured.is_none());
        let shares = calls::option(&port.socket, libc::SOL_SOCKET, libc::SO_REUSEPORT);
        assert_eq!(shares, Ok(0));
    }
}

//! Whom a socket is connected to.
//!
//! Whatever arrives at a connected socket comes from there, unless it waited in it already. So once the
//! socket was seen empty, the kernel need not say who sent each datagram, which it takes its time for.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::calls;
use crate::name::Name;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    address: SocketAddr,
    /// Nothing waits any more that came before the socket was connected.
    alone: bool,
}

impl Peer {
    /// Connects a socket.
    pub fn connect(socket: &OwnedFd, to: SocketAddr) -> Result<Self, Errno> {
        rustix::net::connect(socket, &to)?;
        // As the kernel would say it: no address for any, nor labels of flows.
        let address = rustix::net::getpeername(socket)?.ok_or(Errno::NOTCONN)?;
        let name = Name::of(SocketAddr::try_from(address)?);
        Ok(Self { address: name.address().ok_or(Errno::AFNOSUPPORT)?, alone: false })
    }

    /// From whom all comes that is received from now on, if that is certain.
    #[inline(always)]
    pub fn sole(&self) -> Option<SocketAddr> {
        self.alone.then_some(self.address)
    }

    /// Looks whether it is.
    ///
    /// # Cost
    /// A system call, until it is.
    pub fn look(&mut self, socket: &OwnedFd) {
        self.alone = self.alone || calls::held(socket).is_ok_and(|held| held.received == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn who_was_there_before_is_not_taken_for_the_peer() {
        for host in ["127.0.0.1", "::1"] {
            let [peer, stranger, socket] = [(); 3].map(|()| UdpSocket::bind((host, 0)).unwrap());
            let to = peer.local_addr().unwrap();
            stranger.send_to(b"before", socket.local_addr().unwrap()).unwrap();
            let socket = OwnedFd::from(socket);
            let mut connected = Peer::connect(&socket, to).unwrap();
            connected.look(&socket);
            assert_eq!(connected.sole(), None, "{host}");
            calls::receive(&socket, &mut [0; 8], Some(&mut { Name::EMPTY })).unwrap();
            assert_eq!(connected.sole(), None, "{host}");
            connected.look(&socket);
            assert_eq!(connected.sole(), Some(to), "{host}");
            peer.send_to(b"after", crate::socket::local(&socket).unwrap()).unwrap();
            connected.look(&socket);
            assert_eq!(connected.sole(), Some(to), "{host}");
        }
    }

    #[test]
    fn an_address_for_any_is_the_one_that_was_meant() {
        let socket = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut connected = Peer::connect(&socket, "0.0.0.0:9".parse().unwrap()).unwrap();
        connected.look(&socket);
        assert_eq!(connected.sole(), Some("127.0.0.1:9".parse().unwrap()));
    }
}

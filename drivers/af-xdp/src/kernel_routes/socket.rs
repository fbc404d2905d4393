//! A netlink socket that never waits: requests with their answers, and notices.

use std::os::fd::OwnedFd;

use netlink_packet_core::NetlinkBuffer;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, sendto,
    socket_with,
};

use super::messages::{self, Message};

/// The most bytes that one message of the kernel has, and then some.
const BUFFER: usize = 64 << 10;
/// The most reads for one answer: some ten thousand addresses.
const READS: usize = 256;
const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;

/// What a datagram of the kernel holds, one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A message.
    Message(Message),
    /// One of no interest, or garbled.
    Nothing,
    /// The end of an answer: as it should be, or why not.
    End(Result<(), Errno>),
}

/// Takes a datagram apart: sequence numbers, and what was said. Ends where it is garbled.
pub fn take_apart(datagram: &[u8]) -> impl Iterator<Item = (u32, Said)> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let len = (message.length() as usize).next_multiple_of(4).min(rest.len());
        let body = message.payload();
        let said = match message.message_type() {
            NLMSG_ERROR => Said::End(code(body).ok_or(Errno::PROTO).and_then(result)),
            // An answer that something changed under is no answer.
            NLMSG_DONE if message.flags() & libc::NLM_F_DUMP_INTR as u16 != 0 => {
                Said::End(Err(Errno::INTR))
            }
            NLMSG_DONE => Said::End(code(body).map_or(Ok(()), result)),
            kind => messages::read(kind, body).map_or(Said::Nothing, Said::Message),
        };
        rest = &rest[len..];
        Some((message.sequence_number(), said))
    })
}

fn code(body: &[u8]) -> Option<i32> {
    body.first_chunk().map(|code| i32::from_ne_bytes(*code))
}

fn result(code: i32) -> Result<(), Errno> {
    match code.checked_neg() {
        Some(0) => Ok(()),
        Some(errno @ 1..4096) => Err(Errno::from_raw_os_error(errno)),
        _ => Err(Errno::PROTO),
    }
}

/// The socket.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket that is told of some groups (`RTMGRP_*`).
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(groups: u32) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        // NETLINK_ROUTE is the protocol zero.
        let fd = socket_with(family, kind, flags, None)?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { fd, buffer: vec![0; BUFFER], sequence: 0 })
    }

    /// One that the kernel does not listen to.
    #[cfg(test)]
    pub fn deaf() -> Self {
        let file = std::fs::File::open("/dev/null").expect("it is there");
        Self { fd: file.into(), buffer: vec![0; BUFFER], sequence: 0 }
    }

    /// Asks the kernel, and hands its answers to `each`: one, or all there are of a dump.
    ///
    /// # Errors
    /// The kernel's answer; [`Errno::INTR`] if something changed meanwhile.
    ///
    /// # Cost
    /// Two system calls, more for a dump. The kernel answers before the first returns.
    pub fn ask(
        &mut self,
        kind: u16,
        flags: i32,
        body: &[u8],
        mut each: impl FnMut(Message),
    ) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        let mut request = ((body.len() + 16) as u32).to_ne_bytes().to_vec();
        request.extend(kind.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend([0; 4]);
        request.extend(body);
        sendto(&self.fd, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let is_many = flags & libc::NLM_F_DUMP as u16 != 0;
        for _ in 0..READS {
            let Some(len) = self.read()? else { continue };
            for (sequence, said) in take_apart(&self.buffer[..len]) {
                match said {
                    _ if sequence != self.sequence => {}
                    Said::End(result) => return result,
                    Said::Message(message) => {
                        each(message);
                        if !is_many {
                            return Ok(());
                        }
                    }
                    Said::Nothing if !is_many => return Err(Errno::PROTO),
                    Said::Nothing => {}
                }
            }
        }
        Err(Errno::NOBUFS)
    }

    /// Hands what the kernel told meanwhile to `each`, at most `reads` datagrams of it.
    ///
    /// # Errors
    /// [`Errno::NOBUFS`] if some of it was lost.
    ///
    /// # Cost
    /// A system call for each datagram, and one.
    pub fn notices(&mut self, reads: usize, mut each: impl FnMut(Message)) -> Result<(), Errno> {
        for _ in 0..reads {
            let len = match self.read() {
                Ok(Some(len)) => len,
                Ok(None) => continue,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            };
            for (_, said) in take_apart(&self.buffer[..len]) {
                if let Said::Message(message) = said {
                    each(message);
                }
            }
        }
        Ok(())
    }

    /// Reads a datagram; `None` if it is not the kernel's.
    fn read(&mut self) -> Result<Option<usize>, Errno> {
        let (_, len, from) = recvfrom(&self.fd, &mut self.buffer[..], RecvFlags::TRUNC)?;
        let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
        if from.is_none_or(|from| from.pid() != 0) {
            return Ok(None);
        }
        if len > self.buffer.len() { Err(Errno::NOBUFS) } else { Ok(Some(len)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((body.len() + 16) as u32).to_ne_bytes().to_vec();
        bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn said(datagram: &[u8]) -> Vec<(u32, Said)> {
        take_apart(datagram).collect()
    }

    #[test]
    fn an_error_is_the_kernels_and_zero_is_none() {
        for (code, expected) in [
            (0, Ok(())),
            (-libc::ENETUNREACH, Err(Errno::NETUNREACH)),
            (5, Err(Errno::PROTO)),
            (i32::MIN, Err(Errno::PROTO)),
            (-5000, Err(Errno::PROTO)),
        ] {
            let datagram = message(NLMSG_ERROR, 0, 7, &i32::to_ne_bytes(code));
            assert_eq!(said(&datagram), [(7, Said::End(expected))]);
        }
        assert_eq!(said(&message(NLMSG_ERROR, 0, 7, &[1])), [(7, Said::End(Err(Errno::PROTO)))]);
    }

    #[test]
    fn a_list_that_changed_while_it_was_read_is_none() {
        assert_eq!(said(&message(NLMSG_DONE, 0, 1, &[0; 4])), [(1, Said::End(Ok(())))]);
        assert_eq!(
            said(&message(NLMSG_DONE, 0x10, 1, &[0; 4])),
            [(1, Said::End(Err(Errno::INTR)))]
        );
    }

    #[test]
    fn messages_come_one_by_one_until_one_is_garbled() {
        let mut datagram = message(99, 0, 1, &[1, 2, 3]);
        datagram.extend(message(NLMSG_DONE, 0, 2, &[]));
        assert_eq!(said(&datagram), [(1, Said::Nothing), (2, Said::End(Ok(())))]);
        for wrong in [0u32, 1, 15, 1000, u32::MAX] {
            let mut datagram = message(99, 0, 1, &[]);
            datagram.extend(wrong.to_ne_bytes());
            datagram.resize(60, 0);
            assert_eq!(said(&datagram), [(1, Said::Nothing)]);
        }
    }

    #[test]
    fn a_datagram_cut_anywhere_ends_there() {
        let mut datagram = message(libc::RTM_NEWLINK, 0, 1, &[0; 16]);
        let len = datagram.len();
        datagram.extend(message(NLMSG_ERROR, 0, 2, &[0; 20]));
        for cut in 0..datagram.len() {
            assert_eq!(said(&datagram[..cut]).len(), usize::from(cut >= len));
        }
    }

    #[test]
    fn the_kernel_answers_in_one_call() {
        let mut netlink = Netlink::new(0).expect("netlink is there");
        let mut links = 0;
        let body = [0; 16];
        let listed = netlink.ask(libc::RTM_GETLINK, libc::NLM_F_DUMP, &body, |message| {
            links += usize::from(matches!(message, Message::Link(_)));
        });
        assert_eq!(listed, Ok(()));
        assert!(links >= 1, "there is a loopback interface");
        let nowhere = [&[0; 4], &i32::MAX.to_ne_bytes()[..], &[0; 8]].concat();
        let none = netlink.ask(libc::RTM_GETLINK, 0, &nowhere, |_| {});
        assert_eq!(none, Err(Errno::NODEV));
    }
}

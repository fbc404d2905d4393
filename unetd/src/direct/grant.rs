//! A queue that is lent.

use std::os::fd::{AsFd, BorrowedFd};

use driver_af_xdp::lent::message::Request;
use driver_af_xdp::port::Reservation;
use segment::control::{Frame, Kind, Socket};
use unet::Credentials;

use super::memory;
use super::store::{Of, Record};

/// Who has which queue. Dropping it hangs up and frees the port.
#[derive(Debug)]
pub(super) struct Grant {
    /// The connection, whose end is the grant's.
    pub socket: Socket,
    pub who: Credentials,
    /// What it came to: with the queue, and the port.
    pub request: Request,
    pub interface: u32,
    pub queue: u32,
    pub reservation: Reservation,
}

impl Grant {
    /// How many bytes the client has pinned.
    pub fn bytes(&self) -> u64 {
        memory::bytes(&self.request).unwrap_or(0)
    }

    /// What the keeper is to know.
    pub fn about(&self) -> Option<Vec<u8>> {
        let Credentials { pid, uid, gid } = self.who;
        let words = [self.interface, self.queue, pid, uid, gid];
        let mut about: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        about.extend_from_slice(self.request.frame()?.private());
        Some(about)
    }

    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.socket.as_fd(), self.reservation.as_fd()]
    }

    /// What a worker left that died.
    pub fn adopt(record: Record) -> Option<Self> {
        debug_assert_eq!(Of::numbered(record.of), Some(Of::Grant));
        let word = |at: usize| {
            let bytes = record.about.get(4 * at..4 * at + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let (interface, queue) = (word(0)?, word(1)?);
        let who = Credentials { pid: word(2)?, uid: word(3)?, gid: word(4)? };
        let request = Frame::new(Kind::Hello, 0, 0, record.about.get(20..)?)?;
        let request = Request::of(&request)?;
        let [socket, reserved] = <[_; 2]>::try_from(record.descriptors).ok()?;
        let reservation = Reservation::adopt(reserved, request.port);
        Some(Self { socket: socket.into(), who, request, interface, queue, reservation })
    }
}

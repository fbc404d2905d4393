//! A device of datagrams over a socket of the standard library, which can be told to do something wrong.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use fbufs::{Class, MAX_CLASSES};
use unet::device::{
    Capabilities, Count, Datagrams, Destination, Device, DeviceError, Mode, Outgoing, Piece,
    Received, Statistics,
};
use unet::{FbufMut, Pool, PoolOptions};

/// What the device does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    DropsWithoutCounting,
    Duplicates,
    Reorders,
    LeaksBuffers,
    CorruptsAByte,
    WritesIntoHeldBuffers,
    CountsReceivedTwice,
    CountsSentTwice,
    ForgetsBytes,
    SendsForeignBuffers,
    SwallowsOversize,
    BlocksOnOversize,
    AlwaysReadable,
    NeverReadable,
    StopsWhenStarved,
    ForgetsToClose,
    FewDestinations,
    SendsToClosed,
    TruncatesLong,
}

pub struct Sockets {
    socket: UdpSocket,
    /// Whose other end nobody reads: readable or not for ever.
    stuck: Option<std::os::unix::net::UnixStream>,
    _other: Option<std::os::unix::net::UnixStream>,
    fault: Fault,
    pool: Pool,
    said: Statistics,
    destinations: Vec<Option<SocketAddr>>,
    packets: u64,
    leaked: Vec<FbufMut>,
    late: Option<Received>,
    /// The last buffer handed out, by number, and whether the device has given up.
    starved: bool,
}

const MTU: usize = 1400;
const BUFFER: usize = 2048;
const BURST: usize = 32;

impl Sockets {
    pub fn new(fault: Fault) -> Result<Self, String> {
        let tell = |error: std::io::Error| error.to_string();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(tell)?;
        socket.set_nonblocking(true).map_err(tell)?;
        let mut options =
            PoolOptions { classes: [Class::default(); MAX_CLASSES], ..Default::default() };
        options.classes[0] = Class { buffer_bytes: BUFFER as u32, buffers: 64 };
        let (mut stuck, mut other) = (None, None);
        if matches!(fault, Fault::AlwaysReadable | Fault::NeverReadable) {
            let (one, two) = std::os::unix::net::UnixStream::pair().map_err(tell)?;
            if fault == Fault::AlwaysReadable {
                std::io::Write::write_all(&mut &two, b"!").map_err(tell)?;
            }
            (stuck, other) = (Some(one), Some(two));
        }
        Ok(Self {
            socket,
            stuck,
            _other: other,
            fault,
            pool: Pool::new(options).map_err(|error| error.to_string())?,
            said: Statistics::default(),
            destinations: Vec::new(),
            packets: 0,
            leaked: Vec::new(),
            late: None,
            starved: false,
        })
    }

    pub fn port(&self) -> u16 {
        self.local().port()
    }

    fn send_one(&mut self, to: Option<SocketAddr>, pieces: &[Outgoing]) {
        let [Outgoing { piece, .. }] = pieces else { return self.said.add(Count::Malformed, 1) };
        let foreign = !self.pool.owns(&piece.bytes) && self.fault != Fault::SendsForeignBuffers;
        let Some(to) = to.filter(|_| !foreign) else { return self.said.add(Count::Malformed, 1) };
        if piece.bytes.len() > MTU {
            let count = u64::from(self.fault != Fault::SwallowsOversize);
            return self.said.add(Count::TooLong, count);
        }
        self.packets += 1;
        let tenth = self.packets.is_multiple_of(10);
        let sent = match self.fault {
            Fault::DropsWithoutCounting if tenth => Ok(0),
            Fault::TruncatesLong if piece.bytes.len() > 1000 => {
                self.socket.send_to(&piece.bytes[..1000], to)
            }
            _ => self.socket.send_to(&piece.bytes, to),
        };
        let times = 1 + u64::from(tenth && self.fault == Fault::CountsSentTwice);
        match sent {
            Ok(_) => {
                self.said.add(Count::Sent, times);
                let bytes = if self.fault == Fault::ForgetsBytes { 0 } else { piece.bytes.len() };
                self.said.add(Count::SentBytes, bytes as u64);
            }
            Err(_) => self.said.add(Count::Failed, 1),
        }
    }

    fn hand_over(&mut self, mut received: Received, into: &mut Vec<Received>) {
        self.packets += 1;
        let tenth = self.packets.is_multiple_of(10);
        let bytes = &mut received.piece.bytes;
        let mut copy = None;
        match self.fault {
            Fault::CorruptsAByte if tenth && !bytes.is_empty() => {
                let last = bytes.len() - 1;
                bytes[last] ^= 4;
            }
            Fault::LeaksBuffers if tenth => self.leaked.extend(self.pool.alloc(0).ok()),
            Fault::Duplicates if tenth => copy = self.pool.alloc(bytes.len()).ok(),
            _ => {}
        }
        let times = 1 + u64::from(tenth && self.fault == Fault::CountsReceivedTwice);
        self.said.add(Count::Received, times);
        self.said.add(Count::ReceivedBytes, received.piece.bytes.len() as u64);
        if self.fault == Fault::Reorders && tenth {
            self.late = Some(received);
            return;
        }
        if let Some(mut copy) = copy {
            copy.copy_from_slice(&received.piece.bytes);
            self.said.add(Count::Received, 1);
            self.said.add(Count::ReceivedBytes, copy.len() as u64);
            into.push(Received { from: received.from, piece: Piece::whole(copy) });
        }
        into.push(received);
    }
}

impl AsFd for Sockets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stuck.as_ref().map_or(self.socket.as_fd(), AsFd::as_fd)
    }
}

impl Device for Sockets {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mode: Mode::Sockets,
            mtu: MTU,
            headroom: 0,
            piece_bytes: BUFFER,
            pieces: 1,
            burst: BURST,
            stock: 0,
        }
    }

    fn statistics(&mut self) -> Statistics {
        self.said
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        Ok(true)
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

impl Datagrams for Sockets {
    fn local(&self) -> SocketAddr {
        self.socket.local_addr().expect("it was bound")
    }

    fn open(&mut self, to: SocketAddr) -> Result<Destination, DeviceError> {
        let free = self.destinations.iter().position(Option::is_none);
        let place = free.unwrap_or(self.destinations.len());
        let most = if self.fault == Fault::FewDestinations { 16 } else { 256 };
        if place >= most {
            return Err(DeviceError::TooManyDestinations);
        }
        self.destinations.resize(self.destinations.len().max(place + 1), None);
        self.destinations[place] = Some(to);
        Ok(Destination(place as u32))
    }

    fn close(&mut self, destination: Destination) {
        if let Some(place) = self.destinations.get_mut(destination.0 as usize)
            && !matches!(self.fault, Fault::ForgetsToClose | Fault::SendsToClosed)
        {
            *place = None;
        }
        if self.fault == Fault::SendsToClosed && self.destinations.len() > 200 {
            self.destinations.truncate(2);
        }
    }

    fn max_payload(&self, _: Destination) -> usize {
        MTU
    }

    fn transmit(&mut self, datagrams: &mut VecDeque<Outgoing>) -> Result<(), DeviceError> {
        while let Some(first) = datagrams.front() {
            if self.fault == Fault::BlocksOnOversize && first.piece.bytes.len() > MTU {
                return Ok(());
            }
            let to = self.destinations.get(first.to.0 as usize).copied().flatten();
            let last = datagrams.iter().position(|outgoing| !outgoing.piece.more);
            let Some(last) = last else { return Ok(()) };
            let pieces: Vec<Outgoing> = datagrams.drain(..=last).collect();
            self.send_one(to, &pieces);
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<Received>) -> Result<(), DeviceError> {
        for _ in 0..BURST {
            let Ok(mut bytes) = self.pool.alloc(BUFFER) else {
                self.starved |= self.fault == Fault::StopsWhenStarved;
                break;
            };
            if self.starved {
                break;
            }
            if self.fault == Fault::WritesIntoHeldBuffers
                && let Some(received) = into.last_mut()
                && !received.piece.bytes.is_empty()
            {
                received.piece.bytes[0] ^= 1;
            }
            match self.socket.recv_from(&mut bytes) {
                Ok((len, from)) => {
                    bytes.truncate(len);
                    let late = self.late.take();
                    self.hand_over(Received { from, piece: Piece::whole(bytes) }, into);
                    into.extend(late);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => break,
            }
        }
        Ok(())
    }
}

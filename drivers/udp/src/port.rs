//! What both paths have in common: the socket, the pool, the destinations, and what is counted.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;

use fbufs::{Class, Fbuf, FbufMut, Pool};
use rustix::io::Errno;
use unet::device::{
    Capabilities, Count, Destination, DeviceError, Mode, OpenError, Outgoing, Piece, Received,
    Statistics,
};

use crate::calls;
use crate::destinations::{Destinations, Entry};
use crate::favoured::{Favoured, Side};
use crate::options::UdpOptions;
use crate::path_mtu::{Probe, failure, largest_payload};
use crate::peer::Peer;
use crate::socket;

/// Destinations whose way is looked at again in one call of `maintain`.
const PROBES: usize = 4;

/// A bound socket and what belongs to it.
pub(crate) struct Port {
    pub socket: OwnedFd,
    pub local: SocketAddr,
    pub pool: Pool,
    pub counted: Statistics,
    /// The socket that had no room for what was last handed over.
    pub blocked: Option<Side>,
    pub destinations: Destinations,
    /// The socket of the only destination.
    pub favoured: Option<Favoured>,
    /// The last destination that could not have one.
    pub unfavourable: Option<Destination>,
    pub options: UdpOptions,
    /// It is a client's, who has one server as a rule: then only that one's datagrams are wanted, and the
    /// way there need not be looked up for each of them.
    pub client: bool,
    /// The only destination, to which the socket is connected.
    pub peer: Option<Peer>,
    probe: Probe,
    /// Where [`Port::maintain`] goes on.
    next_probe: usize,
    /// The last destination with no way there, until one is sent to.
    trouble: Option<(SocketAddr, DeviceError)>,
    /// The kernel's count of drops, as it was last read.
    drops: u32,
    /// The rest of a datagram in pieces is to be dropped.
    skipping: bool,
}

impl Port {
    pub fn open(local: SocketAddr, options: &UdpOptions, client: bool) -> Result<Self, OpenError> {
        let socket = socket::open(local, options, client)?;
        let local = socket::local(&socket)?;
        let kernel = |step| move |errno| OpenError::Kernel { step, errno };
        let probe = Probe::open(local).map_err(kernel("open a second socket"))?;
        let class = Class {
            buffer_bytes: options.buffer_bytes as u32,
            buffers: u32::try_from(options.buffers).unwrap_or(u32::MAX),
        };
        let pool = Pool::for_device(class, false).map_err(|_| OpenError::Unsupported(TOO_MANY))?;
        pool.seal().map_err(|_| OpenError::Unsupported(TOO_MANY))?;
        let held = calls::held(&socket).map_err(kernel("count dropped datagrams"))?;
        Ok(Self {
            socket,
            local,
            pool,
            counted: Statistics::default(),
            blocked: None,
            destinations: Destinations::default(),
            favoured: None,
            unfavourable: None,
            options: *options,
            client,
            peer: None,
            probe,
            next_probe: 0,
            trouble: None,
            drops: held.drops,
            skipping: false,
        })
    }

    /// What the device can do, with so many bytes of each buffer used by the path itself.
    pub fn capabilities(&self, mode: Mode, overhead: usize, stock: usize) -> Capabilities {
        Capabilities {
            mode,
            mtu: (self.options.buffer_bytes - overhead).min(largest_payload(self.local.is_ipv6())),
            headroom: 0,
            piece_bytes: self.options.buffer_bytes,
            pieces: 1,
            burst: calls::BURST,
            stock,
        }
    }

    /// A free buffer, all of it.
    #[inline(always)]
    pub fn free_buffer(&mut self) -> Option<FbufMut> {
        self.pool.alloc_to_receive(self.options.buffer_bytes)
    }

    pub fn open_destination(
        &mut self,
        to: SocketAddr,
        mtu: usize,
    ) -> Result<Destination, DeviceError> {
        let max_payload = self.probe.max_payload(to)?.min(mtu);
        let destination = self.destinations.open(to, max_payload)?;
        if self.client
            && let Err(errno) = self.connect(to)
        {
            self.destinations.close(destination);
            return Err(failure(errno));
        }
        Ok(destination)
    }

    /// Connects the socket to a destination if it is the only one, and else to none.
    fn connect(&mut self, to: SocketAddr) -> Result<(), Errno> {
        if self.destinations.count() == 1 {
            self.peer = Some(Peer::connect(&self.socket, to)?);
        } else if self.peer.is_some() {
            rustix::net::connect_unspec(&self.socket)?;
            self.peer = None;
        }
        Ok(())
    }

    pub fn close_destination(&mut self, destination: Destination) {
        self.destinations.close(destination);
    }

    pub fn max_payload(&self, destination: Destination) -> usize {
        self.destinations.get(destination).map_or(0, |entry| entry.max_payload)
    }

    /// Counts what the kernel dropped since the last time.
    pub fn statistics(&mut self) -> Statistics {
        if let Ok(held) = calls::held(&self.socket) {
            let more = held.drops.wrapping_sub(std::mem::replace(&mut self.drops, held.drops));
            self.counted.add(Count::QueueFull, u64::from(more));
        }
        if let Some(favoured) = &mut self.favoured {
            self.counted.add(Count::QueueFull, favoured.dropped().into());
        }
        self.counted
    }

    /// Looks at the ways to a few destinations again.
    pub fn maintain(&mut self, mtu: usize) -> Result<(), DeviceError> {
        // Read often enough that the kernel's 32 bits never come round unnoticed.
        self.statistics();
        let (mut looked, mut lost) = (0, 0);
        for _ in 0..PROBES {
            let (next, entry) = self.destinations.next(self.next_probe);
            self.next_probe = next;
            let Some(entry) = entry else { break };
            looked += 1;
            match self.probe.max_payload(entry.address) {
                Ok(max_payload) => entry.max_payload = max_payload.min(mtu),
                Err(_) => lost += 1,
            }
        }
        // No way leads anywhere any more, as when the interface is down: there was one to each of them.
        if looked > 0 && looked == lost {
            return Err(DeviceError::Down);
        }
        let Some((to, error)) = self.trouble else { return Ok(()) };
        if self.probe.max_payload(to).is_ok() {
            self.trouble = None;
            return Ok(());
        }
        Err(error)
    }

    /// Where a datagram goes; or why it is not sent.
    #[inline(always)]
    pub fn check(&self, datagram: &Outgoing) -> Result<&Entry, Count> {
        let piece = &datagram.piece;
        if piece.more { Err(Count::Malformed) } else { self.check_whole(datagram.to, &piece.bytes) }
    }

    /// As [`Port::check`], for one in one piece.
    #[inline(always)]
    fn check_whole(&self, to: Destination, bytes: &Fbuf) -> Result<&Entry, Count> {
        if self.skipping || !self.pool.owns(bytes) {
            return Err(Count::Malformed);
        }
        let entry = self.destinations.get(to).ok_or(Count::Unresolved)?;
        if bytes.range().len() > entry.max_payload { Err(Count::TooLong) } else { Ok(entry) }
    }

    /// Sends one datagram past all queues.
    ///
    /// # Errors
    /// The datagram, of which nothing was noted: sent by a queue, it is known what is wrong.
    #[inline(always)]
    pub fn send_one(&mut self, to: Destination, payload: Fbuf) -> Result<(), Fbuf> {
        let Ok(entry) = self.check_whole(to, &payload) else { return Err(payload) };
        if self.send(&payload, entry).is_err() {
            return Err(payload);
        }
        self.counted.add(Count::Kicks, 1);
        self.took(payload);
        Ok(())
    }

    /// Sends one datagram. If not, why, and which socket says so.
    #[inline(always)]
    fn send(&self, bytes: &[u8], entry: &Entry) -> Result<usize, (Side, Errno)> {
        let (side, name) = self.way(entry);
        match calls::send(self.at(side), bytes, name) {
            Ok(sent) => Ok(sent),
            // What came back about a datagram that was sent before: this one was not tried yet. What is
            // wrong with this one, if it is, the open socket says.
            Err(errno) if name.is_none() && errno != Errno::AGAIN => {
                let name = self.peer.is_none().then_some(&entry.name);
                calls::send(&self.socket, bytes, name).map_err(|errno| (Side::Open, errno))
            }
            Err(errno) => Err((side, errno)),
        }
    }

    /// Sends the first of a queue. Whether the next may be tried.
    #[inline(always)]
    pub fn send_first(&mut self, queue: &mut VecDeque<Outgoing>) -> bool {
        let Some(first) = queue.front() else { return false };
        match self.check(first) {
            Ok(entry) => match self.send(&first.piece.bytes, entry) {
                Ok(_) => {
                    self.counted.add(Count::Kicks, 1);
                    self.sent(queue);
                    true
                }
                Err((side, errno)) => self.refused_first(queue, side, errno),
            },
            Err(count) => self.drop_first(queue, count),
        }
    }

    /// Sends the first ones of a queue in one call. Whether the next may be tried.
    pub fn send_many(&mut self, queue: &mut VecDeque<Outgoing>) -> bool {
        let first = queue.front().and_then(|first| self.check(first).ok());
        let (side, name) = first.map_or((Side::Open, None), |entry| self.way(entry));
        let is_connected = name.is_none();
        let good = queue.iter().map_while(|datagram| {
            let (other, name) = self.way(self.check(datagram).ok()?);
            (other == side).then_some((&datagram.piece.bytes[..], name))
        });
        match calls::send_many(self.at(side), good) {
            // The first one is not to be sent.
            Ok(0) => self.send_first(queue),
            Ok(sent) => {
                self.counted.add(Count::Kicks, 1);
                (0..sent).for_each(|_| self.sent(queue));
                true
            }
            // It is about the first one, or about one that was sent before.
            Err(_) if is_connected => self.send_first(queue),
            Err(errno) => self.refused_first(queue, side, errno),
        }
    }

    /// Takes the first of a queue back, which the kernel has copied.
    #[inline(always)]
    fn sent(&mut self, queue: &mut VecDeque<Outgoing>) {
        if let Some(datagram) = queue.pop_front() {
            self.took(datagram.piece.bytes);
        }
    }

    /// The kernel has copied a datagram.
    #[inline(always)]
    fn took(&mut self, bytes: Fbuf) {
        self.counted.add(Count::Sent, 1);
        self.counted.add(Count::SentBytes, bytes.range().len() as u64);
        self.pool.recycle(bytes);
        self.blocked = None;
        self.trouble = None;
    }

    /// Drops the first of a queue, with the pieces that follow. Whether there is a next one.
    #[cold]
    pub fn drop_first(&mut self, queue: &mut VecDeque<Outgoing>, count: Count) -> bool {
        if !self.skipping {
            self.counted.add(count, 1);
        }
        while let Some(datagram) = queue.pop_front() {
            self.skipping = datagram.piece.more;
            if !self.skipping {
                break;
            }
        }
        !queue.is_empty()
    }

    #[cold]
    fn refused_first(&mut self, queue: &mut VecDeque<Outgoing>, by: Side, errno: Errno) -> bool {
        let Some(to) = queue.front().map(|first| first.to) else { return false };
        if self.stays(to, by, errno) {
            return false;
        }
        queue.pop_front();
        true
    }

    /// Whether a datagram that the kernel refused is tried again at once, by [`Port::send_first`].
    pub fn is_retried(&self, to: Destination, errno: Errno) -> bool {
        errno != Errno::AGAIN && self.destinations.get(to).is_some_and(|entry| entry.favoured)
    }

    /// Takes note that the kernel refused a datagram, by a socket: whether it stays in the queue. If not, it
    /// was counted.
    #[cold]
    pub fn stays(&mut self, to: Destination, by: Side, errno: Errno) -> bool {
        match errno {
            // Room comes back by itself.
            Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::INTR => {
                self.blocked = Some(by);
                return true;
            }
            Errno::MSGSIZE => {
                self.counted.add(Count::TooLong, 1);
                self.narrow(to);
            }
            errno => {
                self.counted.add(Count::Failed, 1);
                let error = failure(errno);
                if let (true, Some(entry)) = (error.is_passing(), self.destinations.get(to)) {
                    self.trouble = Some((entry.address, error));
                }
            }
        }
        false
    }

    /// The way to a destination has become narrower.
    fn narrow(&mut self, to: Destination) {
        let Some(entry) = self.destinations.get_mut(to) else { return };
        if let Ok(max_payload) = self.probe.max_payload(entry.address) {
            entry.max_payload = entry.max_payload.min(max_payload);
        }
    }

    /// What has arrived, in its part of a buffer. `None` where it does not lie within, or its sender has
    /// no address: it is counted, and the buffer is free again.
    #[inline(always)]
    pub fn hand_over(
        &mut self,
        mut buffer: FbufMut,
        part: Range<usize>,
        from: Option<SocketAddr>,
    ) -> Option<Received> {
        let bytes = part.len();
        if !buffer.set_range(part) {
            self.discard(buffer, Count::Truncated);
            return None;
        }
        let Some(from) = from else {
            self.discard(buffer, Count::Fault);
            return None;
        };
        self.counted.add(Count::Received, 1);
        self.counted.add(Count::ReceivedBytes, bytes as u64);
        Some(Received { from, piece: Piece::whole(buffer) })
    }

    /// Frees a buffer with something in it that is not handed on.
    #[cold]
    pub fn discard(&mut self, buffer: FbufMut, count: Count) {
        self.counted.add(count, 1);
        self.pool.recycle(buffer.freeze());
    }

    /// Takes note of an error that receiving gave: `Err` where it will not pass.
    #[cold]
    pub fn receive_failed(&self, errno: Errno) -> Result<(), DeviceError> {
        match errno {
            Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM | Errno::CANCELED => Ok(()),
            // What came back about a datagram that was sent before, and counted as sent.
            Errno::CONNREFUSED
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::NETDOWN
            | Errno::MSGSIZE
            | Errno::PROTO
            | Errno::NOPROTOOPT => Ok(()),
            errno => Err(DeviceError::Kernel(errno)),
        }
    }
}

const TOO_MANY: &str = "its buffers take more memory than there is, or than 1 GiB: ask for fewer";

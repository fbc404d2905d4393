//! A peer that connects honestly and then writes and says what it likes.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use fbufs::Descriptor;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use segment::Incarnation;
use segment::control::{Frame, Kind, Received, Sent, Socket};
use segment::doorbell::membarrier_works;
use segment::geometry::{ARMED, CREDIT, FREE_QUEUE, Geometry, OwnSegment, PeerSegment, SEND_QUEUE};
use segment::scribble::Scribbler;
use unet::Address;

/// Half a connection: what the listener has not decided on yet.
pub struct Asking {
    pub socket: Socket,
    own: OwnSegment,
}

/// A connected hostile peer.
pub struct Hostile {
    pub socket: Socket,
    /// The words of its own segment.
    pub own: Scribbler,
    /// What it reads of the honest side's.
    pub peer: PeerSegment,
    geometry: Geometry,
    segment: OwnSegment,
    pub next: u64,
    generation: u32,
    returned: u64,
}

/// Connects and says hello, with a small segment.
pub fn ask(address: &Address) -> Option<Asking> {
    ask_with(address, super::small())
}

/// Connects and says hello.
pub fn ask_with(address: &Address, geometry: Geometry) -> Option<Asking> {
    ask_along(address, geometry, &[])
}

/// Connects and says hello, and offers descriptors as regions.
pub fn ask_along(
    address: &Address,
    geometry: Geometry,
    offered: &[BorrowedFd<'_>],
) -> Option<Asking> {
    ask_saying(address, geometry, offered, b"")
}

/// Connects and says hello, with private bytes.
pub fn ask_saying(
    address: &Address,
    geometry: Geometry,
    offered: &[BorrowedFd<'_>],
    private: &[u8],
) -> Option<Asking> {
    let Address::Shm(name) = address else { return None };
    let socket = Socket::connect(name).ok()?;
    let incarnation = Incarnation::draw()?;
    let own = geometry.create(incarnation, false).ok()?;
    let flags = u32::from(membarrier_works());
    let hello = Frame::new(Kind::Hello, incarnation.0, flags, private)?;
    let descriptors: Vec<BorrowedFd<'_>> =
        std::iter::once(own.as_fd()).chain(offered.iter().copied()).collect();
    (socket.send(&hello, &descriptors) == Sent::Yes).then_some(Asking { socket, own })
}

impl Asking {
    /// Waits for the welcome.
    pub fn welcomed(self) -> Option<Hostile> {
        let (welcome, descriptor) = loop {
            match self.socket.receive() {
                Received::Frame(frame, mut fds) if !fds.is_empty() => break (frame, fds.remove(0)),
                Received::Nothing if self.socket.wait_readable(Duration::from_secs(5)) => {}
                _ => return None,
            }
        };
        let peer = Geometry::attach(descriptor.as_fd(), Incarnation(welcome.value)).ok()?;
        Some(Hostile {
            socket: self.socket,
            own: Scribbler::over(&self.own),
            peer,
            geometry: *self.own.geometry(),
            segment: self.own,
            next: 0,
            generation: 0,
            returned: 0,
        })
    }
}

impl Hostile {
    /// Writes a slot at a position, sequence and all.
    pub fn slot_at(&self, position: u64, sequence: u32, low: u32, payload: &[u64]) {
        let at = position as usize & (self.geometry.slots as usize - 1);
        let slot = SEND_QUEUE + at * segment::ring::SLOT_BYTES;
        for (number, word) in payload.iter().enumerate() {
            self.own.store(slot + 8 + number * 8, *word);
        }
        self.own.store(slot, u64::from(sequence) << 32 | u64::from(low));
    }

    /// Sends a cell as an honest producer would, but with any numbers in it.
    pub fn send(&mut self, descriptors: u8, len: u8, payload: &[u64]) {
        let low = u32::from(descriptors) << 8 | u32::from(len);
        self.slot_at(self.next, (self.next as u32).wrapping_add(1), low, payload);
        self.next += 1;
    }

    /// Sends one descriptor.
    pub fn send_descriptor(&mut self, descriptor: Descriptor) {
        self.send(1, 16, &descriptor.to_words());
    }

    /// Sends descriptors in one slot, with `mark` in their count.
    pub fn send_descriptors(&mut self, mark: u8, descriptors: &[Descriptor]) {
        let words: Vec<u64> =
            descriptors.iter().flat_map(|descriptor| descriptor.to_words()).collect();
        let count = descriptors.len() as u8;
        self.send(mark | count, count * 16, &words);
    }

    /// A descriptor that is honest if it is the next one.
    pub fn descriptor(&mut self, lease: u8, index: u16, len: u32) -> Descriptor {
        let generation = self.generation;
        self.generation += 1;
        Descriptor { lease, index, generation, epoch: 0, offset: 0, len }
    }

    /// Gives a lease back, whether it has it or not.
    pub fn give_back(&mut self, lease: u16, generation: u32) {
        let sequence = (self.returned as u16).wrapping_add(1);
        self.give_back_word(
            u64::from(sequence) << 48 | u64::from(lease) << 32 | u64::from(generation),
        );
    }

    /// Writes the next word of the free queue.
    pub fn give_back_word(&mut self, word: u64) {
        let at = self.returned as usize % segment::free_queue::CAPACITY;
        self.own.store(FREE_QUEUE + at * 8, word);
        self.returned += 1;
    }

    pub fn set_credit(&self, credit: u64) {
        self.own.store(CREDIT, credit);
    }

    pub fn set_armed(&self, armed: u64) {
        self.own.store(ARMED, armed);
    }

    /// What the hostile side's own segment consists of.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// For who attaches its honest ends to it, for a while.
    pub fn segment(&self) -> &OwnSegment {
        &self.segment
    }

    /// Says a frame.
    pub fn say(&self, kind: Kind, value: u64) -> Sent {
        self.socket.send(&Frame::bare(kind, value), &[])
    }

    /// Says any bytes, with any number of descriptors.
    pub fn say_bytes(&self, bytes: &[u8], descriptors: usize) -> bool {
        say_bytes(&self.socket, bytes, &vec![self.segment.as_fd(); descriptors])
    }
}

/// Sends any bytes and descriptors; false if the socket does not take them.
pub fn say_bytes(socket: &Socket, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags).is_ok()
}

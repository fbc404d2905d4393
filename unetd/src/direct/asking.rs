//! Somebody who asks, from the connection to the decision.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use driver_af_xdp::lent::message::{Refused, Request};
use driver_af_xdp::port::Reservation;
use driver_af_xdp::socket::{RingSizes, Unbound};
use driver_af_xdp::{Interface, Options, Program, Way, open};
use segment::control::{Frame, Received, Socket};
use unet::Credentials;
use unet::device::{Mode, OpenError};

use super::memory;

/// How long a client may take to say what it wants.
pub(super) const SILENCE: Duration = Duration::from_secs(2);
/// How long the queue's last socket may take to be gone, which the kernel releases late.
const RELEASE: Duration = Duration::from_millis(1500);

/// A connection without a decision.
pub(super) struct Asking {
    pub socket: Socket,
    pub who: Credentials,
    pub deadline: Instant,
    /// What it has said it wants.
    pub wants: Option<Wants>,
}

/// What somebody wants, and how far that is.
pub(super) enum Wants {
    /// Another program of ours is on the interface, which may be one that is just being let go.
    Program(Request, OwnedFd),
    /// A socket is open, and is to be bound.
    Queue(Box<Opened>),
}

/// What a connection said.
pub(super) enum Heard {
    Nothing,
    Left,
    Refused(Refused),
    Request(Request, OwnedFd),
}

/// A socket that is to be bound as soon as a queue is free.
pub(super) struct Opened {
    pub request: Request,
    pub interface: Interface,
    pub socket: Unbound,
    /// The port, once it is had.
    pub reservation: Option<Reservation>,
    pub rings: RingSizes,
    /// The queues that the user may have, of those that were asked for.
    pub queues: Vec<u32>,
    pub way: Way,
}

impl Asking {
    pub fn new(socket: Socket, who: Credentials) -> Self {
        Self { socket, who, deadline: Instant::now() + SILENCE, wants: None }
    }

    /// What is open for it.
    pub fn opened(&self) -> Option<&Opened> {
        match &self.wants {
            Some(Wants::Queue(opened)) => Some(opened),
            _ => None,
        }
    }

    /// Takes what it says.
    pub fn hear(&self) -> Heard {
        match self.socket.receive() {
            Received::Nothing => Heard::Nothing,
            Received::HungUp => Heard::Left,
            Received::OutOfDescriptors => Heard::Refused(Refused::Crowded),
            // It has asked already, and has nothing to say until it is answered.
            Received::Frame(..) if self.wants.is_some() => Heard::Refused(Refused::Malformed),
            Received::Frame(frame, descriptors) => Self::request(&frame, descriptors)
                .map_or(Heard::Refused(Refused::Malformed), |(it, file)| Heard::Request(it, file)),
            Received::Malformed(_) => Heard::Refused(Refused::Malformed),
        }
    }

    fn request(frame: &Frame, descriptors: Vec<OwnedFd>) -> Option<(Request, OwnedFd)> {
        let [file] = <[_; 1]>::try_from(descriptors).ok()?;
        Some((Request::of(frame)?, file))
    }

    /// What it wants is allowed, and is to be done soon.
    pub fn wants(&mut self, request: Request, file: OwnedFd) {
        self.deadline = Instant::now() + RELEASE;
        self.wants = Some(Wants::Program(request, file));
    }
}

impl Opened {
    /// Opens a socket over a client's memory.
    pub fn new(
        request: Request,
        interface: Interface,
        queues: Vec<u32>,
        way: Way,
        file: &OwnedFd,
    ) -> Result<Self, Refused> {
        let socket = Unbound::open()?;
        memory::register(&socket, file.as_fd(), &request)?;
        let rings = RingSizes::of(request.buffers as usize);
        socket.make_rings(rings)?;
        Ok(Self { request, interface, socket, reservation: None, rings, queues, way })
    }

    /// Why it was not bound in time.
    pub fn late(&self) -> Refused {
        if self.reservation.is_none() { Refused::PortTaken } else { Refused::QueueTaken }
    }

    /// How many pieces a frame may have.
    pub fn pieces(&self) -> usize {
        if self.request.several { driver_af_xdp::socket::MAX_PIECES } else { 1 }
    }

    /// Reserves the port, and binds the socket to the first queue that is free; `None` where something is
    /// not free now that may be soon: the kernel, or the keeper, or a process that is being forked has what
    /// was given back.
    pub fn bind(
        &mut self,
        program: &Program,
        is_taken: impl Fn(u32) -> bool,
    ) -> Result<Option<(u32, Mode)>, Refused> {
        if self.reservation.is_none() {
            match Reservation::new(self.interface.index, self.request.port) {
                Ok(reservation) => self.reservation = Some(reservation),
                Err(OpenError::AddressInUse) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        let options = Options { way: self.way, patience: Duration::ZERO, ..Options::default() };
        for queue in self.queues.iter().copied().filter(|queue| !is_taken(*queue)) {
            match open::bind(&self.socket, program, queue, self.pieces(), &options) {
                Ok(mode) => return Ok(Some((queue, mode))),
                Err(OpenError::Busy(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

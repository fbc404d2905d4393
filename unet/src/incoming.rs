//! A client that asks to be accepted: the listener's half of the handshake.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use segment::Incarnation;
use segment::control::{Frame, Kind, MAX_PRIVATE, Socket};
use segment::doorbell::membarrier_works;
use segment::failpoint;
use segment::geometry::{Geometry, OwnSegment, PeerSegment};
use segment::memory::{AttachError, CreateError};
use segment::peer::{Credentials, Liveness};
use segment::wait::Wait;

use crate::channel::{Channel, Parts};
use crate::handshake::{AcceptError, ChannelOptions, MEMBARRIER, Refusal, flags};

/// A client that asks to be accepted. Dropping it refuses.
#[derive(Debug)]
pub struct Incoming {
    request: Option<Request>,
}

#[derive(Debug)]
struct Request {
    socket: Socket,
    credentials: Credentials,
    hello: Frame,
    segment: OwnedFd,
    options: ChannelOptions,
}

impl Incoming {
    pub(crate) fn new(
        socket: Socket,
        credentials: Credentials,
        hello: Frame,
        segment: OwnedFd,
        options: ChannelOptions,
    ) -> Self {
        Self { request: Some(Request { socket, credentials, hello, segment, options }) }
    }

    /// Who asks, by the kernel's word.
    pub fn credentials(&self) -> Credentials {
        self.request().credentials
    }

    /// The bytes that came with the request. The client's word.
    pub fn private(&self) -> &[u8] {
        self.request().hello.private()
    }

    fn request(&self) -> &Request {
        self.request.as_ref().expect("it is taken only by the methods that consume this")
    }

    /// Refuses, with a code for the client.
    pub fn refuse(mut self, code: u32) {
        self.answer(Refusal::Application(code));
    }

    fn answer(&mut self, refusal: Refusal) {
        if let Some(request) = self.request.take() {
            // If the client is gone there is nobody to tell.
            let _ = request.socket.send(&refusal.to_frame(), None);
        }
    }

    pub(crate) fn accept(mut self, wait: Wait, private: &[u8]) -> Result<Channel, AcceptError> {
        if private.len() > MAX_PRIVATE {
            return Err(AcceptError::PrivateTooLarge);
        }
        let prepared = self.prepare();
        match prepared {
            Ok((own, peer, incarnation, liveness)) => {
                let request = self.request.take().expect("it was there to be prepared");
                welcome(request, own, peer, incarnation, liveness, wait, private)
            }
            Err(error) => {
                self.answer(match error {
                    AcceptError::Segment(AttachError::WrongVersion(_)) => Refusal::Version,
                    AcceptError::Segment(_) => Refusal::Segment,
                    _ => Refusal::Resources,
                });
                Err(error)
            }
        }
    }

    fn prepare(&self) -> Result<Prepared, AcceptError> {
        let request = self.request();
        let peer = Geometry::attach(request.segment.as_fd(), Incarnation(request.hello.value))?;
        failpoint::hit("accept.3-mapped");
        let liveness = Liveness::of(request.socket.as_fd(), request.credentials)
            .map_err(|_| CreateError::OutOfDescriptors)?;
        let incarnation = Incarnation::draw().ok_or(AcceptError::Kernel(Errno::AGAIN))?;
        let own = request.options.geometry.create(incarnation, request.options.locked)?;
        failpoint::hit("accept.4-segment-made");
        Ok((own, peer, incarnation, liveness))
    }
}

type Prepared = (OwnSegment, PeerSegment, Incarnation, Liveness);

fn welcome(
    request: Request,
    own: OwnSegment,
    peer: PeerSegment,
    incarnation: Incarnation,
    liveness: Liveness,
    wait: Wait,
    private: &[u8],
) -> Result<Channel, AcceptError> {
    let membarrier = membarrier_works();
    let frame = Frame::new(Kind::Welcome, incarnation.0, flags(membarrier), private)
        .ok_or(AcceptError::PrivateTooLarge)?;
    // Joined first: the queues must be initialised before the client looks at them.
    let channel = Channel::join(Parts {
        socket: request.socket,
        credentials: request.credentials,
        liveness,
        own,
        peer,
        incarnation,
        peer_incarnation: Incarnation(request.hello.value),
        membarrier,
        peer_membarrier: request.hello.flags & MEMBARRIER != 0,
        wait,
        private: request.hello.private().to_vec(),
    });
    if !channel.send_welcome(&frame) {
        return Err(AcceptError::PeerGone);
    }
    failpoint::hit("accept.5-welcome-sent");
    Ok(channel)
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.answer(Refusal::Application(0));
    }
}

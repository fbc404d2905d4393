//! A client that asks to be accepted: the listener's half of the handshake.

use std::os::fd::{AsFd, OwnedFd};

use fbufs::Path;
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
    /// The descriptors of the regions that the client offers, until they are mapped.
    offered: Vec<OwnedFd>,
    /// Those regions, or what is wrong with them: it stays so.
    path: Result<Path, AttachError>,
    options: ChannelOptions,
}

impl Request {
    fn map(&mut self) -> Result<&Path, AttachError> {
        if !self.offered.is_empty() {
            self.path = Path::attach(std::mem::take(&mut self.offered));
        }
        self.path.as_ref().map_err(|error| *error)
    }
}

impl Incoming {
    pub(crate) fn new(
        socket: Socket,
        credentials: Credentials,
        hello: Frame,
        mut descriptors: Vec<OwnedFd>,
        options: ChannelOptions,
    ) -> Option<Self> {
        if descriptors.is_empty() {
            return None;
        }
        let segment = descriptors.remove(0);
        let (offered, path) = (descriptors, Ok(Path::default()));
        let request = Request { socket, credentials, hello, segment, offered, path, options };
        Some(Self { request: Some(request) })
    }

    /// The regions of the domains before this one, mapped: to connect to the next domain with this
    /// path and one's own pool, before the client is accepted.
    ///
    /// # Errors
    /// [`AttachError`] names the check that failed; the client is to be refused.
    ///
    /// # Cost
    /// Six system calls a region, the first time.
    pub fn path(&mut self) -> Result<&Path, AttachError> {
        let request = self.request.as_mut().expect("it is taken only by methods that consume this");
        request.map()
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
            let _ = request.socket.send(&refusal.to_frame(), &[]);
        }
    }

    pub(crate) fn accept(
        mut self,
        wait: Wait,
        private: &[u8],
        path: &Path,
    ) -> Result<Channel, AcceptError> {
        if private.len() > MAX_PRIVATE {
            return Err(AcceptError::PrivateTooLarge);
        }
        let prepared = self.prepare();
        match prepared {
            Ok((own, peer, incarnation, liveness)) => {
                let request = self.request.take().expect("it was there to be prepared");
                let prepared = (own, peer, incarnation, liveness);
                welcome(request, prepared, wait, private, path)
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

    fn prepare(&mut self) -> Result<Prepared, AcceptError> {
        self.path()?;
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
    (own, peer, incarnation, liveness): Prepared,
    wait: Wait,
    private: &[u8],
    path: &Path,
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
        paths: (path.clone(), request.path?),
        quota: request.options.quota,
    });
    if !channel.send_welcome(&frame, path) {
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

//! A client that asks to be accepted: the listener's half of the handshake.

use std::net::SocketAddr;
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

use crate::handshake::{AcceptError, ChannelOptions, MEMBARRIER, Refusal, flags, limit_of};
use crate::local::{LocalChannel, Parts};
use crate::mediated::Introduction;
use crate::network::{Asking, RemoteChannel, Shared, lock};
use crate::{Channel, NetworkAddress};

/// A client that asks to be accepted. Dropping it refuses.
#[derive(Debug)]
pub struct Incoming {
    request: Option<From>,
}

/// Where it comes from.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // It is moved once or twice in its life.
enum From {
    Here(Request),
    Network(Question),
}

/// A client of another host.
struct Question {
    link: Shared,
    asking: Asking,
    private: Vec<u8>,
    at: Option<NetworkAddress>,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("from", &self.asking.0).finish_non_exhaustive()
    }
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
    /// Who asks behind the agent that asks.
    introduced: Option<Introduction>,
}

/// With what a client is welcomed.
pub(crate) struct Welcome<'a> {
    pub wait: Wait,
    pub private: &'a [u8],
    pub path: &'a Path,
    /// The most bytes of a message that are passed on.
    pub limit: Option<u16>,
}

impl Request {
    fn private(&self) -> &[u8] {
        self.introduced.as_ref().map_or(self.hello.private(), |introduced| &introduced.private)
    }

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
        introduced: Option<Introduction>,
    ) -> Option<Self> {
        if descriptors.is_empty() {
            return None;
        }
        let segment = descriptors.remove(0);
        let (offered, path) = (descriptors, Ok(Path::default()));
        let request =
            Request { socket, credentials, hello, segment, offered, path, options, introduced };
        Some(Self { request: Some(From::Here(request)) })
    }

    pub(crate) fn from_network(
        link: Shared,
        asking: Asking,
        private: Vec<u8>,
        at: Option<NetworkAddress>,
    ) -> Self {
        Self { request: Some(From::Network(Question { link, asking, private, at })) }
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
        static NONE: std::sync::LazyLock<Path> = std::sync::LazyLock::new(Path::default);
        match &mut self.request {
            Some(From::Here(request)) => request.map(),
            _ => Ok(&NONE),
        }
    }

    /// Who asks, by the kernel's word; over a network [`Credentials::NOBODY`], for there nobody vouches.
    pub fn credentials(&self) -> Credentials {
        match &self.request {
            Some(From::Here(request)) => request.credentials,
            _ => Credentials::NOBODY,
        }
    }

    /// The client's address, over a network; by the word of the agent, where one mediates.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.request {
            Some(From::Network(question)) => Some(question.asking.0),
            Some(From::Here(request)) => request.introduced.as_ref().map(|it| it.from),
            None => None,
        }
    }

    /// The address that was listened at, over a network.
    pub fn listened_at(&self) -> Option<&NetworkAddress> {
        match &self.request {
            Some(From::Network(question)) => question.at.as_ref(),
            _ => None,
        }
    }

    /// The most bytes of one message that the device carries to anybody, over a network; the way to this
    /// client may carry less.
    pub fn limit(&self) -> Option<usize> {
        match &self.request {
            Some(From::Network(question)) => Some(lock(&question.link).longest()),
            _ => None,
        }
    }

    /// The bytes that came with the request. The client's word.
    pub fn private(&self) -> &[u8] {
        match &self.request {
            Some(From::Here(request)) => request.private(),
            Some(From::Network(question)) => &question.private,
            None => &[],
        }
    }

    /// Refuses, with a code for the client.
    pub fn refuse(mut self, code: u32) {
        self.answer(Refusal::Application(code));
    }

    /// Refuses, with any reason: for who passes on what somebody else decided.
    pub fn refuse_because(mut self, refusal: Refusal) {
        self.answer(refusal);
    }

    fn answer(&mut self, refusal: Refusal) {
        match self.request.take() {
            // If the client is gone there is nobody to tell.
            Some(From::Here(request)) => _ = request.socket.send(&refusal.to_frame(), &[]),
            Some(From::Network(Question { link, asking, .. })) => {
                lock(&link).refuse_client(asking, refusal);
            }
            None => {}
        }
    }

    pub(crate) fn accept(mut self, welcome: Welcome<'_>) -> Result<Channel, AcceptError> {
        if welcome.private.len() > MAX_PRIVATE {
            return Err(AcceptError::PrivateTooLarge);
        }
        let mut request = match self.request.take() {
            Some(From::Here(request)) => request,
            Some(From::Network(question)) => return question.accept(welcome.wait, welcome.private),
            None => return Err(AcceptError::PeerGone),
        };
        match request.prepare() {
            Ok(prepared) => Ok(join(request, prepared, welcome)?.into()),
            Err(error) => {
                self.request = Some(From::Here(request));
                self.answer(match error {
                    AcceptError::Segment(AttachError::WrongVersion(_)) => Refusal::Version,
                    AcceptError::Segment(_) => Refusal::Segment,
                    _ => Refusal::Resources,
                });
                Err(error)
            }
        }
    }
}

impl Question {
    fn accept(self, wait: Wait, private: &[u8]) -> Result<Channel, AcceptError> {
        let Self { link, asking, private: theirs, .. } = self;
        let number = {
            let mut link = lock(&link);
            link.accept(asking, private, &theirs).inspect_err(|_| {
                link.refuse_client(asking, Refusal::Resources);
            })?
        };
        let channel = RemoteChannel::new(link, number, wait);
        Ok(channel.ok_or(AcceptError::PeerGone)?.into())
    }
}

impl Request {
    fn prepare(&mut self) -> Result<Prepared, AcceptError> {
        self.map()?;
        let request = self;
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

fn join(
    request: Request,
    (own, peer, incarnation, liveness): Prepared,
    Welcome { wait, private, path, limit }: Welcome<'_>,
) -> Result<LocalChannel, AcceptError> {
    let membarrier = membarrier_works();
    let frame = Frame::new(Kind::Welcome, incarnation.0, flags(membarrier, limit), private);
    let frame = frame.ok_or(AcceptError::PrivateTooLarge)?;
    let private = request.private().to_vec();
    let peer_address = request.introduced.as_ref().map(|introduced| introduced.from);
    // Joined first: the queues must be initialised before the client looks at them.
    let channel = LocalChannel::join(Parts {
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
        private,
        paths: (path.clone(), request.path?),
        quota: request.options.quota,
        peer_address,
        limit: limit_of(request.hello.flags),
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

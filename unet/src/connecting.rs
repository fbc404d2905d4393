//! The connecting half of the handshake on this host: in one go, or in steps that nobody waits in.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use fbufs::Path;
use rustix::io::Errno;
use segment::Incarnation;
use segment::control::{DecodeError, Frame, Kind, Received, Sent, Socket};
use segment::doorbell::membarrier_works;
use segment::failpoint;
use segment::geometry::{Geometry, OwnSegment};
use segment::memory::{AttachError, CreateError};
use segment::peer::{Credentials, Liveness};

use crate::channel::Channel;
use crate::handshake::{ConnectError, ConnectOptions, MEMBARRIER, Refusal, flags, limit_of};
use crate::local::{LocalChannel, Parts};
use crate::network::{self, RemoteChannel};
use crate::{Address, mediated};

/// Connects a channel that stands alone: over a network, on a device of its own or by an agent.
pub(crate) fn connect(address: &Address, options: ConnectOptions) -> Result<Channel, ConnectError> {
    match address {
        Address::Shm(name) => Ok(connect_here(name, options)?.into()),
        Address::Network(address) if address.via().is_some() => {
            Ok(mediated::connect(address, options)?.into())
        }
        Address::Network(address) => {
            let (link, number) = network::connect(address, &options, |_| None)?;
            let channel = RemoteChannel::new(link, number, options.channel.wait);
            Ok(channel.ok_or(ConnectError::PeerDied)?.into())
        }
    }
}

/// Connects to a name on this host, and waits for the answer.
pub(crate) fn connect_here(
    name: &str,
    options: ConnectOptions,
) -> Result<LocalChannel, ConnectError> {
    // `None` is farther away than any clock goes.
    let deadline = Instant::now().checked_add(options.timeout);
    failpoint::hit("connect.1-named");
    let asked = Asked::begin(dial(name, deadline)?, options)?;
    let welcome = await_welcome(&asked.socket, deadline)?;
    asked.join(welcome)
}

/// A listener's welcome: the frame, its segment, and the regions that it offers.
type Welcome = (Frame, OwnedFd, Vec<OwnedFd>);

/// A listener that was asked, and has not answered yet.
pub(crate) struct Asked {
    socket: Socket,
    credentials: Credentials,
    liveness: Liveness,
    own: OwnSegment,
    incarnation: Incarnation,
    membarrier: bool,
    options: ConnectOptions,
}

impl Asked {
    /// Asks a name on this host. Waits for nobody.
    pub fn begin_at(name: &str, options: ConnectOptions) -> Result<Self, ConnectError> {
        let socket = match Socket::connect(name) {
            // It takes no more that wait.
            Err(Errno::AGAIN) => return Err(ConnectError::Refused(Refusal::Busy)),
            connected => connected?,
        };
        Self::begin(socket, options)
    }

    fn begin(socket: Socket, options: ConnectOptions) -> Result<Self, ConnectError> {
        let credentials = socket.credentials()?;
        if !options.policy.allows(credentials.uid) {
            return Err(ConnectError::NameOfAnotherUser(credentials.uid));
        }
        let liveness = Liveness::of(socket.as_fd(), credentials)?;
        failpoint::hit("connect.2-connected");

        let incarnation = Incarnation::draw().ok_or(ConnectError::Kernel(Errno::AGAIN))?;
        let own = options.channel.geometry.create(incarnation, options.channel.locked)?;
        failpoint::hit("connect.3-segment-made");

        let membarrier = membarrier_works();
        let flags = flags(membarrier, options.limit);
        let hello = Frame::new(Kind::Hello, incarnation.0, flags, &options.private)
            .ok_or(ConnectError::PrivateTooLarge)?;
        let descriptors: Vec<BorrowedFd<'_>> =
            std::iter::once(own.as_fd()).chain(options.path.descriptors()).collect();
        if socket.send(&hello, &descriptors) != Sent::Yes {
            // It hung up; perhaps not without a word.
            return Err(match await_welcome(&socket, Some(Instant::now())) {
                Err(refused @ ConnectError::Refused(_)) => refused,
                _ => ConnectError::PeerDied,
            });
        }
        failpoint::hit("connect.4-hello-sent");
        Ok(Self { socket, credentials, liveness, own, incarnation, membarrier, options })
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The answer, if it is there.
    pub fn answer(&self) -> Result<Option<Welcome>, ConnectError> {
        take_welcome(&self.socket)
    }

    /// Joins what both sides have made.
    pub fn join(self, welcome: Welcome) -> Result<LocalChannel, ConnectError> {
        let (welcome, descriptor, offered) = welcome;
        failpoint::hit("connect.5-welcome-received");
        let peer_incarnation = Incarnation(welcome.value);
        let peer = Geometry::attach(descriptor.as_fd(), peer_incarnation)?;
        if offered.len() > self.options.regions {
            return Err(AttachError::WrongLayout.into());
        }
        let offered = Path::attach(offered)?;
        failpoint::hit("connect.6-mapped");
        Ok(LocalChannel::join(Parts {
            socket: self.socket,
            credentials: self.credentials,
            liveness: self.liveness,
            own: self.own,
            peer,
            incarnation: self.incarnation,
            peer_incarnation,
            membarrier: self.membarrier,
            peer_membarrier: welcome.flags & MEMBARRIER != 0,
            wait: self.options.channel.wait,
            private: welcome.private().to_vec(),
            paths: (self.options.path, offered),
            quota: self.options.channel.quota,
            peer_address: None,
            limit: limit_of(welcome.flags),
        }))
    }
}

/// What is left until a deadline.
fn left(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
}

fn dial(name: &str, deadline: Option<Instant>) -> Result<Socket, ConnectError> {
    const PAUSE: Duration = Duration::from_millis(1);
    loop {
        match Socket::connect(name) {
            Ok(socket) => return Ok(socket),
            // The listener's backlog is full, and it will accept some.
            Err(Errno::AGAIN) if !left(deadline).is_zero() => std::thread::sleep(PAUSE),
            Err(Errno::AGAIN) => return Err(ConnectError::TimedOut),
            Err(other) => return Err(other.into()),
        }
    }
}

fn take_welcome(socket: &Socket) -> Result<Option<Welcome>, ConnectError> {
    match socket.receive() {
        Received::Frame(frame, mut descriptors)
            if frame.kind == Kind::Welcome && !descriptors.is_empty() =>
        {
            let segment = descriptors.remove(0);
            Ok(Some((frame, segment, descriptors)))
        }
        Received::Frame(frame, none) if none.is_empty() && frame.kind == Kind::Refusal => {
            Err(ConnectError::Refused(Refusal::from_frame(&frame)))
        }
        Received::Frame(..) | Received::Malformed(DecodeError::Malformed) => {
            Err(ConnectError::Protocol)
        }
        Received::Malformed(DecodeError::Version(theirs)) => Err(ConnectError::Version(theirs)),
        Received::HungUp => Err(ConnectError::PeerDied),
        Received::OutOfDescriptors => Err(CreateError::OutOfDescriptors.into()),
        Received::Nothing => Ok(None),
    }
}

fn await_welcome(socket: &Socket, deadline: Option<Instant>) -> Result<Welcome, ConnectError> {
    loop {
        if let Some(welcome) = take_welcome(socket)? {
            return Ok(welcome);
        }
        let left = left(deadline);
        if left.is_zero() {
            return Err(ConnectError::TimedOut);
        }
        socket.wait_readable(left);
    }
}

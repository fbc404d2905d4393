//! The client's side.

use std::time::{Duration, Instant};

use fbufs::{Class, Pool};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use rustix::process::geteuid;
use segment::control::{Received, Sent, Socket};
use unet::device::OpenError;

use super::message::{Answer, OTHER_VERSION, Request};
use crate::AfXdp;
use crate::interface::Interface;
use crate::open::{Shape, pool_refusal};
use crate::options::Options;

/// How long the agent may take, beside [`Options::patience`].
const PATIENCE: Duration = Duration::from_secs(3);

const SILENT: OpenError =
    OpenError::Busy("the agent does not answer: see whether it runs, and ask again");
const ABSENT: OpenError =
    OpenError::NotPermitted("no agent listens at that name: start unetd, or correct agent=NAME");
const STRANGER: OpenError = OpenError::NotPermitted(
    "who listens at that name is neither root nor this user, and gets no memory of this process",
);

/// Opens a queue of an interface by the agent of that name; any free queue, if `None`. No privilege is
/// needed. [`Options::reserve`] and [`Options::busy_poll`] are not asked for: the agent always reserves.
///
/// # Errors
/// [`OpenError`]: the agent's refusal, in a sentence.
///
/// # Cost
/// Some milliseconds; allocates all pages. Some seconds where the agent is silent.
pub fn ask(
    agent: &str,
    name: &str,
    queue: Option<u32>,
    options: &Options,
) -> Result<AfXdp, OpenError> {
    if options.huge_pages || options.busy_poll.is_some() {
        return Err(OpenError::Unsupported(
            "leave out huge-pages and busy-poll where an agent opens the queue",
        ));
    }
    let interface = Interface::find(name)?;
    let shape = Shape::of(&interface, options)?;
    let request = Request {
        interface: name.to_owned(),
        queue,
        port: options.port,
        buffers: options.buffers,
        buffer_bytes: shape.buffer_bytes as u32,
        way: options.way,
        several: shape.pieces > 1,
    };
    let frame = request.frame().ok_or(OpenError::NoDevice)?;
    let socket = connect(agent)?;
    let class = Class { buffer_bytes: request.buffer_bytes, buffers: request.buffers };
    let pool = Pool::for_device(class, false).map_err(pool_refusal)?;
    let file = pool.file().ok_or(OTHER_VERSION)?;
    // On this process's account, not on the agent's.
    let len = shape.buffer_bytes as u64 * u64::from(options.buffers);
    fallocate(file, FallocateFlags::empty(), 0, len)
        .map_err(|errno| OpenError::Kernel { step: "allocate the buffers", errno })?;
    match socket.send(&frame, &[file]) {
        // Who has been refused already may find the connection's end behind the reason.
        Sent::Yes | Sent::Gone => {}
        _ => return Err(SILENT),
    }
    let (frame, mut descriptors) = answer(&socket, Instant::now() + PATIENCE + options.patience)?;
    let Answer(binding) = Answer::of(&frame)?;
    let bound = descriptors.pop().filter(|_| descriptors.is_empty()).ok_or(OTHER_VERSION)?;
    let mut device = AfXdp::from_bound(bound, pool, binding)?;
    device.lease = Some(Lease(socket));
    Ok(device)
}

fn connect(agent: &str) -> Result<Socket, OpenError> {
    let socket = Socket::connect(agent).map_err(|errno| match errno {
        Errno::CONNREFUSED => ABSENT,
        Errno::AGAIN => SILENT,
        Errno::INVAL => OpenError::BadValue("agent=NAME, of letters, digits or -_. characters"),
        errno => OpenError::Kernel { step: "connect to the agent", errno },
    })?;
    // Names are anybody's who comes first.
    let uid = socket.credentials().map_or(u32::MAX, |who| who.uid);
    if uid != 0 && uid != geteuid().as_raw() {
        return Err(STRANGER);
    }
    Ok(socket)
}

fn answer(
    socket: &Socket,
    deadline: Instant,
) -> Result<(segment::control::Frame, Vec<std::os::fd::OwnedFd>), OpenError> {
    loop {
        match socket.receive() {
            Received::Frame(frame, descriptors) => return Ok((frame, descriptors)),
            Received::Malformed(_) => return Err(OTHER_VERSION),
            Received::OutOfDescriptors => {
                return Err(OpenError::Kernel { step: "receive the socket", errno: Errno::MFILE });
            }
            Received::HungUp => return Err(SILENT),
            Received::Nothing => {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SILENT);
        }
        socket.wait_readable(left);
    }
}

/// The connection to who lent a queue. Dropping it gives the queue back, also where a process that was
/// forked has it open.
#[derive(Debug)]
pub(crate) struct Lease(Socket);

impl Lease {
    /// Whether who lent it has hung up: nothing is steered to it any more.
    ///
    /// # Cost
    /// One system call.
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::RDHUP)];
        let ended = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
        matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
            && fds[0].revents().intersects(ended)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}

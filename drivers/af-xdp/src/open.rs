//! Opening: the steps from an interface's name to a device, alone or with an agent's help.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use fbufs::{Class, CreateError, Pool};
use rustix::io::Errno;
use unet::device::{Mode, OpenError};

use crate::AfXdp;
use crate::device::Kept;
use crate::interface::Interface;
use crate::options::{Options, Way};
use crate::port::Reservation;
use crate::program::{Hook, Program};
use crate::socket::{Binding, MAX_PIECES, RECEIVE_HEADROOM, RingSizes, Unbound};

pub(crate) fn pool_refusal(error: CreateError) -> OpenError {
    match error {
        CreateError::Size => OpenError::BadValue("frames=N, from 1 to what fits into 1 GiB"),
        CreateError::NoHugePages => {
            OpenError::Unsupported("no huge page is free: set vm.nr_hugepages, or do without")
        }
        CreateError::Kernel(errno) => OpenError::Kernel { step: MAKE, errno },
        CreateError::OutOfDescriptors => OpenError::Kernel { step: MAKE, errno: Errno::MFILE },
        _ => OpenError::Kernel { step: MAKE, errno: Errno::NOMEM },
    }
}

const MAKE: &str = "make the buffers";

/// An Ethernet header.
pub(crate) const ETHERNET: usize = 14;

/// How many queues an interface has: each can be a device.
///
/// # Errors
/// [`OpenError::NoDevice`].
pub fn queues(interface: &str) -> Result<u32, OpenError> {
    Ok(Interface::find(interface)?.queues)
}

/// What a device will be like, as the interface's MTU and the options have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a buffer.
    pub buffer_bytes: usize,
    /// The most pieces of a frame.
    pub pieces: usize,
}

impl Shape {
    /// Of a device on this interface.
    ///
    /// # Errors
    /// [`OpenError::BadValue`].
    pub fn of(interface: &Interface, options: &Options) -> Result<Self, OpenError> {
        let fits =
            |buffer_bytes: usize| interface.mtu + ETHERNET <= buffer_bytes - RECEIVE_HEADROOM;
        let buffer_bytes = match options.buffer_bytes {
            None if fits(2048) => 2048,
            None => 4096,
            Some(bytes @ (2048 | 4096)) => bytes as usize,
            Some(_) => return Err(OpenError::BadValue("buffers of 2048 or 4096 bytes")),
        };
        let several = options.pieces.unwrap_or(!fits(buffer_bytes));
        Ok(Self { buffer_bytes, pieces: if several { MAX_PIECES } else { 1 } })
    }
}

impl AfXdp {
    /// Opens a queue of an interface, with a program of its own. A second queue needs
    /// [`AfXdp::open_with`].
    ///
    /// # Errors
    /// [`OpenError`].
    ///
    /// # Cost
    /// Some milliseconds; as long as [`Options::patience`] where the queue was just in use.
    pub fn open(interface: &str, queue: u32, options: &Options) -> Result<Self, OpenError> {
        let interface = Interface::find(interface)?;
        let program = Arc::new(attach(&interface, queue, options)?);
        Self::open_with(&program, &interface, queue, options)
    }

    /// Opens a queue of an interface whose program this process has attached.
    ///
    /// # Errors
    /// [`OpenError`].
    ///
    /// # Cost
    /// As [`AfXdp::open`].
    pub fn open_with(
        program: &Arc<Program>,
        interface: &Interface,
        queue: u32,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let shape = Shape::of(interface, options)?;
        if interface.index != program.interface() || (shape.pieces > 1 && !program.frags()) {
            return Err(OpenError::Unsupported(
                "attach the program to that interface, for frames of several pieces if it has them",
            ));
        }
        let other_queue = program.hook() == Hook::Generic && interface.virtual_device && queue > 0;
        if other_queue && options.way == Way::Auto {
            return Err(OpenError::Unsupported(
                "use mode=native on all queues of this interface: in generic mode its packets come in \
                 on other queues than they were sent on",
            ));
        }
        if interface.mac == [0; 6] {
            return Err(OpenError::Unsupported(
                "use an Ethernet interface: this one has no address",
            ));
        }
        let class = Class { buffer_bytes: shape.buffer_bytes as u32, buffers: options.buffers };
        let pool = Pool::for_device(class, options.huge_pages).map_err(pool_refusal)?;
        let rings = RingSizes::of(pool.total());
        let socket = Unbound::open()?;
        socket.register(&pool)?;
        // From here on nobody else can map it writable.
        pool.seal().map_err(pool_refusal)?;
        socket.make_rings(rings)?;
        if let Some(busy_poll) = options.busy_poll {
            socket.busy_poll(busy_poll)?;
        }
        let mode = bind(&socket, program, queue, shape.pieces, options)?;
        let reservation = match options.reserve {
            true => Some(Reservation::new(interface.index, options.port)?),
            false if options.port == 0 => {
                return Err(OpenError::BadValue("a port, where none is to be reserved"));
            }
            false => None,
        };
        let port = reservation.as_ref().map_or(options.port, Reservation::port);
        let binding = Binding {
            interface: interface.index,
            queue,
            mac: interface.mac,
            mtu: interface.mtu,
            mode,
            pieces: shape.pieces,
            rings,
            port,
        };
        let socket = socket.into_bound();
        let mut device = Self::from_bound(socket, pool, binding)?;
        device.poll_driver = options.busy_poll.is_some();
        program.steer(queue, port, device.socket.as_fd())?;
        device.kept =
            Some(Kept { program: program.clone(), queue, port, _reservation: reservation });
        Ok(device)
    }

    /// Makes a device of a socket that somebody else opened, registered over this pool, bound, and steers
    /// packets to. No privilege is needed. Whoever passed the descriptor should close its own: the queue
    /// is free again when the last one is closed. The pool is sealed ([`Pool::seal`]).
    ///
    /// # Errors
    /// [`OpenError::BadValue`] if pool and binding do not go together; [`OpenError::Kernel`] if the
    /// rings cannot be mapped.
    ///
    /// # Cost
    /// Some ten system calls.
    pub fn from_bound(socket: OwnedFd, pool: Pool, binding: Binding) -> Result<Self, OpenError> {
        pool.seal().map_err(pool_refusal)?;
        Self::new(socket, pool, binding)
    }
}

/// Attaches the program at the hook that the options choose for that queue.
///
/// # Errors
/// [`OpenError`].
pub fn attach(interface: &Interface, queue: u32, options: &Options) -> Result<Program, OpenError> {
    let frags = Shape::of(interface, options)?.pieces > 1;
    let patience = options.patience;
    let hook = match options.way {
        Way::Generic => Hook::Generic,
        Way::Native | Way::ZeroCopy => Hook::Native,
        Way::Auto if interface.virtual_device && queue == 0 => Hook::Generic,
        Way::Auto if interface.virtual_device => Hook::Native,
        Way::Auto => match Program::attach_within(interface, Hook::Native, frags, patience) {
            Ok(program) => return Ok(program),
            Err(error) => match OpenError::from(error) {
                OpenError::Unsupported(why) => {
                    tracing::info!(why, "the driver has no XDP: generic mode");
                    Hook::Generic
                }
                other => return Err(other),
            },
        },
    };
    Ok(Program::attach_within(interface, hook, frags, patience)?)
}

/// Binds a socket as the program's hook and the options allow.
///
/// # Errors
/// [`OpenError`].
pub fn bind(
    socket: &Unbound,
    program: &Program,
    queue: u32,
    pieces: usize,
    options: &Options,
) -> Result<Mode, OpenError> {
    let to =
        |zero_copy| socket.bind(program.interface(), queue, zero_copy, pieces, options.patience);
    match (program.hook(), options.way) {
        (Hook::Generic, Way::Auto | Way::Generic) => to(false).map(|()| Mode::Generic),
        (Hook::Native, Way::Native) => to(false).map(|()| Mode::Native),
        (Hook::Native, Way::ZeroCopy) => to(true).map(|()| Mode::ZeroCopy),
        (Hook::Native, Way::Auto) => match to(true) {
            Ok(()) => Ok(Mode::ZeroCopy),
            Err(OpenError::Unsupported(why)) => {
                tracing::info!(why, "no zero-copy socket: native mode");
                to(false).map(|()| Mode::Native)
            }
            Err(other) => Err(other),
        },
        _ => Err(OpenError::Unsupported("use the mode in which the interface is in use already")),
    }
}

//! Our XDP program: hands UDP packets to our ports to the socket of the queue they came in on, and
//! everything else to the kernel.
//!
//! ```text
//!   IPv4 (any header length, no fragment) or IPv6 (no extension header), no VLAN tag
//!     └─ UDP to port P, arrived on queue Q
//!          └─ `ports` has (Q, P)     ──► the socket that `sockets` has at Q, or the kernel
//!   anything else                    ──► the kernel (XDP_PASS)
//! ```
//!
//! Steering looks at the port and the queue, not at the destination's address: on a router, a packet that
//! only passes through to the same port of another host is taken as well, and dropped by who reads the
//! socket. A key has the queue beside the port, so that nobody gets what is for a port of another
//! queue's owner.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use unet::device::OpenError;

use crate::bpf::{self, MapKind, Rejected};
use crate::instructions::{Assembler, Instruction, Operation, Register, When, Width};
use crate::interface::{Interface, Interfaces};

/// The most queues of an interface that can have a socket.
pub const MAX_QUEUES: u32 = 1024;
/// The most pairs of queue and port.
pub const MAX_PORTS: u32 = 4096;

/// How long attaching waits for a program of ours that is there: a process that is being forked holds its
/// parent's descriptors until it becomes another program.
const RELEASE: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_millis(5);

const NAME: &str = "unet_steer";
const PASS: i32 = 2;
const MAP_LOOKUP: i32 = 1;
const REDIRECT_MAP: i32 = 51;

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// In the kernel's stack: with any interface.
    Generic,
    /// In the interface's driver.
    Native,
}

impl Hook {
    fn flag(self) -> u32 {
        match self {
            Self::Generic => 1 << 1,
            Self::Native => 1 << 2,
        }
    }
}

/// Why a program was not attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The kernel's verifier, or a missing capability.
    #[error("the kernel did not load the XDP program: {errno}\n{log}")]
    Rejected {
        /// The kernel's answer.
        errno: Errno,
        /// What its verifier said.
        log: String,
    },
    /// Another step was refused.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<AttachError> for OpenError {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Rejected { errno: Errno::PERM, .. } => NO_CAPABILITY,
            AttachError::Rejected { errno, log } => {
                tracing::debug!(%log, "the verifier refused the XDP program");
                Self::Kernel { step: "load the XDP program", errno }
            }
            AttachError::Open(error) => error,
        }
    }
}

/// What is missing where a program cannot be loaded, or a socket opened.
pub(crate) const NO_CAPABILITY: OpenError = OpenError::NotPermitted(
    "an AF_XDP socket needs CAP_NET_RAW, its XDP program CAP_BPF and CAP_NET_ADMIN: give them to the \
     program, or let the agent open the queue",
);

const FOREIGN: OpenError = OpenError::Busy(
    "another XDP program is attached to that interface, and nothing is replaced: `ip link show` names \
     it; detach it (`ip link set dev IFACE xdp off`), or use another interface",
);

const OURS: OpenError = OpenError::Busy(
    "another U-Net process holds that interface's XDP hook: end it, let the agent share the interface \
     among processes, or use another interface",
);

/// What is known of an attached program, beside its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The interface's number.
    pub interface: u32,
    /// Where it runs.
    pub hook: Hook,
    /// Whether it sees packets of several pieces.
    pub frags: bool,
}

/// The program on an interface, until this is dropped or its process dies. Several queues and ports of
/// one process share it.
#[derive(Debug)]
pub struct Program {
    // Closed first: then no packet is steered any more.
    link: OwnedFd,
    sockets: OwnedFd,
    ports: OwnedFd,
    interface: u32,
    hook: Hook,
    frags: bool,
}

impl Program {
    /// Loads the program and attaches it. With `frags` it sees packets of several pieces, which jumbo
    /// frames are; not every driver allows that.
    ///
    /// # Errors
    /// [`AttachError`]; [`OpenError::Busy`] if another program is there.
    ///
    /// # Cost
    /// Some milliseconds; a tenth of a second where another of ours stays attached.
    pub fn attach(interface: &Interface, hook: Hook, frags: bool) -> Result<Self, AttachError> {
        Self::attach_within(interface, hook, frags, RELEASE)
    }

    /// As [`Program::attach`], waiting at most so long for a program of ours that is there.
    ///
    /// # Errors
    /// As [`Program::attach`].
    pub fn attach_within(
        interface: &Interface,
        hook: Hook,
        frags: bool,
        patience: Duration,
    ) -> Result<Self, AttachError> {
        let map = |kind, entries, called| {
            bpf::create_map(kind, entries, called).map_err(|errno| match errno {
                Errno::PERM => NO_CAPABILITY,
                errno => OpenError::Kernel { step: "make a BPF map", errno },
            })
        };
        let sockets = map(MapKind::Sockets, MAX_QUEUES, "unet_sockets")?;
        let ports = map(MapKind::Hash, MAX_PORTS, "unet_ports")?;
        let program = steering(ports.as_raw_fd(), sockets.as_raw_fd()).unwrap_or_default();
        let program = bpf::load_xdp(&program, NAME, frags)
            .map_err(|Rejected { errno, log }| AttachError::Rejected { errno, log })?;
        let deadline = Instant::now() + patience.min(RELEASE);
        let link = loop {
            let refused = match bpf::link_xdp(program.as_fd(), interface.index, hook.flag()) {
                Ok(link) => break link,
                Err(errno) => refusal(errno, interface),
            };
            if refused != OURS || Instant::now() >= deadline {
                return Err(refused.into());
            }
            std::thread::sleep(RETRY);
        };
        Ok(Self { link, sockets, ports, interface: interface.index, hook, frags })
    }

    /// A program that another process attached, and whose descriptors it passed on: from
    /// [`Program::descriptors`], in their order. It stays attached until all processes have closed them.
    pub fn adopt([link, sockets, ports]: [OwnedFd; 3], about: About) -> Self {
        let About { interface, hook, frags } = about;
        Self { link, sockets, ports, interface, hook, frags }
    }

    /// What another process needs to go on with it: who has these decides what is steered where, and when
    /// it ends.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.link.as_fd(), self.sockets.as_fd(), self.ports.as_fd()]
    }

    /// What is to be known beside them.
    pub fn about(&self) -> About {
        About { interface: self.interface, hook: self.hook, frags: self.frags }
    }

    /// Gives a queue's socket the packets to a port that come in on that queue.
    ///
    /// # Errors
    /// [`OpenError::Unsupported`] for a queue beyond [`MAX_QUEUES`] or one pair too many;
    /// [`OpenError::Kernel`].
    ///
    /// # Cost
    /// Two system calls.
    pub fn steer(&self, queue: u32, port: u16, socket: BorrowedFd<'_>) -> Result<(), OpenError> {
        if queue >= MAX_QUEUES {
            return Err(OpenError::Unsupported("use one of an interface's first 1024 queues"));
        }
        let refused = |errno| match errno {
            Errno::TOOBIG => OpenError::Unsupported("steer fewer ports: 4096 are taken"),
            errno => OpenError::Kernel { step: "steer packets to the socket", errno },
        };
        bpf::set(self.sockets.as_fd(), queue, socket.as_raw_fd() as u32).map_err(refused)?;
        bpf::set(self.ports.as_fd(), key(queue, port), 1).map_err(refused)
    }

    /// Lets the kernel have them again.
    pub fn stop_port(&self, queue: u32, port: u16) {
        // It may be gone, which is what is wanted.
        let _ = bpf::remove(self.ports.as_fd(), key(queue, port));
    }

    /// Lets the kernel have all packets of a queue again.
    pub fn stop_queue(&self, queue: u32) {
        let _ = bpf::remove(self.sockets.as_fd(), queue);
    }

    /// The interface's number.
    pub fn interface(&self) -> u32 {
        self.interface
    }

    /// Where it runs.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// Whether it sees packets of several pieces.
    pub fn frags(&self) -> bool {
        self.frags
    }
}

fn refusal(errno: Errno, interface: &Interface) -> OpenError {
    match errno {
        Errno::PERM => NO_CAPABILITY,
        Errno::NODEV => OpenError::NoDevice,
        Errno::BUSY | Errno::EXIST => {
            let ours = |id: &u32| {
                bpf::program_name(*id).is_ok_and(|name| name.starts_with(NAME.as_bytes()))
            };
            // As it is now: who holds the hook may have come since.
            let now = Interfaces::new().ok().and_then(|mut it| it.look(interface.index).ok());
            let programs = now.map_or_else(Vec::new, |interface| interface.programs);
            if programs.iter().any(ours) { OURS } else { FOREIGN }
        }
        Errno::OPNOTSUPP | Errno::INVAL | Errno::RANGE => OpenError::Unsupported(
            "its driver takes no XDP program at this hook, or not with this MTU or these offloads: \
             use mode=generic",
        ),
        errno => OpenError::Kernel { step: "attach the XDP program", errno },
    }
}

fn key(queue: u32, port: u16) -> u32 {
    queue << 16 | u32::from(port)
}

/// The instructions, given the descriptors of the maps.
fn steering(ports: i32, sockets: i32) -> Option<Vec<Instruction>> {
    use Operation::{Add, And, Move, Or, ShiftLeft, ShiftRight};
    use Register::{R0, R1, R2, R3, R4, R5, R6, R10};
    use When::{Different, Equal, Greater, Less};
    use Width::{Byte, Half, Word};

    // What a packet's bytes look like when they are loaded as a number of this machine.
    let network = |value: u16| i32::from(value.to_be());
    let mut a = Assembler::default();
    let (ip4, udp, pass) = (a.label(), a.label(), a.label());

    a.compute_with(Move, R6, R1);
    a.load(Word, R2, R6, 0); // data
    a.load(Word, R3, R6, 4); // data_end

    // An Ethernet header, and the shortest that can follow: IPv4 without options, UDP.
    a.compute_with(Move, R4, R2);
    a.compute(Add, R4, 14 + 20 + 8);
    a.jump_if_with(Greater, R4, R3, pass);
    a.load(Half, R5, R2, 12);
    a.jump_if(Equal, R5, network(0x0800), ip4);
    a.jump_if(Different, R5, network(0x86dd), pass);

    // IPv6: the next header is UDP's.
    a.compute_with(Move, R4, R2);
    a.compute(Add, R4, 14 + 40 + 8);
    a.jump_if_with(Greater, R4, R3, pass);
    a.load(Byte, R5, R2, 14 + 6);
    a.jump_if(Different, R5, 17, pass);
    a.compute(Add, R2, 14 + 40);
    a.jump(udp);

    // IPv4: no fragment, neither the first nor a later one; the protocol is UDP; options are skipped.
    a.place(ip4);
    a.load(Half, R5, R2, 14 + 6);
    a.compute(And, R5, network(0x3fff));
    a.jump_if(Different, R5, 0, pass);
    a.load(Byte, R5, R2, 14 + 9);
    a.jump_if(Different, R5, 17, pass);
    a.load(Byte, R5, R2, 14);
    a.compute_with(Move, R0, R5);
    a.compute(ShiftRight, R0, 4);
    a.jump_if(Different, R0, 4, pass);
    a.compute(And, R5, 15);
    a.compute(ShiftLeft, R5, 2);
    a.jump_if(Less, R5, 20, pass);
    a.compute(Add, R2, 14);
    a.compute_with(Add, R2, R5);
    a.compute_with(Move, R4, R2);
    a.compute(Add, R4, 8);
    a.jump_if_with(Greater, R4, R3, pass);

    // (queue, port) is one of ours?
    a.place(udp);
    a.load(Half, R5, R2, 2);
    a.from_network_half(R5);
    a.load(Word, R1, R6, 16); // rx_queue_index
    a.compute(ShiftLeft, R1, 16);
    a.compute_with(Or, R1, R5);
    a.store(Word, R10, -4, R1);
    a.load_map(R1, ports);
    a.compute_with(Move, R2, R10);
    a.compute(Add, R2, -4);
    a.call(MAP_LOOKUP);
    a.jump_if(Equal, R0, 0, pass);

    // Its socket, or the kernel where none is.
    a.load_map(R1, sockets);
    a.load(Word, R2, R6, 16);
    a.compute(Move, R3, PASS);
    a.call(REDIRECT_MAP);
    a.exit();

    a.place(pass);
    a.compute(Move, R0, PASS);
    a.exit();
    a.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_put_together_and_stays_small() {
        let program = steering(3, 4).expect("every label has its place");
        assert!((40..80).contains(&program.len()), "{}", program.len());
    }

    #[test]
    fn keys_of_different_queues_and_ports_differ() {
        assert_ne!(key(1, 7), key(0, 7));
        assert_ne!(key(1, 7), key(1, 8));
        assert_eq!(key(MAX_QUEUES - 1, u16::MAX) >> 16, MAX_QUEUES - 1);
    }

    #[test]
    fn a_verifiers_refusal_keeps_its_words() {
        let refused = AttachError::Rejected { errno: Errno::ACCESS, log: "R2 offset".into() };
        assert!(refused.to_string().contains("R2 offset"));
        let step = "load the XDP program";
        assert_eq!(OpenError::from(refused), OpenError::Kernel { step, errno: Errno::ACCESS });
    }
}

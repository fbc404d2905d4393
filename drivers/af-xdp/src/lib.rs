//! AF_XDP sockets as a device: a queue of an interface mapped into this process.
//!
//! ```text
//!   interface ─► queue ─► XDP program ──UDP to our port──► receive ring ─► AfXdp (unet::device::Frames)
//!                              └── everything else ──► the kernel's stack      │   ▲ buffers of a pool
//!   interface ◄─ queue ◄────────────────────────────────── transmit ring ◄─────┘   │ come back in the
//!                                                                                  └ completion ring
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`program`] | the XDP program: assembled, loaded, attached; steering by queue and port |
//! | [`instructions`], [`bpf`] | a tiny assembler; bpf(2) |
//! | [`socket`] | the socket: opened, given memory, bound |
//! | [`interface`] | what the kernel says of an interface |
//! | [`port`] | the UDP port, kept from the kernel's sockets |
//! | [`options`] | how a device is opened |
//! | [`open`] | the steps of opening |
//! | [`driver`] | the scheme `xdp` |
//! | [`EveryQueue`] | all queues of an interface as one device |
//! | [`lent`] | a queue that an agent opens for a process without privilege |
//! | [`raw`] | the baseline: AF_XDP in the plainest way, for benchmarks |
//!
//! # What it needs
//!
//! [`AfXdp::open`] needs CAP_NET_RAW, CAP_BPF and CAP_NET_ADMIN; without CAP_IPC_LOCK the buffers count
//! against RLIMIT_MEMLOCK. An agent can do it for a process without any: it opens a
//! [`socket::Unbound`], registers the process's pool by its file, binds it, steers packets to it
//! ([`program::Program::steer`]), passes the bound descriptor and closes its own; the process calls
//! [`AfXdp::from_bound`]. Never pass an unbound one: whoever has it can bind it to any queue.
//!
//! # The mode
//!
//! The chosen one stands in `capabilities().mode`. [`options::Way::Auto`] says how it is chosen.
//!
//! # What to know of veth
//!
//! - Zero-copy sockets and busy polling are for hardware: it refuses the first and ignores the second.
//! - In native mode what is sent on queue N arrives on the peer's queue N. In generic mode it arrives on
//!   queue N - 1, and what is sent on queue 0 on queue 0: several queues want native mode.
//! - UDP that a kernel socket sends over it arrives with a checksum that is to be completed by hardware,
//!   which there is none of: `ethtool -K PEER tx off` has it completed before.
//! - What its queues have no room for is dropped when it is sent, and counted there, as
//!   [`Count::Failed`](unet::device::Count::Failed): nothing between two ends is lost without a count.
//!
//! # What steering does not see
//!
//! A packet that comes in on a queue without a socket for its port goes to the kernel, where a socket
//! holds the port and refuses it ([`port`]). On hardware with several queues the card decides which one a
//! packet comes in on: by a hash, or by a rule (`ethtool -N IFACE flow-type udp4 dst-port PORT action
//! QUEUE`), or have one queue only (`ethtool -L IFACE combined 1`).

pub mod bpf;
mod device;
pub mod driver;
mod every_queue;
pub mod instructions;
pub mod interface;
mod kernel_routes;
pub mod lent;
pub mod open;
pub mod options;
pub mod port;
pub mod program;
pub mod raw;
mod rings;
pub mod socket;
mod transmit;
mod upkeep;

pub use device::AfXdp;
pub use driver::Xdp;
pub use every_queue::{EveryQueue, MAX_QUEUES};
pub use interface::Interface;
pub use kernel_routes::KernelRoutes;
pub use open::queues;
pub use options::{BusyPoll, Options, Way};
pub use program::{Hook, Program};
pub use socket::{Binding, RingSizes};

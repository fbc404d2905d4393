//! Frames through the ports of DPDK: virtual ones, such as memory between two processes (`net_memif`), and network
//! cards by their PCI address, of which none was there to try.
//!
//! ```text
//!   fbufs::Pool ── one sealed memory, registered with DPDK ──────────────────────────────┐
//!     FbufMut, Fbuf          tokens: whose a buffer is                                   │
//!   Port (device) ── an mbuf for each buffer to receive into, one for each to be sent ── mempools without bytes
//!     rte_eth_rx_burst / rte_eth_tx_burst                                                │
//!   the port's own driver ── to and from the same memory ────────────────────────────────┘
//! ```
//!
//! DPDK's mbufs point into the memory of the device's pool, so what a port receives is where the application reads
//! it, and what is sent is read from where it was written. What a port hands over in memory of its own, as rings do,
//! is copied once and counted ([`unet::device::Count::Copied`]). A port that can use no memory but DPDK's
//! (`net_af_xdp`, `net_virtio_user`) has packets there, and is sent copies as well, which are counted, too.
//!
//! DPDK is begun once in a process, by the first port, and stays until the process ends; ports are opened and closed
//! as often as is wished. It is not part of a program that does not ask for this crate: it is linked then, and has to
//! be installed where the program runs. Where it was missing when this was built, opening says what to install.
//!
//! | file | what |
//! |---|---|
//! | `eal` | DPDK's beginning, and its messages |
//! | `port` | a port: found, configured, started, closed |
//! | `guard` | what keeps DPDK's interrupt thread from a port that is used |
//! | `listener` | the socket that a memory interface's server leaves behind |
//! | `registered` | the pool's memory, as DPDK knows it |
//! | `mbufs` | mempools whose bytes are elsewhere |
//! | `packets` | mempools with bytes, and the copying way |
//! | `manner` | which way a port goes, by its driver |
//! | `device` | what a device has, and the order of things |
//! | `opening`, `transmit`, `receive`, `upkeep` | its parts |
//! | `rings` | two ports of one process that are joined |
//! | `interface` | the kernel's interface under a port, where there is one |
//! | `shared` | a port that several devices of a process share |
//! | `driver` | addresses of the scheme `dpdk` |
//! | [`raw`] | the baseline: a port in the plainest way, for benchmarks |

mod driver;
mod error;
pub mod raw;

pub use driver::Dpdk;
pub use error::Error;

#[cfg(dpdk)]
mod device;
#[cfg(dpdk)]
mod eal;
#[cfg(dpdk)]
mod guard;
#[cfg(dpdk)]
mod interface;
#[cfg(dpdk)]
mod listener;
#[cfg(dpdk)]
mod manner;
#[cfg(dpdk)]
mod mbufs;
#[cfg(dpdk)]
mod opening;
#[cfg(dpdk)]
mod packets;
#[cfg(dpdk)]
mod port;
#[cfg(dpdk)]
mod receive;
#[cfg(dpdk)]
mod registered;
#[cfg(dpdk)]
mod rings;
#[cfg(dpdk)]
mod shared;
#[cfg(dpdk)]
mod transmit;
#[cfg(dpdk)]
mod upkeep;

#[cfg(dpdk)]
pub use device::DpdkPort;
#[cfg(dpdk)]
pub use eal::Memory;
#[cfg(dpdk)]
pub use port::Options;

/// Why this crate has no devices, if so: what to install before it is built again.
pub const MISSING: Option<&str> = dpdk_sys::MISSING;

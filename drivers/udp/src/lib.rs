//! The kernel's UDP as a device: needs nothing but a socket.
mod calls;
mod destinations;
mod driver;
mod name;
mod options;
mod path_mtu;
mod port;
mod socket;
mod sockets;
mod uring;
mod waiting;

pub use driver::{Udp, open};
pub use options::{Path, UdpOptions, ZERO_COPY_BYTES};

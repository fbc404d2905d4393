//! How a run reaches a server across a network: addresses, namespaces, and the way there.

pub mod address;
pub mod netns;
pub mod way;

use std::net::IpAddr;

use unet::NetworkAddress;

/// One end of a connection across a network, as its own process sees it.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where U-Net listens or connects: the server's own address, or the server's as the client has it.
    pub address: NetworkAddress,
    /// This end's address, as the control connection has it; a server's that the kernel does not know, as its
    /// address says.
    pub local: IpAddr,
    /// The other end's, likewise.
    pub remote: IpAddr,
}

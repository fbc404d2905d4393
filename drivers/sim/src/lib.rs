//! A simulated network of devices, with seeded faults.
//!
//! | form | what |
//! |---|---|
//! | [`Network::frames`] | devices of Ethernet frames within a process, in virtual or real time |
//! | [`Network::datagrams`] | devices of datagrams within a process, in virtual or real time |
//! | [`HostDatagrams`] | devices of datagrams that the processes of a host share, in real time |
//! | [`Sim`] | the driver that opens the latter two by address, `sim:NETWORK@HOST:PORT` |
//!
//! All faults ([`Faults`]) come from a seed, so that what went wrong once goes wrong again, and each is in
//! the network's account ([`Account`]), so that what was sent is accounted for to the packet.

mod account;
mod datagrams;
mod destinations;
mod driver;
mod faults;
mod frames;
mod host;
mod joined;
mod network;
mod random;
mod stock;
mod wake;

pub use account::Account;
pub use datagrams::Datagrams;
pub use driver::Sim;
pub use faults::Faults;
pub use frames::Frames;
pub use host::{HostDatagrams, Ledger};
pub use network::{Network, PortId};
pub use stock::DeviceOptions;

//! The drivers that a program links: one Cargo feature each, all by default but `dpdk`.
//!
//! ```no_run
//! use unet::{Channel, ConnectOptions, NetworkOptions};
//!
//! let network = NetworkOptions { drivers: drivers::linked(), ..NetworkOptions::default() };
//! let options = ConnectOptions { network, ..ConnectOptions::default() };
//! let mut channel = Channel::connect(&"udp:server:9000".parse()?, options)?;
//! channel.send(b"hello")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A device is opened by the scheme of an address, and by no other: where a driver is missing, or its device
//! cannot be had, that is an error that says so.

use unet::device::Drivers;

/// The drivers of every feature that this program was built with.
pub fn linked() -> Drivers {
    let drivers = Drivers::default();
    #[cfg(feature = "udp")]
    let drivers = drivers.with(driver_udp::Udp);
    #[cfg(feature = "af-xdp")]
    let drivers = drivers.with(driver_af_xdp::Xdp::default());
    #[cfg(feature = "dpdk")]
    let drivers = drivers.with(driver_dpdk::Dpdk);
    #[cfg(feature = "sim")]
    let drivers = drivers.with(driver_sim::Sim::default());
    drivers
}

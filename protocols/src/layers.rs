//! The layers.

mod addresses;
mod arp;
mod device;
mod ether;
mod families;
mod icmp;
mod internet_checksum;
mod internet_sessions;
mod ipv4;
mod ipv6;
mod neighbors;
mod reassembly;
mod tag;
mod token_bucket;
mod udp;

pub use arp::Arp;
pub use device::Device;
pub use ether::Ether;
pub use icmp::Icmp;
pub use ipv4::Ipv4;
pub use ipv6::Ipv6;
pub use tag::Tag;
pub use udp::Udp;

use crate::Kinds;

/// Adds the kinds of this crate.
pub(crate) fn register(kinds: &mut Kinds) {
    kinds.add("arp", Arp::from_options);
    kinds.add("device", Device::from_options);
    kinds.add("ether", Ether::from_options);
    kinds.add("icmp", Icmp::from_options);
    kinds.add("ipv4", Ipv4::from_options);
    kinds.add("ipv6", Ipv6::from_options);
    kinds.add("tag", Tag::from_options);
    kinds.add("udp", Udp::from_options);
}

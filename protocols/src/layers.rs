//! The layers.

mod addresses;
mod arp;
mod checksum;
mod device;
mod ether;
mod families;
mod fault;
pub mod fragment;
pub(crate) mod generation;
mod icmp;
mod internet_checksum;
mod internet_sessions;
mod ipv4;
mod ipv6;
pub(crate) mod joining;
mod loopback;
mod neighbors;
mod reassembly;
mod sequencing;
mod tag;
mod tap;
mod token_bucket;
mod udp;

pub use arp::Arp;
pub use checksum::Checksum;
pub use device::Device;
pub use ether::Ether;
pub use fault::Fault;
pub use fragment::Fragment;
pub use generation::Generation;
pub use icmp::Icmp;
pub use ipv4::Ipv4;
pub use ipv6::Ipv6;
pub use loopback::Loopback;
pub use sequencing::Sequencing;
pub use tag::Tag;
pub use tap::Tap;
pub use udp::Udp;

use crate::Kinds;

/// Adds the kinds of this crate.
pub(crate) fn register(kinds: &mut Kinds) {
    kinds.add("arp", Arp::from_options);
    kinds.add("checksum", Checksum::from_options);
    kinds.add("device", Device::from_options);
    kinds.add("ether", Ether::from_options);
    kinds.add("fault", Fault::from_options);
    kinds.add("fragment", Fragment::from_options);
    kinds.add("generation", Generation::from_options);
    kinds.add("icmp", Icmp::from_options);
    kinds.add("ipv4", Ipv4::from_options);
    kinds.add("ipv6", Ipv6::from_options);
    kinds.add("loopback", Loopback::from_options);
    kinds.add("sequencing", Sequencing::from_options);
    kinds.add("tag", Tag::from_options);
    kinds.add("tap", Tap::from_options);
    kinds.add("udp", Udp::from_options);
}

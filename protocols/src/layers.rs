//! The layers.

mod checksum;
mod device;
mod fault;
pub mod fragment;
pub(crate) mod generation;
mod loopback;
mod sequencing;
mod tag;
mod tap;

pub use checksum::Checksum;
pub use device::Device;
pub use fault::Fault;
pub use fragment::Fragment;
pub use generation::Generation;
pub use loopback::Loopback;
pub use sequencing::Sequencing;
pub use tag::Tag;
pub use tap::Tap;

use crate::Kinds;

/// Adds the kinds of this crate.
pub(crate) fn register(kinds: &mut Kinds) {
    kinds.add("checksum", Checksum::from_options);
    kinds.add("device", Device::from_options);
    kinds.add("fault", Fault::from_options);
    kinds.add("fragment", Fragment::from_options);
    kinds.add("generation", Generation::from_options);
    kinds.add("loopback", Loopback::from_options);
    kinds.add("sequencing", Sequencing::from_options);
    kinds.add("tag", Tag::from_options);
    kinds.add("tap", Tap::from_options);
}

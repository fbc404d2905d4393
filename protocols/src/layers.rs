//! The layers.

mod device;
mod tag;

pub use device::Device;
pub use tag::Tag;

use crate::Kinds;

/// Adds the kinds of this crate.
pub(crate) fn register(kinds: &mut Kinds) {
    kinds.add("device", Device::from_options);
    kinds.add("tag", Tag::from_options);
}

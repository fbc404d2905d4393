//! What the driver calls of the DPDK that is installed: bindings that `bindgen` makes of its headers, and a few
//! functions around what is inline there (`shim/`).
//!
//! Nothing is bundled. Where DPDK was not found when this was built, [`MISSING`] says what to install, and nothing
//! else is here; see the [programmer's guide](https://doc.dpdk.org/guides-22.11/prog_guide/) for what is bound.

/// Why there is nothing here, if so: what to install before it is built again.
pub const MISSING: Option<&str> = option_env!("DPDK_MISSING");

/// The release that was found.
pub const VERSION: Option<&str> = option_env!("DPDK_VERSION");

#[cfg(dpdk)]
pub use bound::*;

#[cfg(dpdk)]
#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    clippy::all,
    unsafe_op_in_unsafe_fn,
    unnecessary_transmutes,
    clippy::undocumented_unsafe_blocks,
    reason = "another's names, by a generator"
)]
mod bound {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

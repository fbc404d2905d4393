//! The agent, with honest clients and others, over the kernel's UDP on the loopback interface and over the
//! simulator.

mod agency;
mod dying;
mod exchanging;
mod fairness;
mod hostility;
mod isolation;
mod over;
mod programs;
mod refusing;
mod reloading;
#[path = "../../../unet/tests/support/mod.rs"]
mod support;

use agency::*;

/// Whether the agents' devices are ports of DPDK (`over`).
const IS_DPDK: bool = false;

//! The tests of `agent`, with ports of DPDK as the agents' devices.

#[path = "../agent/agency.rs"]
mod agency;
#[path = "../agent/dying.rs"]
mod dying;
#[path = "../agent/exchanging.rs"]
mod exchanging;
#[path = "../agent/fairness.rs"]
mod fairness;
#[path = "../agent/hostility.rs"]
mod hostility;
#[path = "../agent/isolation.rs"]
mod isolation;
mod memory;
#[path = "../agent/over.rs"]
mod over;
#[path = "../agent/programs.rs"]
mod programs;
#[path = "../agent/refusing.rs"]
mod refusing;
#[path = "../agent/reloading.rs"]
mod reloading;
#[path = "../../../unet/tests/support/mod.rs"]
mod support;

use agency::*;

/// Whether the agents' devices are ports of DPDK (`over`).
const IS_DPDK: bool = true;

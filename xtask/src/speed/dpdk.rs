//! The table of DPDK's ports: ours beside bare ones. Memory between two processes takes no lab and no privilege.

use super::network::{at_least, at_most};
use super::{Figure, Invocation, Pick, Row, payload, place};

/// The arguments of a run over memory between two ports.
macro_rules! over_memory {
    ($($args:literal),+) => { &[$($args),+, "--transport", "dpdk:net_memif", "--wait", "spin"] };
}

/// The runs of one round.
pub const INVOCATIONS: &[Invocation] = &[
    Invocation {
        name: "rtt memory",
        args: over_memory!("rtt", "--size", "64", "--system", "unet,dpdk/raw"),
        once: false,
    },
    Invocation {
        name: "rate memory",
        args: over_memory!("rate", "--size", "64", "--system", "unet,dpdk/raw"),
        once: false,
    },
    Invocation {
        name: "null memory",
        args: over_memory!("null-rpc", "--system", "rpc,unet"),
        once: false,
    },
];

const fn of(run: &'static str, system: &'static str) -> Pick {
    payload(run, system, 64)
}

/// The rows. Round trips are compared by their medians, rates by the time for each message that arrived.
pub const ROWS: &[Row] = &[
    at_most(
        "DPDK, memory, round trip of 64 B",
        Figure::Medians(of("rtt memory", "unet"), of("rtt memory", "dpdk/raw")),
        "× bare",
        1.15,
    ),
    at_least(
        "DPDK, memory, one-way rate, 64 B",
        Figure::Means(of("rate memory", "dpdk/raw"), of("rate memory", "unet")),
        "of bare",
        0.85,
    ),
    at_most(
        "the protocol, DPDK, memory",
        Figure::FieldsApart(
            place("null memory", "rpc", 0),
            place("null memory", "unet", 0),
            "p50_ns",
            1.0 / 2.0,
        ),
        "ns each way",
        250.0,
    ),
];

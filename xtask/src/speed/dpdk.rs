//! The table of DPDK's ports: ours beside bare ones. Memory between two processes takes no lab and no privilege; DPDK's
//! way to AF_XDP is compared with ours between the lab's hosts.

use super::network::{at_least, at_most};
use super::{Bound, Figure, Invocation, Pick, Row, payload, place};

/// The arguments of a run over memory between two ports.
macro_rules! over_memory {
    ($($args:literal),+) => { &[$($args),+, "--transport", "dpdk:net_memif", "--wait", "spin"] };
}

/// The arguments of a round trip between the lab's hosts.
macro_rules! between_hosts {
    ($server:literal, $client:literal, $systems:literal) => {
        &[
            "rtt",
            "--transport",
            $server,
            "--client-device",
            $client,
            "--netns",
            "lab-a,lab-b",
            "--size",
            "64",
            "--wait",
            "spin",
            "--system",
            $systems,
        ]
    };
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
    Invocation {
        name: "af-xdp",
        args: between_hosts!("xdp:lab-b0@10.77.0.2:9000?mode=native", "lab-a0", "unet"),
        once: false,
    },
    // DPDK asks the kernel for nothing else than its best mode, which is the native one.
    Invocation {
        name: "net_af_xdp",
        args: between_hosts!(
            "dpdk:net_af_xdp0,iface=lab-b0@10.77.0.2:9000?ip=10.77.0.2/24&memory=128",
            "net_af_xdp1,iface=lab-a0?ip=10.77.0.1/24&memory=128",
            "unet"
        ),
        once: false,
    },
    // A process of its own: DPDK does not give an interface back.
    Invocation {
        name: "net_af_xdp bare",
        args: between_hosts!(
            "dpdk:net_af_xdp0,iface=lab-b0@10.77.0.2:9000?ip=10.77.0.2/24&memory=128",
            "net_af_xdp1,iface=lab-a0?ip=10.77.0.1/24&memory=128",
            "dpdk/raw"
        ),
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
    at_most(
        "AF_XDP native by our driver, 64 B",
        Figure::Medians(of("af-xdp", "unet"), of("net_af_xdp", "unet")),
        "× net_af_xdp",
        1.0,
    ),
    Row {
        what: "AF_XDP native by our driver, 64 B",
        figure: Figure::Medians(of("af-xdp", "unet"), of("net_af_xdp bare", "dpdk/raw")),
        unit: "× bare net_af_xdp",
        aim: Bound::Open,
        must: Bound::Open,
    },
];

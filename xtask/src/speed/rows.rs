//! The table itself: the runs that are made and the rows that are read from them.

use super::{Bound, Figure, payload, place};

/// One run of `unet-bench`, by a name that the rows refer to.
pub struct Invocation {
    pub name: &'static str,
    pub args: &'static [&'static str],
}

/// The runs of one round. What is compared with each other is measured as close together as can be.
pub const INVOCATIONS: &[Invocation] = &[
    Invocation { name: "limits", args: &["limits"] },
    Invocation {
        name: "rtt",
        args: &["rtt", "--system", "unet", "--size", "8,4096,65536", "--wait", "spin"],
    },
    Invocation {
        name: "null-rpc",
        args: &["null-rpc", "--system", "lrpc", "--size", "0,32", "--wait", "spin"],
    },
    Invocation {
        name: "rate",
        args: &["rate", "--system", "unet", "--size", "8", "--wait", "spin"],
    },
    Invocation {
        name: "scale",
        args: &["scale", "--bindings", "0,255", "--system", "lrpc", "--wait", "spin"],
    },
    Invocation {
        name: "same core",
        args: &[
            "null-rpc", "--system", "lrpc", "--size", "0", "--wait", "adaptive", "--cpus", "0,0",
        ],
    },
    Invocation {
        name: "parked",
        args: &["null-rpc", "--system", "lrpc", "--size", "0", "--wait", "park"],
    },
];

/// One row, or one of the rows that a line of the table stands for.
pub struct Row {
    pub what: &'static str,
    pub figure: Figure,
    pub unit: &'static str,
    pub aim: Bound,
    pub must: Bound,
}

const FLOORS: &str = "× floor";

pub const ROWS: &[Row] = &[
    Row {
        what: "U-Net round trip, 8 B",
        figure: Figure::ToFloor(payload("rtt", "unet", 8)),
        unit: FLOORS,
        aim: Bound::AtMost(1.7),
        must: Bound::AtMost(2.2),
    },
    Row {
        what: "null LRPC",
        figure: Figure::ToFloor(payload("null-rpc", "lrpc", 0)),
        unit: FLOORS,
        aim: Bound::AtMost(1.9),
        must: Bound::AtMost(2.4),
    },
    Row {
        what: "LRPC, 32 B in and out",
        figure: Figure::ToFloor(payload("null-rpc", "lrpc", 32)),
        unit: FLOORS,
        aim: Bound::AtMost(1.9),
        must: Bound::AtMost(2.4),
    },
    Row {
        what: "U-Net round trip, 4 KiB handed over",
        figure: Figure::ToFloor(payload("rtt", "unet", 4096)),
        unit: FLOORS,
        aim: Bound::AtMost(2.2),
        must: Bound::AtMost(3.5),
    },
    Row {
        what: "U-Net round trip, 64 KiB handed over",
        figure: Figure::ToFloor(payload("rtt", "unet", 65536)),
        unit: FLOORS,
        aim: Bound::AtMost(2.2),
        must: Bound::AtMost(3.5),
    },
    Row {
        what: "one-way rate, 8 B, one channel",
        figure: Figure::MillionsPerSecond(payload("rate", "unet", 8)),
        unit: "M/s",
        aim: Bound::AtLeast(200.0),
        must: Bound::AtLeast(100.0),
    },
    Row {
        what: "null LRPC beside 255 idle bindings",
        figure: Figure::Means(place("scale", "lrpc", 1), place("scale", "lrpc", 0)),
        unit: "× single binding",
        aim: Bound::AtMost(1.2),
        must: Bound::AtMost(1.5),
    },
    Row {
        what: "same core, adaptive: null LRPC",
        // On one core the floor of a record is the yield ping-pong, sampled around the run.
        figure: Figure::ToFloor(payload("same core", "lrpc", 0)),
        unit: "× yield",
        aim: Bound::AtMost(1.2),
        must: Bound::Open,
    },
    Row {
        what: "same core, adaptive: null LRPC",
        figure: Figure::ToLimit(payload("same core", "lrpc", 0), "eventfd_one_core_ns"),
        unit: "× eventfd",
        aim: Bound::Open,
        must: Bound::AtMost(1.0),
    },
    Row {
        what: "both sides parked, two cores: null LRPC",
        figure: Figure::ToLimit(payload("parked", "lrpc", 0), "eventfd_two_cores_ns"),
        unit: "× eventfd",
        aim: Bound::AtMost(1.1),
        must: Bound::AtMost(1.3),
    },
    Row {
        what: "p99.9 of the 8 B round trip",
        figure: Figure::Tail(payload("rtt", "unet", 8)),
        unit: "× p50",
        aim: Bound::AtMost(2.0),
        must: Bound::Explain,
    },
];

//! The table itself: the runs that are made and the rows that are read from them.

use super::{Bound, Figure, Invocation, payload, place};

/// The runs of one round. What is compared with each other is measured as close together as can be.
pub const INVOCATIONS: &[Invocation] = &[
    Invocation { name: "limits", args: &["limits"], once: true },
    Invocation {
        name: "rtt",
        args: &["rtt", "--system", "unet", "--size", "8,4096,65536", "--wait", "spin"],
        once: true,
    },
    Invocation {
        name: "null-rpc",
        args: &["null-rpc", "--system", "lrpc", "--size", "0,32", "--wait", "spin"],
        once: true,
    },
    Invocation {
        name: "rate",
        args: &["rate", "--system", "unet", "--size", "8", "--wait", "spin"],
        once: true,
    },
    Invocation {
        name: "scale",
        args: &["scale", "--bindings", "0,255", "--system", "lrpc", "--wait", "spin"],
        once: true,
    },
    Invocation {
        name: "same core",
        args: &[
            "null-rpc", "--system", "lrpc", "--size", "0", "--wait", "adaptive", "--cpus", "0,0",
        ],
        once: true,
    },
    Invocation {
        name: "parked",
        args: &["null-rpc", "--system", "lrpc", "--size", "0", "--wait", "park"],
        once: true,
    },
    Invocation {
        name: "hop",
        args: &[
            "fbuf",
            "--system",
            "unet,fbuf/volatile,fbuf/rope",
            "--domains",
            "2",
            "--size",
            "4K,64K,1M,4M,16M",
        ],
        once: true,
    },
    Invocation {
        name: "pipeline",
        args: &["fbuf", "--system", "fbuf/read", "--domains", "3", "--size", "1M"],
        once: true,
    },
    Invocation {
        name: "secured",
        args: &[
            "fbuf",
            "--system",
            "fbuf/secured,fbuf/guarded,fbuf/guarded-huge",
            "--size",
            "4K,1M",
        ],
        once: true,
    },
    Invocation { name: "layers", args: &["fbuf", "--system", "layers/0,layers/10"], once: true },
];

/// One row, or one of the rows that a line of the table stands for.
pub struct Row {
    pub what: &'static str,
    pub figure: Figure,
    pub unit: &'static str,
    pub aim: Bound,
    pub must: Bound,
}

/// A hop that costs what one of 4 KiB does, whatever its size.
const fn flat(what: &'static str, system: &'static str, bytes: u64) -> Row {
    let figure =
        Figure::Means(payload("hop", system, bytes), payload("hop", "fbuf/volatile", 4 << 10));
    let limit = Bound::AtMost(1.2);
    Row { what, figure, unit: "× hop of 4 KiB", aim: limit, must: limit }
}

/// A hop that costs little more than one of a message in a slot.
const fn near(what: &'static str, system: &'static str, bytes: u64) -> Row {
    let figure = Figure::Means(payload("hop", system, bytes), payload("hop", "unet", 8));
    let limit = Bound::AtMost(1.5);
    Row { what, figure, unit: "× half of 8 B", aim: limit, must: limit }
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
    flat("hop of 64 KiB", "fbuf/volatile", 64 << 10),
    flat("hop of 1 MiB", "fbuf/volatile", 1 << 20),
    flat("hop of 4 MiB", "fbuf/volatile", 4 << 20),
    flat("hop of 16 MiB, adjacent buffers", "fbuf/volatile", 16 << 20),
    flat("hop of 16 MiB, rope", "fbuf/rope", 16 << 20),
    near("hop of 4 KiB", "fbuf/volatile", 4 << 10),
    near("hop of 1 MiB", "fbuf/volatile", 1 << 20),
    near("hop of 16 MiB, adjacent buffers", "fbuf/volatile", 16 << 20),
    near("hop of 16 MiB, rope", "fbuf/rope", 16 << 20),
    Row {
        what: "copies per hop, 1 MiB",
        figure: Figure::Copied(payload("hop", "fbuf/volatile", 1048576)),
        unit: "bytes",
        aim: Bound::AtMost(0.0),
        must: Bound::AtMost(0.0),
    },
    Row {
        what: "copies per hop, 1 MiB, 3 processes",
        figure: Figure::Copied(payload("pipeline", "fbuf/read", 1048576)),
        unit: "bytes",
        aim: Bound::AtMost(0.0),
        must: Bound::AtMost(0.0),
    },
    Row {
        what: "1 MiB through 3 processes, read once",
        figure: Figure::OfReference(payload("pipeline", "fbuf/read", 1048576)),
        unit: "of one core",
        aim: Bound::AtLeast(0.95),
        must: Bound::AtLeast(0.9),
    },
    Row {
        what: "4 KiB secured",
        figure: Figure::ToReference(payload("secured", "fbuf/secured", 4096)),
        unit: "× bare copy",
        aim: Bound::AtMost(1.1),
        must: Bound::AtMost(1.1),
    },
    Row {
        what: "1 MiB guarded, 2 MiB pages",
        figure: Figure::ToReference(payload("secured", "fbuf/guarded-huge", 1048576)),
        unit: "× copy",
        aim: Bound::AtMost(0.1),
        must: Bound::Explain,
    },
    Row {
        what: "1 MiB guarded, 4 KiB pages",
        figure: Figure::ToReference(payload("secured", "fbuf/guarded", 1048576)),
        unit: "× copy",
        aim: Bound::AtMost(0.1),
        must: Bound::Explain,
    },
    Row {
        what: "a layer with an 8 B header, both ways",
        figure: Figure::Each(place("layers", "layers/10", 0), place("layers", "layers/0", 0), 10.0),
        unit: "ns",
        aim: Bound::AtMost(15.0),
        must: Bound::AtMost(15.0),
    },
    Row {
        what: "ten layers",
        figure: Figure::ToReference(place("layers", "layers/10", 0)),
        unit: "× hand-inlined",
        aim: Bound::AtMost(1.3),
        must: Bound::AtMost(1.3),
    },
];

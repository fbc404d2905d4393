//! The table across the lab's network. What is compared runs in one invocation, one after the other.

use super::{Bound, Figure, Invocation, Pick, Row, adapter, payload};

/// The arguments of a run between the lab's hosts, by the server's address.
macro_rules! between {
    (xdp $mode:literal, $bench:literal, $wait:literal, $systems:literal $(, $more:literal)*) => {
        &[
            $bench,
            "--transport",
            concat!("xdp:lab-b0@10.77.0.2:9000?mode=", $mode),
            "--client-device",
            "lab-a0",
            "--netns",
            "lab-a,lab-b",
            "--size",
            "64",
            "--wait",
            $wait,
            "--system",
            $systems
            $(, $more)*
        ]
    };
    (udp $path:literal, $bench:literal, $systems:literal $(, $more:literal)*) => {
        &[
            $bench,
            "--transport",
            concat!("udp:10.77.0.2:9000?path=", $path),
            "--netns",
            "lab-a,lab-b",
            "--size",
            "64",
            "--wait",
            "spin",
            "--system",
            $systems
            $(, $more)*
        ]
    };
}

/// The runs of one round.
pub const INVOCATIONS: &[Invocation] = &[
    Invocation {
        name: "rtt generic",
        args: between!(xdp "generic", "rtt", "spin", "unet,xdp/raw,udp/spin"),
        once: false,
    },
    Invocation {
        name: "rtt native",
        args: between!(xdp "native", "rtt", "spin", "unet,xdp/raw,udp/spin"),
        once: false,
    },
    Invocation {
        name: "rate generic",
        args: between!(xdp "generic", "rate", "spin", "unet,xdp/raw"),
        once: false,
    },
    Invocation {
        name: "rate native",
        args: between!(xdp "native", "rate", "spin", "unet,xdp/raw"),
        once: false,
    },
    // Both wait alike, and so that a controller without a core of its own takes turns with its client.
    Invocation {
        name: "mediated generic",
        args: between!(xdp "generic", "rtt", "adaptive", "unet,mediated"),
        once: false,
    },
    Invocation {
        name: "mediated native",
        args: between!(xdp "native", "rtt", "adaptive", "unet,mediated"),
        once: false,
    },
    Invocation {
        name: "sockets",
        args: between!(udp "sockets", "rtt", "unet,udp/spin"),
        once: false,
    },
    Invocation {
        name: "io-uring",
        args: between!(udp "io-uring", "rtt", "unet,udp/io-uring"),
        once: false,
    },
    Invocation {
        name: "load xdp",
        args: between!(xdp "generic", "sweep", "spin", "unet", "--from", "60", "--up-to", "150"),
        once: true,
    },
    Invocation {
        name: "load udp",
        args: between!(udp "sockets", "sweep", "unet", "--from", "60", "--up-to", "150"),
        once: true,
    },
];

const fn of(run: &'static str, system: &'static str) -> Pick {
    payload(run, system, 64)
}

pub(super) const fn at_most(
    what: &'static str,
    figure: Figure,
    unit: &'static str,
    limit: f64,
) -> Row {
    Row { what, figure, unit, aim: Bound::AtMost(limit), must: Bound::AtMost(limit) }
}

pub(super) const fn at_least(
    what: &'static str,
    figure: Figure,
    unit: &'static str,
    limit: f64,
) -> Row {
    Row { what, figure, unit, aim: Bound::AtLeast(limit), must: Bound::AtLeast(limit) }
}

static GENERIC_TO_SOCKETS: Figure =
    Figure::Medians(of("rtt generic", "unet"), of("rtt generic", "udp/spin"));
static NATIVE_TO_SOCKETS: Figure =
    Figure::Medians(of("rtt native", "unet"), of("rtt native", "udp/spin"));

/// By way of an agent at the client's end, beside the client without one: the server's end is the same. It
/// counts where client, controller and server have a core each.
const fn mediated(what: &'static str, run: &'static str) -> Row {
    let limit = Bound::AtMostWithCores(1.4, 3);
    let figure = Figure::Medians(of(run, "mediated"), of(run, "unet"));
    Row { what, figure, unit: "× direct", aim: limit, must: limit }
}

/// The rows. Round trips are compared by their medians, rates by the time for each message that arrived.
pub const ROWS: &[Row] = &[
    at_most(
        "AF_XDP generic, round trip of 64 B",
        Figure::Medians(of("rtt generic", "unet"), of("rtt generic", "xdp/raw")),
        "× raw",
        1.15,
    ),
    at_most(
        "AF_XDP native, round trip of 64 B",
        Figure::Medians(of("rtt native", "unet"), of("rtt native", "xdp/raw")),
        "× raw",
        1.15,
    ),
    at_most(
        "AF_XDP, the better mode, 64 B",
        Figure::Lesser(&GENERIC_TO_SOCKETS, &NATIVE_TO_SOCKETS),
        "× spinning UDP",
        0.55,
    ),
    mediated("AF_XDP generic, mediated, 64 B", "mediated generic"),
    mediated("AF_XDP native, mediated, 64 B", "mediated native"),
    at_least(
        "AF_XDP generic, one-way rate, 64 B",
        Figure::Means(of("rate generic", "xdp/raw"), of("rate generic", "unet")),
        "of raw",
        0.9,
    ),
    at_least(
        "AF_XDP native, one-way rate, 64 B",
        Figure::Means(of("rate native", "xdp/raw"), of("rate native", "unet")),
        "of raw",
        0.9,
    ),
    at_most(
        "UDP by sockets, round trip of 64 B",
        Figure::Medians(of("sockets", "unet"), of("sockets", "udp/spin")),
        "× bare sockets",
        1.1,
    ),
    at_most(
        "UDP by io_uring, round trip of 64 B",
        Figure::Medians(of("io-uring", "unet"), of("io-uring", "udp/io-uring")),
        "× bare io_uring",
        1.1,
    ),
    at_most(
        "adapter, a packet of 64 B sent",
        Figure::Each(of(adapter::RUN, "IPv4/send"), of(adapter::RUN, "device/send"), 1.0),
        "ns",
        40.0,
    ),
    at_most(
        "adapter, a packet of 64 B received",
        Figure::Each(of(adapter::RUN, "IPv4/receive"), of(adapter::RUN, "device/receive"), 1.0),
        "ns",
        40.0,
    ),
    at_least(
        "AF_XDP generic, goodput at 150 % load",
        Figure::Overloaded("load xdp", "unet"),
        "of its peak",
        0.9,
    ),
    at_least(
        "UDP by sockets, goodput at 150 % load",
        Figure::Overloaded("load udp", "unet"),
        "of its peak",
        0.9,
    ),
];

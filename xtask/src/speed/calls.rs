//! The table of calls: within a host, over the loopback device, across the lab's network, and with losses.

use super::{Bound, Figure, Invocation, Pick, Row, STUB, payload, place};

/// A run, with its arguments in a line: on the server's own host, unless they say more.
macro_rules! run {
    ($name:literal, $once:literal, $($args:expr),+) => {
        Invocation { name: $name, once: $once, args: &[$($args),+] }
    };
}

/// A run between the lab's hosts by AF_XDP, in a mode.
macro_rules! xdp {
    ($name:literal, $mode:literal, $args:literal) => {
        run!(
            $name,
            false,
            $args,
            concat!("--transport xdp:lab-b0@10.77.0.2:9000?mode=", $mode),
            "--client-device lab-a0 --netns lab-a,lab-b --wait spin"
        )
    };
}

/// Between the lab's hosts by UDP.
const UDP: &str = "--transport udp:10.77.0.2:9000?path=sockets --netns lab-a,lab-b --wait spin";

/// A run of calls over a simulated network of 20 µs each way, with what goes wrong on it in both directions: in
/// turn nothing, one packet lost of a thousand, one of a hundred, and as many in bursts of eight. Each says its
/// own time: what happens once in a thousand calls has to happen often.
macro_rules! sim {
    ($name:literal, $faults:literal, $args:literal) => {
        run!(
            $name,
            true,
            $args,
            concat!("--transport sim:calls@127.0.0.1:9000?delay=20us", $faults),
            "--system rpc --wait spin"
        )
    };
}

/// The runs of one round.
pub const INVOCATIONS: &[Invocation] = &[
    run!("stub", false, "null-rpc --system service,lrpc --wait spin"),
    xdp!("null generic", "generic", "null-rpc --system rpc,unet"),
    xdp!("null native", "native", "null-rpc --system rpc,unet"),
    run!("null udp", false, "null-rpc --system rpc,unet", UDP),
    run!(
        "null loopback",
        false,
        "null-rpc --system rpc --wait adaptive,spin,park --transport udp:127.0.0.1:9000?path=sockets"
    ),
    run!("peers", false, "null-rpc --system tonic-tcp,tarpc"),
    run!("rate", true, "rate --system rpc --size 8 --window 64,32 --batch 8,16 --wait spin"),
    run!("in place", true, RESPONSE, "--window 1,2 --wait spin --in-place"),
    run!("response", true, RESPONSE, "--window 1,2 --wait spin"),
    xdp!(
        "response generic",
        "generic",
        "bandwidth --system rpc --size 8M --carries response --in-place"
    ),
    xdp!("raw generic", "generic", "rate --system xdp/raw --size 1472"),
    xdp!(
        "response native",
        "native",
        "bandwidth --system rpc --size 8M --carries response --in-place"
    ),
    xdp!("raw native", "native", "rate --system xdp/raw --size 1472"),
    sim!("null 0", "", "null-rpc --duration 4s"),
    sim!("null 0.1", "&loss=0.001", "null-rpc --duration 8s"),
    sim!("null 1", "&loss=0.01", "null-rpc --duration 8s"),
    sim!("null bursts", "&burst=0.00125&recover=0.125", "null-rpc --duration 8s"),
    sim!("window 0", "", "rate --window 64 --batch 1 --duration 4s"),
    sim!("window 0.1", "&loss=0.001", "rate --window 64 --batch 1 --duration 4s"),
    sim!("window 1", "&loss=0.01", "rate --window 64 --batch 1 --duration 4s"),
    sim!(
        "window bursts",
        "&burst=0.00125&recover=0.125",
        "rate --window 64 --batch 1 --duration 4s"
    ),
    sim!("fragments 0", "", "rtt --size 16K --duration 4s"),
    sim!("fragments 1", "&loss=0.01", "rtt --size 16K --duration 4s"),
    sim!("long 0", "", "bandwidth --size 1M --duration 4s"),
    sim!("long 1", "&loss=0.01", "bandwidth --size 1M --duration 4s"),
    run!("beside", true, "beside --system rpc --duration 2s", UDP),
    run!(
        "kv",
        true,
        "kv --mix B --window 1,8 --system kv/lrpc,kv/channels,redis/unix --duration 1s"
    ),
    run!("load shm", true, "sweep --system rpc --wait spin --duration 500ms", LOAD),
    run!("load udp", true, "sweep --system rpc --duration 500ms", LOAD, UDP),
];

/// A response of 8 MiB over shared memory.
const RESPONSE: &str = "bandwidth --system rpc --size 8M --carries response --duration 2s";
const LOAD: &str = "--from 80% --up-to 200%";
const TIMES: &str = "× as long";
/// A packet that is lost is sent again after the least timeout, which is a millisecond, an eighth by chance, and
/// what the round trip and the look at the clock take; in milliseconds.
const TIMEOUT: f64 = 1.25;
/// Calls that wait at the client, and those in the network.
const BACKLOG: f64 = 64.0 + 8.0;

const fn rpc(run: &'static str, at: usize) -> Pick {
    place(run, "rpc", at)
}

const fn row(what: &'static str, figure: Figure, unit: &'static str, must: Bound) -> Row {
    Row { what, figure, unit, aim: must, must }
}

const fn at_most(what: &'static str, figure: Figure, unit: &'static str, limit: f64) -> Row {
    row(what, figure, unit, Bound::AtMost(limit))
}

const fn at_least(what: &'static str, figure: Figure, unit: &'static str, limit: f64) -> Row {
    row(what, figure, unit, Bound::AtLeast(limit))
}

const fn shown(what: &'static str, figure: Figure, unit: &'static str) -> Row {
    row(what, figure, unit, Bound::Open)
}

/// A round trip of the call beside one of the message alone.
const fn over(run: &'static str) -> Figure {
    Figure::Medians(rpc(run, 0), place(run, "unet", 0))
}

/// What the call adds, each way.
const fn each_way(run: &'static str) -> Figure {
    Figure::FieldsApart(rpc(run, 0), place(run, "unet", 0), "p50_ns", 1.0 / 2.0)
}

/// Another project's call, as a multiple of one of ours that waits so.
const fn peer(system: &'static str, at: usize) -> Figure {
    Figure::Medians(place("peers", system, 0), rpc("null loopback", at))
}

/// What one thread takes to copy as much within its memory, to a place in a cache and to one in none.
const WARM: &str = "copy_ns";
const COLD: &str = "cold_copy_ns";

/// The rate at which bytes come in replies, as a share of copying them once.
const fn of_copy(run: &'static str, at: usize, copy: &'static str) -> Figure {
    Figure::Fields((rpc(run, at), copy), (rpc(run, at), "mean_ns"))
}

/// The bytes that come in replies, as a share of the bare loop's.
const fn of_raw(run: &'static str, raw: &'static str) -> Figure {
    let bytes = "bytes_per_sec";
    Figure::Fields((rpc(run, 0), bytes), (payload(raw, "xdp/raw", 1472), bytes))
}

/// The 99.9th percentile, in milliseconds.
const fn tail(run: &'static str) -> Figure {
    Figure::Field(rpc(run, 0), "p999_ns", 1e-6)
}

/// What loss adds to the p99.9 of 64 calls.
const fn longer(run: &'static str) -> Figure {
    Figure::FieldsApart(rpc(run, 0), rpc("window 0", 0), "p999_ns", 1e-6)
}

/// What one percent of loss leaves of the goodput: of requests, or of replies.
const fn left(at: usize) -> Figure {
    let bytes = "bytes_per_sec";
    Figure::Fields((rpc("long 1", at), bytes), (rpc("long 0", at), bytes))
}

/// The p99 of a null call beside two flows, as a multiple of that with nothing beside.
const fn beside(idle: usize) -> Figure {
    Figure::Fields((rpc("beside", idle + 1), "p99_ns"), (rpc("beside", idle), "p99_ns"))
}

/// By how much a store does more than Redis.
const fn redis(system: &'static str, at: usize) -> Figure {
    Figure::Field(place("kv", system, at), "times_redis_unix", 1.0)
}

/// The p99 at 200 % beside that at 80 %: records come from the least load to the greatest.
const fn grown(run: &'static str) -> Figure {
    Figure::Fields((rpc(run, 6), "p99_ns"), (rpc(run, 0), "p99_ns"))
}

/// The rows, with all limits.
pub const ROWS: &[Row] = &[
    at_most(
        "stub over LRPC, null call: instructions",
        Figure::Means(place(STUB, "service-call", 0), place(STUB, "started-call", 0)),
        "× raw LRPC",
        1.05,
    ),
    shown(
        "stub over LRPC, null call: time",
        Figure::Means(place("stub", "service", 0), place("stub", "lrpc", 0)),
        "× raw LRPC",
    ),
    at_most("null call, AF_XDP generic", over("null generic"), "× U-Net", 1.25),
    at_most("the protocol, AF_XDP generic", each_way("null generic"), "ns each way", 250.0),
    at_most("null call, AF_XDP native", over("null native"), "× U-Net", 1.25),
    at_most("the protocol, AF_XDP native", each_way("null native"), "ns each way", 250.0),
    at_most("null call, UDP", over("null udp"), "× U-Net", 1.25),
    at_least("tonic over TCP, beside UDP by default", peer("tonic-tcp", 0), TIMES, 3.0),
    at_least("tarpc, beside UDP by default", peer("tarpc", 0), TIMES, 3.0),
    shown("tonic over TCP, beside UDP spinning", peer("tonic-tcp", 1), TIMES),
    shown("tarpc, beside UDP spinning", peer("tarpc", 1), TIMES),
    shown("tonic over TCP, beside UDP parked", peer("tonic-tcp", 2), TIMES),
    shown("tarpc, beside UDP parked", peer("tarpc", 2), TIMES),
    at_least("calls, window 64 by 8", Figure::MillionsPerSecond(rpc("rate", 0)), "M/s", 8.0),
    shown("calls, window 64 by 16", Figure::MillionsPerSecond(rpc("rate", 1)), "M/s"),
    shown("calls, window 32 by 8", Figure::MillionsPerSecond(rpc("rate", 2)), "M/s"),
    shown("calls, window 32 by 16", Figure::MillionsPerSecond(rpc("rate", 3)), "M/s"),
    at_least("8 MiB response, shm, read in place", of_copy("in place", 0, WARM), "of a copy", 0.7),
    shown("8 MiB response, shm, read in place", of_copy("in place", 0, COLD), "of a cold copy"),
    shown("8 MiB response, shm, in place, two", of_copy("in place", 1, WARM), "of a copy"),
    shown("8 MiB response, shm, copied out", of_copy("response", 0, WARM), "of a copy"),
    shown("8 MiB response, shm, copied out", of_copy("response", 0, COLD), "of a cold copy"),
    shown("8 MiB response, shm, copied out, two", of_copy("response", 1, WARM), "of a copy"),
    at_least(
        "8 MiB response, AF_XDP generic",
        of_raw("response generic", "raw generic"),
        "of raw",
        0.85,
    ),
    at_least(
        "8 MiB response, AF_XDP native",
        of_raw("response native", "raw native"),
        "of raw",
        0.85,
    ),
    shown("p99.9 without loss, one call", tail("null 0"), "ms"),
    at_most("p99.9 at 0.1 % of loss, one call", tail("null 0.1"), "ms", TIMEOUT),
    at_most("p99.9 at 1 % of loss, one call", tail("null 1"), "ms", TIMEOUT),
    shown("p99.9 with bursts of 8, one call", tail("null bursts"), "ms"),
    at_most("p99.9 without loss, 64 calls", tail("window 0"), "ms", 2.0 * TIMEOUT),
    shown("p99.9 at 0.1 % of loss, 64 calls", tail("window 0.1"), "ms"),
    shown("p99.9 at 1 % of loss, 64 calls", tail("window 1"), "ms"),
    at_most("0.1 % of loss adds, 64 calls", longer("window 0.1"), "ms to the p99.9", TIMEOUT),
    at_most("1 % of loss adds, 64 calls", longer("window 1"), "ms to the p99.9", TIMEOUT),
    shown("p99.9 with bursts of 8, 64 calls", tail("window bursts"), "ms"),
    at_most(
        "p90 at 1 % of loss, 16 KiB there and back",
        Figure::Fields((rpc("fragments 1", 0), "p90_ns"), (rpc("fragments 0", 0), "p50_ns")),
        "× p50 without",
        4.0,
    ),
    at_least("1 MiB requests at 1 % of loss", left(0), "of loss-free", 0.7),
    at_least("1 MiB responses at 1 % of loss", left(1), "of loss-free", 0.7),
    at_most("p99 beside two flows of requests", beside(0), "× idle p99", 5.0),
    at_most("p99 beside two flows of responses", beside(2), "× idle p99", 5.0),
    at_least("kv by LRPC, mix B, one at a time", redis("kv/lrpc", 0), "× Redis, a core", 10.0),
    shown("kv by LRPC, mix B, eight", redis("kv/lrpc", 1), "× Redis, a core"),
    shown("kv by channels, mix B, one at a time", redis("kv/channels", 0), "× Redis, a core"),
    shown("kv by channels, mix B, eight", redis("kv/channels", 1), "× Redis, a core"),
    at_most(
        "p99 at 200 % load, shm",
        Figure::Queued("load shm", "rpc", BACKLOG),
        "× full backlog",
        2.0,
    ),
    at_least(
        "refused at 200 % load, shm",
        Figure::Refused("load shm", "rpc"),
        "of what is due",
        0.25,
    ),
    shown("p99 at 200 % load, shm", grown("load shm"), "× at 80 %"),
    at_most(
        "p99 at 200 % load, UDP",
        Figure::Queued("load udp", "rpc", BACKLOG),
        "× full backlog",
        2.0,
    ),
    at_least(
        "refused at 200 % load, UDP",
        Figure::Refused("load udp", "rpc"),
        "of what is due",
        0.25,
    ),
    shown("p99 at 200 % load, UDP", grown("load udp"), "× at 80 %"),
];

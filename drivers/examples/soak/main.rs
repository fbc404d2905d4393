//! Channels under kills, and the accounts: packets sent = received + counted drops, to the packet.
//!
//! `cargo xtask soak` runs it in a lab of its own, where `judge` starts a server in `lab-b` and clients in
//! `lab-a`, kills and restarts them, takes the interface down and up, and keeps the books.
//!
//! # The accounts
//!
//! Messages and the words beside them (hello, welcome, probe, …) are datagrams, one each. For each direction,
//! from the processes of a host A to those of a host B, over all processes that ever ran there:
//!
//! ```text
//! sent + control sent - unsent                          what the links of A were to hand to their devices
//!   = taken                                             what the links of B got from their devices
//!   + not sent                                          A's devices: too long, unresolved, refused by the kernel
//!   + dropped by the interfaces                         A's: sent while the other end had no room or was down
//!   + dropped by the devices                            B's: no buffer, queue full, bad header, checksum, foreign
//!   + refused by the kernel of B                        no socket there any more, or no room in it
//!   + in flight at a kill                               nothing without a kill; bounded with one
//!
//! taken = received + overrun + replayed + unknown + stale + foreign + malformed + checksum + control taken
//!   + in hand at a kill
//! ```
//!
//! and for each channel, by the sequence numbers, the receiver's received + lost + overrun never exceed what
//! the sender sent. Contents are checked, and that no message comes twice.
//!
//! # To the packet in spite of kill -9
//!
//! - A link counts in a page that can be read through `/proc/PID/fd` ([`unet::LinkAccount`]); the kernel's
//!   counts of an AF_XDP socket are read from a duplicate of it. Sums grow before what they count: what a
//!   killed process did and did not count yet is on the right side, in the two last terms, and never negative.
//! - To read many counts at one moment the judge stops the world: every process by SIGSTOP, which ends it
//!   at whatever instruction it was, and then it waits until the kernel has nothing on its way. The victim
//!   is killed where it stands. The others go on once the kernel has let go of the victim's queue.
//! - What the kernel had put into the victim's rings, or its socket, and the victim had not counted as
//!   taken, dies with it, uncounted by anybody; likewise what it had counted as sent and not handed over. That
//!   is "in flight at a kill". It follows from all the other counts, and is at most what the rings (or the
//!   socket's buffer) and a burst hold. A round without a kill must have none.
//!
//! Over AF_XDP the frames of the kernel itself (ARP, ICMP) are told apart by the kernels' own counts.

mod account;
mod host;
mod judge;
mod process;
mod roles;
mod traffic;

use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["judge", transport, seconds, seed] => {
            judge::judge(transport.parse()?, seconds.parse()?, seed.parse()?)
        }
        ["serve", ref addresses @ ..] => roles::serve(addresses),
        ["call", seed, ref addresses @ ..] => roles::call(seed.parse()?, addresses),
        _ => {
            Err("say `judge xdp|xdp-native|udp SECONDS SEED` in a lab: `cargo xtask soak` does"
                .into())
        }
    }
}

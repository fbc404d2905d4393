//! The conformance suite for devices: what [`crate::device`] promises, as tests to be run on any driver.
//!
//! Whoever writes a driver implements [`Bench`], which makes pairs of devices that are joined, and runs
//! the suite in a test. It needs no test harness: what is not as promised is a [`Failure`], with a sentence
//! that says what was expected and what was found.
//!
//! ```
//! use unet::conformance::{self, Bench, OverDatagrams, Report};
//! use unet::device::Datagrams;
//!
//! /// Opens the driver's devices by their ports.
//! struct MyBench<D> {
//!     open: fn(port: u16) -> Result<D, String>,
//! }
//!
//! impl<D: Datagrams> Bench for MyBench<D> {
//!     type End = OverDatagrams<D>;
//!
//!     fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
//!         Ok((OverDatagrams::new((self.open)(7001)?), OverDatagrams::new((self.open)(7002)?)))
//!     }
//!
//!     // The full run; some ten thousand are enough for every day.
//!     fn packets(&self) -> u64 {
//!         10_000_000
//!     }
//! }
//!
//! fn conforms<D: Datagrams>(open: fn(u16) -> Result<D, String>) {
//!     let report: Report = conformance::datagrams(&mut MyBench { open });
//!     println!("{report}");
//!     assert!(report.is_ok());
//! }
//! ```
//!
//! Each behaviour is a function of its own, to be run alone. All waits are bounded: a device that is
//! silent is a failure after [`Bench::patience`].
//!
//! # Accounts
//!
//! Behind every behaviour stands one equation. Of all packets that two devices took:
//!
//! ```text
//! taken    = Sent + TooLong + Malformed + Unresolved + Failed       on each side
//! handed   = Received                                               on each side
//! Σ Sent − lost + duplicated = Σ Received + Σ dropped, by reason    over both
//! ```
//!
//! *lost* and *duplicated* are the network's word ([`Bench::wire`]).

mod accounts;
mod buffers;
mod carrier;
mod destinations;
mod life;
mod payload;
mod refusals;
mod report;
mod session;
mod traffic;
mod waiting;

use std::time::Duration;

use crate::device::{Datagrams, Frames};

pub use buffers::{conservation, starvation};
pub use carrier::{Carrier, Header, OverDatagrams, OverFrames};
pub use destinations::{closed_destinations, many_destinations};
pub use life::{link_down_and_up, reset};
pub use refusals::{foreign_buffer, oversize, too_many_pieces, undersize};
pub use report::{Failure, Outcome, Report, Verdict};
pub use traffic::{burst_edges, every_length, nothing, order, pieces, ring_wrap};
pub use waiting::{descriptor_at_rest, descriptor_wakes, room_to_send};

/// What the suite runs on: makes pairs of devices, and knows what the network between them may do.
pub trait Bench {
    /// One of the two: [`OverFrames`] or [`OverDatagrams`].
    type End: Carrier;

    /// Makes a fresh pair: what one sends, the other receives. The former pair is gone when it is asked
    /// for, so the same interfaces, queues and ports can be used again.
    ///
    /// # Errors
    /// A sentence. Ends the behaviour as a failure.
    fn pair(&mut self) -> Result<(Self::End, Self::End), String>;

    /// What the network itself did since the last pair was made, beside carrying. A network that does
    /// nothing of the sort needs not say so.
    fn wire(&mut self) -> Wire {
        Wire::default()
    }

    /// What the network may do: nothing but carry, unless said otherwise.
    fn allowed(&self) -> Allowed {
        Allowed::default()
    }

    /// Called whenever nothing happened: where time is virtual, to let some pass.
    fn idle(&mut self) {
        std::thread::sleep(Duration::from_micros(20));
    }

    /// Takes the link between the devices down, or up again. `false` if there is no way to.
    ///
    /// # Errors
    /// A sentence, if it should have been possible.
    fn set_link(&mut self, up: bool) -> Result<bool, String> {
        let _ = up;
        Ok(false)
    }

    /// How many packets the long behaviours send.
    fn packets(&self) -> u64 {
        20_000
    }

    /// How long without anything happening is too long.
    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }

    /// How long nothing must have arrived for everything to have arrived.
    fn quiet(&self) -> Duration {
        Duration::from_millis(2)
    }
}

/// What a network did, by its own word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// Packets that were sent and will not arrive.
    pub lost: u64,
    /// Packets that arrive and were not sent: second copies.
    pub duplicated: u64,
    /// Packets that arrive with wrong bytes, copies among them.
    pub corrupted: u64,
}

/// What a network may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Lose packets.
    pub loss: bool,
    /// Deliver one twice.
    pub duplicates: bool,
    /// Change bytes.
    pub corruption: bool,
    /// Let one overtake another.
    pub disorder: bool,
}

impl Allowed {
    /// Whether every packet arrives once, unchanged, in order.
    pub fn nothing(self) -> bool {
        self == Self::default()
    }

    /// Whether as many as were sent need not be handed over: a device drops what is damaged, if it notices.
    fn miscarriage(self) -> bool {
        self.loss || self.duplicates || self.corruption
    }
}

type Behaviour<B> = (&'static str, fn(&mut B) -> Outcome);

fn of_both<B: Bench>() -> [Behaviour<B>; 16] {
    [
        ("nothing", nothing),
        ("order", order),
        ("every_length", every_length),
        ("burst_edges", burst_edges),
        ("ring_wrap", ring_wrap),
        ("pieces", pieces),
        ("oversize", oversize),
        ("too_many_pieces", too_many_pieces),
        ("foreign_buffer", foreign_buffer),
        ("conservation", conservation),
        ("starvation", starvation),
        ("reset", reset),
        ("link_down_and_up", link_down_and_up),
        ("descriptor_at_rest", descriptor_at_rest),
        ("descriptor_wakes", descriptor_wakes),
        ("room_to_send", room_to_send),
    ]
}

fn run<B: Bench>(bench: &mut B, behaviours: impl IntoIterator<Item = Behaviour<B>>) -> Report {
    Report(behaviours.into_iter().map(|(name, run)| (name, run(bench))).collect())
}

/// Runs all behaviours that devices of frames must show.
pub fn frames<D: Frames, B: Bench<End = OverFrames<D>>>(bench: &mut B) -> Report {
    let own: [Behaviour<B>; 1] = [("undersize", undersize)];
    run(bench, of_both().into_iter().chain(own))
}

/// Runs all behaviours that devices of datagrams must show.
pub fn datagrams<D: Datagrams, B: Bench<End = OverDatagrams<D>>>(bench: &mut B) -> Report {
    let own: [Behaviour<B>; 2] =
        [("many_destinations", many_destinations), ("closed_destinations", closed_destinations)];
    run(bench, of_both().into_iter().chain(own))
}

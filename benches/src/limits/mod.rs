//! The machine's floors: what no message can be faster than.

use std::time::Duration;

use serde::Serialize;

use crate::cpus::{Cpus, pin};
use crate::fault::{Failure, Fault};
use crate::process::server::Server;

pub mod cache_line;
pub mod hand_off;
mod memory;

pub use memory::{Copier, Copy};

/// Every floor, in nanoseconds unless it says otherwise; round trips for what goes there and back.
#[derive(Clone, Debug, Serialize)]
pub struct Floors {
    /// A cache line between the two cores; absent when only one core is in use.
    pub cache_line: Option<cache_line::Variants>,
    /// Two processes on one core that yield to each other.
    pub yield_one_core_ns: f64,
    /// Two processes on one core that wake each other through eventfds.
    pub eventfd_one_core_ns: f64,
    /// Two processes on two cores that wake each other through eventfds.
    pub eventfd_two_cores_ns: Option<f64>,
    /// The cheapest system call.
    pub system_call_ns: f64,
    /// Copies within memory by one core, by size.
    pub memcpy: Vec<Copy>,
}

impl Floors {
    /// Measures every floor, spending about `time` on each.
    pub fn measure(
        cpus: Cpus,
        time: Duration,
        step: &mut dyn FnMut(&str),
    ) -> Result<Self, Failure> {
        let server = Server::start(cpus.server)?;
        let between = HandOffs::measure(cpus, time, &server, step);
        let between = between.map_err(|fault| server.explain(fault))?;
        drop(server);
        step("limits: system call, memcpy");
        Ok(Self {
            cache_line: between.cache_line,
            yield_one_core_ns: between.yield_one_core_ns,
            eventfd_one_core_ns: between.eventfd_one_core_ns,
            eventfd_two_cores_ns: between.eventfd_two_cores_ns,
            system_call_ns: memory::system_call(time),
            memcpy: memory::copies(time),
        })
    }
}

/// The floors that need a second core or a second process.
struct HandOffs {
    cache_line: Option<cache_line::Variants>,
    yield_one_core_ns: f64,
    eventfd_one_core_ns: f64,
    eventfd_two_cores_ns: Option<f64>,
}

impl HandOffs {
    fn measure(
        cpus: Cpus,
        time: Duration,
        server: &Server,
        step: &mut dyn FnMut(&str),
    ) -> Result<Self, Fault> {
        pin(cpus.client)?;
        let two = !cpus.same_core();
        step("limits: cache line");
        let cache_line = two.then(|| cache_line::sample(cpus, time)).transpose()?;
        step("limits: eventfd, two cores");
        let eventfd_two_cores_ns =
            two.then(|| hand_off::eventfd_ping_pong(server, time)).transpose()?;
        step("limits: eventfd, one core");
        server.pin(cpus.client)?;
        let eventfd_one_core_ns = hand_off::eventfd_ping_pong(server, time)?;
        step("limits: yield, one core");
        let yield_one_core_ns = hand_off::yield_ping_pong(server, time)?;
        Ok(Self { cache_line, yield_one_core_ns, eventfd_one_core_ns, eventfd_two_cores_ns })
    }
}

/// What a run is compared with, sampled around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yardstick {
    /// The fastest variant of the cache-line ping-pong between the two cores.
    CacheLine,
    /// The yield ping-pong on the shared core.
    Yield,
    /// The eventfd ping-pong on the run's cores.
    Eventfd,
}

impl Yardstick {
    /// The floor of every record of a run.
    pub fn floor(cpus: Cpus) -> Self {
        if cpus.same_core() { Self::Yield } else { Self::CacheLine }
    }

    /// Its name in remarks.
    pub fn name(self) -> &'static str {
        match self {
            Self::CacheLine => "cache-line ping-pong",
            Self::Yield => "yield ping-pong",
            Self::Eventfd => "eventfd ping-pong",
        }
    }

    /// Takes one short sample, in nanoseconds a round trip. The server must be idle.
    pub fn sample(self, cpus: Cpus, server: &Server) -> Result<f64, Fault> {
        const TIME: Duration = Duration::from_millis(24);
        match self {
            Self::CacheLine => Ok(cache_line::sample(cpus, TIME)?.fastest()),
            Self::Yield => hand_off::yield_ping_pong(server, TIME),
            Self::Eventfd => hand_off::eventfd_ping_pong(server, TIME),
        }
    }
}

//! What is to be measured: the words that client, server and reports share.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The questions that can be asked of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bench {
    /// What a call costs that does nothing.
    NullRpc,
    /// A message and its echo, by size.
    Rtt,
    /// Messages one way, per second.
    Rate,
    /// Bytes one way, per second, from private memory to private memory.
    Bandwidth,
    /// A null call with further idle bindings to the same server thread.
    Scale,
    /// Buffers handed over between domains, by size: one hop.
    Fbuf,
    /// Messages offered at a share of the capacity, whatever becomes of the ones before.
    Sweep,
}

impl Bench {
    /// The name in the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::NullRpc => "null-rpc",
            Self::Rtt => "rtt",
            Self::Rate => "rate",
            Self::Bandwidth => "bandwidth",
            Self::Scale => "scale",
            Self::Fbuf => "fbuf",
            Self::Sweep => "sweep",
        }
    }

    /// The heading over its results.
    pub fn title(self) -> &'static str {
        match self {
            Self::NullRpc => "Null RPC: a call that does nothing, round trip",
            Self::Rtt => "Round trip of a message, by size",
            Self::Rate => "Rate: messages one way",
            Self::Bandwidth => "Bandwidth: one way, from private memory to private memory",
            Self::Scale => "Scale: null RPC beside idle bindings to the same server thread",
            Self::Fbuf => "Buffers between protection domains, and layers: times of one hop",
            Self::Sweep => "Load: latency, loss and goodput by what is offered",
        }
    }

    /// Whether messages go one way and the receiver counts them.
    pub fn one_way(self) -> bool {
        matches!(self, Self::Rate | Self::Bandwidth)
    }
}

/// How a side waits for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Wait {
    /// Poll without end: the fastest, and takes the whole core.
    Spin,
    /// Poll a while (yielding on a shared core), then sleep.
    Adaptive,
    /// Sleep in the kernel until the other side wakes this one.
    Park,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spin => "spin",
            Self::Adaptive => "adaptive",
            Self::Park => "park",
        })
    }
}

/// One connection to set up: enough for the server process to build its half.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The system's name.
    pub system: String,
    /// What is measured.
    pub bench: Bench,
    /// Bytes in a message.
    pub payload: usize,
    /// How both sides wait.
    pub wait: Wait,
    /// Whether both sides share a core.
    pub same_core: bool,
    /// Further bindings that stay idle.
    pub idle_bindings: usize,
    /// How many domains a message visits.
    pub domains: usize,
    /// Which of them this is for.
    pub position: usize,
    /// A word no other run uses, for systems that meet by name.
    pub rendezvous: String,
    /// Across a network: the client's port, where it has one before the server has.
    #[serde(default)]
    pub port: u16,
    /// Across a network: the core of an agent at the client's end, where the system has one.
    #[serde(default)]
    pub agent_cpu: usize,
}

/// The largest message that can be asked for: the limit of one U-Net message.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// The largest message across a network: what one datagram carries.
pub const MAX_DATAGRAM: usize = 65_507;

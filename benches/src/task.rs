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
    /// A null call beside bulk flows of other clients over the same link.
    Beside,
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
            Self::Beside => "beside",
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
            Self::Beside => "Beside bulk flows over the same link: a null call",
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

/// Which part of a call has the bytes that it is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Carries {
    /// The reply gives the arguments back.
    #[default]
    #[value(skip)]
    Both,
    /// The arguments: the reply is a word.
    Request,
    /// The reply: the arguments are a word.
    Response,
}

/// How calls are made where several are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// How many are under way, at most.
    pub window: usize,
    /// How many are begun together.
    pub batch: usize,
    /// What has the bytes.
    pub carries: Carries,
    /// How many bulk flows of other clients go beside; the window is then theirs, each.
    #[serde(default, skip_serializing_if = "is_none")]
    pub flows: usize,
    /// What comes in a reply is left where it came, and only both ends of it are read.
    #[serde(default, skip_serializing_if = "is_copied")]
    pub in_place: bool,
}

fn is_copied(in_place: &bool) -> bool {
    !in_place
}

fn is_none(flows: &usize) -> bool {
    *flows == 0
}

impl Default for Calls {
    fn default() -> Self {
        Self { window: 1, batch: 1, carries: Carries::Both, flows: 0, in_place: false }
    }
}

impl Calls {
    /// Says why there can be no such calls, in a clause that follows the system's name.
    pub fn refused(&self, payload: usize) -> Option<String> {
        let Self { window, batch, flows, .. } = *self;
        match () {
            () if !(1..=MAX_WINDOW).contains(&window) => {
                Some(format!("has no window of {window} calls, but of 1 to {MAX_WINDOW}"))
            }
            () if !(1..=window).contains(&batch) => {
                Some(format!("cannot begin {batch} calls at once in a window of {window}"))
            }
            () if flows > MAX_FLOWS => Some(format!("has at most {MAX_FLOWS} flows beside")),
            () if window.saturating_mul(payload).saturating_mul(flows.max(1)) > MAX_UNDER_WAY => {
                Some(format!("holds at most {} MiB under way", MAX_UNDER_WAY >> 20))
            }
            () => None,
        }
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
    /// How calls are made, where they are the question.
    #[serde(default)]
    pub calls: Calls,
}

/// The largest message that can be asked for: the limit of a call's arguments or reply.
pub const MAX_PAYLOAD: usize = 64 << 20;
/// The largest message where nothing else is said: the limit of one U-Net message.
pub const MAX_MESSAGE: usize = 16 << 20;
/// The largest message in a stream across a network.
pub const MAX_STREAMED: usize = 1 << 20;
/// The largest message across a network: what one datagram carries.
pub const MAX_DATAGRAM: usize = 65_507;
/// The most calls under way at once.
pub const MAX_WINDOW: usize = 64;
/// The most bulk flows beside a call.
pub const MAX_FLOWS: usize = 8;
/// The most bytes under way in calls: both sides keep them all.
pub const MAX_UNDER_WAY: usize = 256 << 20;

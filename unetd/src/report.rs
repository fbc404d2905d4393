//! What the agent tells of itself: the answers that `unetctl` shows, as JSON.

use serde::{Deserialize, Serialize};

/// The first bytes of a question; a number may follow [`LIST`].
pub const STATUS: &str = "status";
/// Channels and ports, from a number on.
pub const LIST: &str = "list";
/// Drops, refusals and poisoned queues.
pub const DROPS: &str = "drops";

/// How many rows an answer has at most.
pub const MAX_ROWS: usize = 128;

/// The agent as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// For how many seconds it runs.
    pub uptime_s: u64,
    /// Its names.
    pub names: Vec<String>,
    /// How many processes have something of it.
    pub processes: usize,
    /// How many channels it mediates.
    pub channels: usize,
    /// How many ports it listens at.
    pub ports: usize,
    /// How many connections have no outcome yet.
    pub pending: usize,
    /// Its devices, as far as they are open. For root only.
    pub devices: Vec<DeviceRow>,
    /// Queues that are lent, in direct mode.
    #[serde(default)]
    pub lent: Lent,
}

/// What direct mode has lent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// Who has which queue.
    pub queues: Vec<QueueRow>,
    /// What was counted that is not zero. For root only.
    pub counts: Vec<(String, u64)>,
}

/// A queue that is lent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// The process.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// The interface.
    pub interface: String,
    /// The queue.
    pub queue: u32,
    /// The UDP port whose packets go there.
    pub port: u16,
}

/// A device that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// Its local address.
    pub local: String,
    /// How packets get to it.
    pub mode: String,
    /// Whether clients are accepted on it.
    pub listens: bool,
    /// How many channels are over it.
    pub channels: usize,
    /// Buffers that are free.
    pub free_buffers: usize,
    /// All its buffers.
    pub buffers: usize,
    /// What was counted that is not zero.
    pub counts: Vec<(String, u64)>,
}

/// A channel, or a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRow {
    /// Its number, for the time that it is open.
    pub number: usize,
    /// `channel` or `port`.
    pub kind: String,
    /// The way: `mediated`.
    pub mode: String,
    /// Whose it is.
    pub pid: u32,
    /// And of which user.
    pub uid: u32,
    /// The local address, on the agent's device.
    pub local: String,
    /// The remote address; nothing for a port.
    pub remote: String,
    /// Messages that went out to the network.
    pub sent: u64,
    /// And bytes of them.
    pub sent_bytes: u64,
    /// Messages that came in from the network and reached the process.
    pub received: u64,
    /// And bytes of them.
    pub received_bytes: u64,
    /// Messages that were dropped, either way.
    pub dropped: u64,
    /// Whether a message waits for its turn or for the network.
    pub waits: bool,
}

/// Channels and ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// The agent's clock, to make rates of two answers.
    pub at_ms: u64,
    /// At most [`MAX_ROWS`].
    pub rows: Vec<ChannelRow>,
    /// From where to ask for the rest.
    pub next: Option<usize>,
}

/// What was refused or dropped, of one user, for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRow {
    /// The user; nothing for all those whom no rule names.
    pub uid: Option<u32>,
    /// Why.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// A client's queue that failed a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoisonedRow {
    /// Whose it was.
    pub pid: u32,
    /// And of which user.
    pub uid: u32,
    /// Which check.
    pub fault: String,
}

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// Since the agent was started.
    pub rows: Vec<DropRow>,
    /// The last ones.
    pub poisoned: Vec<PoisonedRow>,
}

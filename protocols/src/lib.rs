//! Protocols as objects in a graph, after the x-Kernel.
//!
//! ```text
//!       application            opens sessions, pushes messages, takes deliveries
//!        │       ▲
//!   ┌────▼───────┴────┐
//!   │ udp             │        a node: one protocol object, with its sessions in slots
//!   └──┬───────────┬──┘        an edge: leads from the upper protocol to the lower
//!   ┌──▼───┐    ┌──▼───┐
//!   │ ipv4 │    │ ipv6 │       push: adds its header, on the way down
//!   └──┬───┘    └──┬───┘       demux: finds the session, pop: removes the header, on the way up
//!   ┌──▼───────────▼──┐
//!   │ ether           │
//!   └────┬───────▲────┘
//!      device    │             frames out, frames in
//! ```
//!
//! Every layer implements [`Protocol`], the same few operations over a [`Message`], and knows nothing
//! of its neighbours. The [`Graph`] owns the layers and runs messages through them in a loop, never
//! by recursion: the first message of a session opens the session in every layer, from the second on
//! the way is known. What a layer makes of its own, such as fragments, it hands to its [`Context`],
//! from where the graph runs it, depth first, as a recursive call would have, but bounded.
//!
//! Nothing here has a clock, a socket, a thread or a global: time is passed in, randomness is seeded,
//! output is taken out. So a run of many hosts can be replayed from one seed.
//!
//! After Hutchinson and Peterson, *The x-Kernel: An Architecture for Implementing Network Protocols*
//! (IEEE Transactions on Software Engineering, 1991).

mod context;
mod demultiplexer;
pub mod description;
mod graph;
mod instant;
mod kinds;
pub mod layers;
mod participants;
mod protocol;
pub mod random;
mod reason;
pub mod sim;
mod slots;

pub use context::Context;
pub use demultiplexer::Demultiplexer;
pub use description::{Description, Options};
pub use fbufs::{Message, Pool};
pub use graph::{
    BuildError, ChangeError, Delivery, Graph, Limits, ListenError, NodeId, OpenError, Place,
    PushError, Session,
};
pub use instant::Instant;
pub use kinds::Kinds;
pub use participants::{Participant, Participants};
pub use protocol::{
    Answer, Below, Demux, Lower, Opened, Protocol, Refusal, Request, Slot, Upper, Verdict,
};
pub use reason::Reason;
pub use slots::Slots;

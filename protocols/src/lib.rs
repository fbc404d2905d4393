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
//! # A layer of one's own
//!
//! A layer is a type that implements [`Protocol`] and a name under which [`Kinds`] knows it. This one
//! is whole, and runs here between two hosts of the [simulator](sim):
//!
//! ```
//! use std::time::Duration;
//!
//! use protocols::description::OptionError;
//! use protocols::sim::{Faults, Sim};
//! use protocols::{
//!     Below, Context, Instant, Kinds, Message, Opened, Options, Participants, Protocol, Reason,
//!     Refusal, Slot, Slots, Verdict,
//! };
//!
//! /// Drops what was under way for too long. Both hosts must go by the same clock.
//! ///
//! /// | bytes | what |
//! /// |---|---|
//! /// | 0–7 | when it was sent, in nanoseconds, in network byte order |
//! ///
//! /// Options: `limit`, how long a message may take (10ms).
//! struct Fresh {
//!     limit: Duration,
//!     sessions: Slots<()>,
//!     passed: u64,
//! }
//!
//! const HEADER: usize = 8;
//!
//! impl Fresh {
//!     fn from_options(options: &Options) -> Result<Self, OptionError> {
//!         options.only(&["limit"])?;
//!         let limit = options.duration("limit")?.unwrap_or(Duration::from_millis(10));
//!         Ok(Self { limit, sessions: Slots::new(1 << 16), passed: 0 })
//!     }
//! }
//!
//! impl Protocol for Fresh {
//!     // Linear: one session for each session below. What it would keep of one stands in its slot.
//!     fn open(&mut self, _who: &mut Participants, _: &mut Context) -> Result<Opened, Refusal> {
//!         let slot = self.sessions.insert(()).map_err(|_| Refusal::Limit)?;
//!         Ok(Opened { slot, lower: 0 })
//!     }
//!
//!     // What the layers above may rely on: messages shorter by the header, room for one more.
//!     fn opened(&mut self, _: Slot, below: Below) -> Below {
//!         below.under_header(HEADER)
//!     }
//!
//!     fn push(&mut self, _: Slot, message: &mut Message, context: &mut Context) -> Verdict {
//!         let now = context.now();
//!         context.push_header(message, &now.0.to_be_bytes())
//!     }
//!
//!     // From below comes anything: too short, from the future, from a liar.
//!     fn pop(&mut self, _: Slot, message: &mut Message, context: &mut Context) -> Verdict {
//!         let mut header = [0; HEADER];
//!         if message.pop(&mut header).is_err() {
//!             return Verdict::Drop(Reason::Malformed);
//!         }
//!         if context.now().since(Instant(u64::from_be_bytes(header))) > self.limit {
//!             return Verdict::Drop(Reason::Late);
//!         }
//!         self.passed += 1;
//!         Verdict::Pass
//!     }
//!
//!     fn close(&mut self, slot: Slot, _: &mut Context) {
//!         self.sessions.remove(slot);
//!     }
//!
//!     fn statistics(&self, tell: &mut dyn FnMut(&'static str, u64)) {
//!         tell("passed", self.passed);
//!     }
//! }
//!
//! let mut kinds = Kinds::standard();
//! kinds.add("fresh", Fresh::from_options);
//!
//! // Two hosts, and a link on which a frame takes up to 10 ms longer than another.
//! let mut sim = Sim::new(7);
//! let stack = "fresh(limit=5ms): wire\nwire = device";
//! let (one, other) = (sim.host(stack, &kinds)?, sim.host(stack, &kinds)?);
//! let jitter = Duration::from_millis(10);
//! sim.link((one, "wire"), (other, "wire"), Faults { jitter, ..Faults::default() })?;
//! sim.graph(other).listen("fresh", Participants::default())?;
//! let session = sim.graph(one).open("fresh", Participants::default())?;
//! for number in 0..100u8 {
//!     assert!(sim.push(one, session, &[number]));
//! }
//! sim.run(1000);
//! let came = sim.take_received(other).len();
//! let fresh = sim.graph(other).node("fresh").ok_or("it has that name")?;
//! let late = sim.graph(other).drops(fresh, Reason::Late);
//! assert_eq!((came, late), (46, 54));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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

/// The code of the book, compiled and run as this crate's documentation tests.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../docs/src/protocols.md")]
    struct Protocols;
}

#[cfg(test)]
mod tests {
    /// What a heading of a Markdown text has between its first fence and the end of that.
    fn code<'a>(markdown: &'a str, heading: &str) -> Option<&'a str> {
        let (_, below) = markdown.split_once(heading)?;
        let (_, block) = below.split_once("\n```")?;
        let (_, code) = block.split_once('\n')?;
        Some(code.split_once("\n```")?.0)
    }

    #[test]
    fn the_layer_that_the_book_shows_is_that_of_the_documentation() {
        let documentation: String = include_str!("lib.rs")
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .flat_map(|line| [line.strip_prefix(' ').unwrap_or(line), "\n"])
            .collect();
        let heading = "# A layer of one's own\n";
        let shown = code(include_str!("../../docs/src/protocols.md"), heading);
        assert!(shown.is_some_and(|code| code.contains("impl Protocol for")));
        assert_eq!(shown, code(&documentation, heading));
    }
}

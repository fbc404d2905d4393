//! What a layer costs: messages through stacks of layers with a header of 8 bytes, against the same
//! operations and checks written into one function.
//!
//! ```text
//! cargo run --release -p protocols --example layer_cost
//! ```

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant as Clock;

use fbufs::PoolOptions;
use protocols::{
    Delivery, Description, Graph, Instant, Kinds, Limits, Message, NodeId, Participants, Pool,
    Session,
};

/// How many round trips a figure is the mean of, and of how many figures the smallest counts.
const ROUND_TRIPS: u32 = 20_000;
const ROUNDS: u32 = 60;

const HEADER: usize = 8;

fn stack(layers: usize) -> Graph {
    let mut text = String::from("wire = device\n");
    for layer in 0..layers {
        let below = if layer == 0 { "wire".into() } else { format!("tag{}", layer - 1) };
        text.push_str(&format!("tag{layer} = tag(number={layer}): {below}\n"));
    }
    let description: Description = text.parse().expect("it is a description");
    Graph::new(&description, &Kinds::standard(), pool(), Limits::default()).expect("it is a graph")
}

fn pool() -> Pool {
    Pool::new(PoolOptions::default()).expect("memory is left")
}

fn message(pool: &mut Pool) -> Message {
    pool.message(128, 64, |bytes| bytes.fill(7)).expect("a buffer is left")
}

/// Down through all layers to the device, and what came out of it up again.
struct ThroughGraph {
    graph: Graph,
    session: Session,
    wire: NodeId,
    message: Message,
}

impl ThroughGraph {
    fn new(layers: usize) -> Self {
        let mut graph = stack(layers);
        let top = if layers == 0 { "wire".into() } else { format!("tag{}", layers - 1) };
        let session = graph.open(&top, Participants::default()).expect("it opens");
        let wire = graph.node("wire").expect("it is there");
        let message = message(graph.pool());
        Self { graph, session, wire, message }
    }

    #[inline]
    fn round_trip(&mut self) {
        let message = std::mem::take(&mut self.message);
        self.graph.push(Instant(1), self.session, message).expect("it is open");
        let frame = self.graph.transmitted(self.wire).expect("it came out");
        self.graph.receive(Instant(1), self.wire, frame);
        self.message = self.graph.received().expect("it came up").message;
    }
}

/// What the graph's ends do around the layers: the queues to and from the device and application.
struct Ends {
    sessions: Vec<Option<u32>>,
    numbers: Vec<Vec<Option<u64>>>,
    output: VecDeque<Message>,
    inbox: VecDeque<Delivery>,
    drops: u64,
}

/// The same work by hand: every layer's operations on the message and its checks, in one function.
#[inline(never)]
fn by_hand<const LAYERS: usize>(
    ends: &mut Ends,
    pool: &mut Pool,
    session: Session,
    message: Message,
) {
    let mut message = message;
    for layer in 0..LAYERS {
        let Some(number) = ends.numbers[layer][0] else { return ends.drops += 1 };
        if message.push_with(pool, &number.to_be_bytes()).is_err() {
            return ends.drops += 1;
        }
    }
    if message.len() > 1500 || ends.output.len() >= 8192 {
        return ends.drops += 1;
    }
    ends.output.push_back(message);
    let Some(mut message) = ends.output.pop_front() else { return };
    for layer in (0..LAYERS).rev() {
        let mut header = [0; HEADER];
        if message.pop(&mut header).is_err() {
            return ends.drops += 1;
        }
        let Some(number) = ends.numbers[layer][0] else { return ends.drops += 1 };
        if number != u64::from_be_bytes(header) {
            return ends.drops += 1;
        }
    }
    if ends.inbox.len() >= 4096 || ends.sessions[0].is_none() {
        return ends.drops += 1;
    }
    ends.inbox.push_back(Delivery { session, message, participants: Participants::default() });
}

struct ByHand<const LAYERS: usize> {
    ends: Ends,
    pool: Pool,
    session: Session,
    message: Message,
}

impl<const LAYERS: usize> ByHand<LAYERS> {
    fn new() -> Self {
        let session = stack(0).open("wire", Participants::default()).expect("it opens");
        let mut pool = pool();
        let ends = Ends {
            sessions: vec![Some(0)],
            numbers: (0..LAYERS).map(|layer| vec![Some(layer as u64)]).collect(),
            output: VecDeque::new(),
            inbox: VecDeque::new(),
            drops: 0,
        };
        let message = message(&mut pool);
        Self { ends, pool, session, message }
    }

    #[inline]
    fn round_trip(&mut self) {
        let message = std::mem::take(&mut self.message);
        by_hand::<LAYERS>(&mut self.ends, &mut self.pool, self.session, message);
        self.message = self.ends.inbox.pop_front().expect("it came up").message;
    }
}

/// The mean of many calls, if it is smaller than what was measured before.
fn measure(fastest: &mut f64, mut call: impl FnMut()) {
    let begin = Clock::now();
    for _ in 0..ROUND_TRIPS {
        call();
        black_box(());
    }
    *fastest = fastest.min(begin.elapsed().as_secs_f64() * 1e9 / f64::from(ROUND_TRIPS));
}

fn main() {
    const LAYERS: [usize; 4] = [0, 1, 5, 10];
    let mut graphs = LAYERS.map(ThroughGraph::new);
    let (mut none, mut one) = (ByHand::<0>::new(), ByHand::<1>::new());
    let (mut five, mut ten) = (ByHand::<5>::new(), ByHand::<10>::new());
    let (mut through, mut by_hand) = ([f64::MAX; 4], [f64::MAX; 4]);
    // All in turn, so that a slow phase of the machine is nobody's alone.
    for _ in 0..ROUNDS {
        for (fastest, graph) in through.iter_mut().zip(&mut graphs) {
            measure(fastest, || graph.round_trip());
        }
        measure(&mut by_hand[0], || none.round_trip());
        measure(&mut by_hand[1], || one.round_trip());
        measure(&mut by_hand[2], || five.round_trip());
        measure(&mut by_hand[3], || ten.round_trip());
    }
    assert_eq!(none.ends.drops + one.ends.drops + five.ends.drops + ten.ends.drops, 0);
    println!("layers    graph  by hand   ratio   (ns down and up again)");
    for ((layers, graph), by_hand) in LAYERS.iter().zip(through).zip(by_hand) {
        println!("{layers:>6} {graph:>8.1} {by_hand:>8.1} {:>7.2}", graph / by_hand);
    }
    println!("one layer: {:.1} ns both ways", (through[3] - through[0]) / 10.0);
}

//! What a layer costs: messages through stacks of layers with a header of 8 bytes, against the same
//! operations and checks written into one function.
//!
//! ```text
//! cargo run --release -p protocols --example layer_cost
//! ```

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use fbufs::PoolOptions;
use protocols::{
    Delivery, Description, Graph, Instant, Kinds, Limits, Message, Participants, Pool, Session,
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
fn through_graph(layers: usize) -> f64 {
    let mut graph = stack(layers);
    let top = if layers == 0 { "wire".into() } else { format!("tag{}", layers - 1) };
    let session = graph.open(&top, Participants::default()).expect("it opens");
    let wire = graph.node("wire").expect("it is there");
    let mut message = message(graph.pool());
    fastest(|| {
        graph.push(Instant(1), session, std::mem::take(&mut message)).expect("it is open");
        let frame = graph.transmitted(wire).expect("it came out");
        graph.receive(Instant(1), wire, frame);
        message = graph.received().expect("it came up").message;
    })
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

fn inlined<const LAYERS: usize>() -> f64 {
    let session = stack(0).open("wire", Participants::default()).expect("it opens");
    let mut pool = pool();
    let mut ends = Ends {
        sessions: vec![Some(0)],
        numbers: (0..LAYERS).map(|layer| vec![Some(layer as u64)]).collect(),
        output: VecDeque::new(),
        inbox: VecDeque::new(),
        drops: 0,
    };
    let mut message = message(&mut pool);
    let mean = fastest(|| {
        by_hand::<LAYERS>(&mut ends, &mut pool, session, std::mem::take(&mut message));
        message = ends.inbox.pop_front().expect("it came up").message;
    });
    assert_eq!(ends.drops, 0);
    mean
}

/// Nanoseconds of one call: the smallest of several means.
fn fastest(mut call: impl FnMut()) -> f64 {
    let mut fastest = Duration::MAX;
    for _ in 0..ROUNDS {
        let begin = Clock::now();
        for _ in 0..ROUND_TRIPS {
            call();
            black_box(());
        }
        fastest = fastest.min(begin.elapsed());
    }
    fastest.as_secs_f64() * 1e9 / f64::from(ROUND_TRIPS)
}

fn main() {
    println!("layers    graph  by hand   ratio   ns down and up again");
    let empty = through_graph(0);
    let rows = [
        (0, empty, inlined::<0>()),
        (1, through_graph(1), inlined::<1>()),
        (5, through_graph(5), inlined::<5>()),
        (10, through_graph(10), inlined::<10>()),
    ];
    for (layers, graph, by_hand) in rows {
        println!("{layers:>6} {graph:>8.1} {by_hand:>8.1} {:>7.2}", graph / by_hand);
    }
    let ten = rows[3].1;
    println!("one layer: {:.1} ns both ways", (ten - empty) / 10.0);
}

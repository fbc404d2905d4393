//! Layers of the protocol graph: a message goes down through all of them, each pushing a header of
//! 8 bytes, and up again, each popping and checking it; beside the same work written into one function.

use std::collections::VecDeque;
use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use protocols::{
    Delivery, Description, Graph, Kinds, Limits, Message, NodeId, Participants, Pool, Session,
};
use unet::PoolOptions;

use crate::fault::Fault;
use crate::measure::halves::Echo;
use crate::process::server::Server;
use crate::systems::{ClientHalf, Ready, Rival, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

/// A stack of so many layers.
pub struct Layers {
    name: &'static str,
    count: usize,
}

/// The stacks that are measured; the one without layers is what the graph's ends cost.
pub fn all() -> impl Iterator<Item = &'static dyn System> {
    static ALL: [Layers; 4] = [
        Layers { name: "layers/0", count: 0 },
        Layers { name: "layers/1", count: 1 },
        Layers { name: "layers/5", count: 5 },
        Layers { name: "layers/10", count: 10 },
    ];
    ALL.iter().map(|system| system as &'static dyn System)
}

/// Bytes of a message.
const PAYLOAD: usize = 64;
/// Bytes that each layer pushes.
const HEADER: usize = 8;
/// Room for the headers of the highest stack.
const HEADROOM: usize = 128;

impl System for Layers {
    fn name(&self) -> &'static str {
        self.name
    }

    fn transport(&self) -> &'static str {
        "graph:"
    }

    fn about(&self) -> &'static str {
        "a message down and up through as many layers"
    }

    fn payload(&self, _: Bench, _: usize) -> usize {
        PAYLOAD
    }

    fn answers(&self, bench: Bench) -> bool {
        bench == Bench::Fbuf
    }

    fn refuses(&self, _: Bench, _: usize, _: Wait) -> Option<String> {
        None
    }

    fn remark(&self, _: Bench, _: usize) -> Option<String> {
        Some("layers: all of them, down and up again, in one domain".to_owned())
    }

    fn domains(&self) -> (usize, usize) {
        (1, 1)
    }

    fn hops(&self, _: usize) -> usize {
        1
    }

    fn counts_copies(&self) -> bool {
        true
    }

    fn rival(&self, _: &Task) -> Result<Option<Rival>, Fault> {
        let sample = match self.count {
            0 => by_hand::<0>()?,
            1 => by_hand::<1>()?,
            5 => by_hand::<5>()?,
            _ => by_hand::<10>()?,
        };
        Ok(Some(Rival { name: "same work in one function", sample }))
    }

    fn client_along(&self, _: &Task, _: &[Server]) -> Result<ClientHalf, Fault> {
        Ok(ClientHalf::Echo(Box::new(Through::new(self.count)?)))
    }

    fn client(&self, task: &Task, _: &Server) -> Result<ClientHalf, Fault> {
        self.client_along(task, &[])
    }

    fn server(&self, _: &Task, _: Vec<OwnedFd>, _: Ready<'_>) -> Result<ServerHalf, Fault> {
        Err(Fault::Other("layers are in one process".into()))
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault::Other(format!("{what} failed: {error}"))
}

fn lost() -> Fault {
    Fault::Other("a message went into the layers and did not come out".into())
}

fn pool() -> Result<Pool, Fault> {
    Pool::new(PoolOptions::default()).map_err(|error| failed("making a pool", &error))
}

fn message(pool: &mut Pool) -> Result<Message, Fault> {
    pool.message(HEADROOM, PAYLOAD, |bytes| bytes.fill(7))
        .map_err(|error| failed("allocating", &error))
}

fn stack(layers: usize) -> Result<Graph, Fault> {
    let mut text = String::from("wire = device\n");
    for layer in 0..layers {
        let below = if layer == 0 { "wire".into() } else { format!("tag{}", layer - 1) };
        text.push_str(&format!("tag{layer} = tag(number={layer}): {below}\n"));
    }
    let description: Description =
        text.parse().map_err(|error| failed("describing the graph", &error))?;
    Graph::new(&description, &Kinds::standard(), pool()?, Limits::default())
        .map_err(|error| failed("building the graph", &error))
}

/// Down to the device, and what came out of it up again.
struct Through {
    graph: Graph,
    session: Session,
    wire: NodeId,
    message: Message,
}

impl Through {
    fn new(layers: usize) -> Result<Self, Fault> {
        let mut graph = stack(layers)?;
        let top = if layers == 0 { "wire".into() } else { format!("tag{}", layers - 1) };
        let session = graph.open(&top, Participants::default());
        let session = session.map_err(|error| failed("opening a session", &error))?;
        let wire = graph.node("wire").ok_or_else(lost)?;
        let message = message(graph.pool())?;
        Ok(Self { graph, session, wire, message })
    }
}

impl Echo for Through {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        const NOW: protocols::Instant = protocols::Instant(1);
        let message = std::mem::take(&mut self.message);
        let pushed = self.graph.push(NOW, self.session, message);
        pushed.map_err(|error| failed("pushing", &error))?;
        let frame = self.graph.transmitted(self.wire).ok_or_else(lost)?;
        self.graph.receive(NOW, self.wire, frame);
        self.message = self.graph.received().ok_or_else(lost)?.message;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        if self.message.len() == PAYLOAD { Ok(()) } else { Err(lost()) }
    }

    fn copied(&mut self) -> u64 {
        self.graph.pool().copied()
    }
}

/// What the graph's ends do around the layers: the queues to and from the device and the application.
struct Ends {
    sessions: Vec<Option<u32>>,
    numbers: Vec<Vec<Option<u64>>>,
    output: VecDeque<Message>,
    inbox: VecDeque<Delivery>,
    drops: u64,
}

/// Every layer's operations on the message and its checks, in one function.
#[inline(never)]
fn all_in_one<const LAYERS: usize>(
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

/// Samples the function: the mean over the time.
fn by_hand<const LAYERS: usize>() -> Result<Box<dyn FnMut(Duration) -> f64>, Fault> {
    const BATCH: u32 = 1000;
    let session = stack(0)?.open("wire", Participants::default());
    let session = session.map_err(|error| failed("opening a session", &error))?;
    let mut pool = pool()?;
    let mut ends = Ends {
        sessions: vec![Some(0)],
        numbers: (0..LAYERS).map(|layer| vec![Some(layer as u64)]).collect(),
        output: VecDeque::new(),
        inbox: VecDeque::new(),
        drops: 0,
    };
    let mut next = Some(message(&mut pool)?);
    Ok(Box::new(move |time| {
        let started = Instant::now();
        let mut done = 0;
        while started.elapsed() < time {
            for _ in 0..BATCH {
                let Some(message) = next.take() else { return f64::NAN };
                all_in_one::<LAYERS>(&mut ends, &mut pool, session, message);
                next = ends.inbox.pop_front().map(|delivery| delivery.message);
                black_box(&mut next);
            }
            done += BATCH;
        }
        if ends.drops > 0 {
            f64::NAN
        } else {
            started.elapsed().as_secs_f64() * 1e9 / f64::from(done)
        }
    }))
}

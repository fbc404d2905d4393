//! What will happen in a run, drawn from its seed: the same in each of its processes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// What a handler does beside entering the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    Nothing,
    Panics,
    /// Keeps its thread for so many microseconds.
    Lingers(u32),
    /// Is the end of its server, before the call has its effect.
    EndsBefore,
    /// The same, after that.
    EndsAfter,
}

/// By which method, and so how, a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Plain,
    /// With a deadline.
    InTime,
    /// By a worker.
    Slowly,
    /// One way.
    Told,
}

#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub client: u32,
    pub way: Way,
    pub deed: Deed,
    pub len: usize,
    pub reply_len: usize,
    /// After how many microseconds its caller gives it up.
    pub patience: Option<u64>,
    /// Whether the calls before it are waited for first.
    pub alone: bool,
}

pub struct Plan {
    pub clients: u32,
    pub calls: Vec<Spec>,
    /// The step at which a process is killed, and when it passes it for which time: of the first servers, and of
    /// the client that is a process.
    pub server_steps: Vec<(&'static str, u64)>,
    pub client_step: (&'static str, u64),
    /// When a server is stopped, counted from the beginning, and for how long.
    pub server_pauses: Vec<(Duration, Duration)>,
    /// The same for the client that is a process, counted from the last time.
    pub client_pauses: Vec<(Duration, Duration)>,
}

const SERVER_STEPS: [&str; 11] = [
    "accept.2-hello-received",
    "accept.5-welcome-sent",
    "reply.1-call-taken",
    "reply.2-handled",
    "reply.3-result-written",
    "reply.4-posted",
    "receive.1-popped",
    "receive.2-buffer-held",
    "send.1-before-publish",
    "send.2-published",
    "handoff.2-lent",
];
const CLIENT_STEPS: [&str; 8] = [
    "connect.4-hello-sent",
    "call.1-arguments-written",
    "call.2-posted",
    "call.3-waiting",
    "send.1-before-publish",
    "send.2-published",
    "handoff.1-buffer-taken",
    "receive.2-buffer-held",
];

/// Longer than a buffer.
const TOO_LONG: usize = 70_000;

impl Plan {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let clients = random.within(1..4) as u32;
        let calls = random.within(6..20);
        let calls = (0..calls).map(|_| draw_call(&mut random, clients)).collect();
        let servers = random.within(0..3);
        let server_steps = (0..servers).map(|_| draw_step(&mut random, &SERVER_STEPS)).collect();
        let client_step = draw_step(&mut random, &CLIENT_STEPS);
        let [server_pauses, client_pauses] = [0; 2].map(|_| {
            let mut time = |most| Duration::from_micros(random.within(0..most));
            let pauses = [(time(15_000), time(8_000)), (time(15_000), time(8_000))];
            pauses[..random.within(0..3) as usize].to_vec()
        });
        Self { clients, calls, server_steps, client_step, server_pauses, client_pauses }
    }

    /// The calls of a client, by their numbers.
    pub fn of(&self, client: u32) -> impl Iterator<Item = (usize, Spec)> {
        let calls = self.calls.iter().copied().enumerate();
        calls.filter(move |(_, spec)| spec.client == client)
    }
}

fn draw_step(random: &mut Random, steps: &[&'static str]) -> (&'static str, u64) {
    (steps[random.within(0..steps.len() as u64) as usize], random.within(1..6))
}

fn draw_call(random: &mut Random, clients: u32) -> Spec {
    let mut len = |long| {
        let most = if random.happens(long) { 6_000 } else { 40 };
        random.within(0..most) as usize
    };
    let (len, reply_len) = (len(250), len(250));
    let deed = match random.within(0..100) {
        0..8 => Deed::Panics,
        8..20 => Deed::Lingers(random.within(0..4_000) as u32),
        20..27 => Deed::EndsBefore,
        27..34 => Deed::EndsAfter,
        _ => Deed::Nothing,
    };
    let way = match random.within(0..100) {
        0..12 => Way::InTime,
        12..30 => Way::Slowly,
        30..38 => Way::Told,
        _ => Way::Plain,
    };
    Spec {
        client: random.within(0..clients.into()) as u32,
        way,
        deed,
        len,
        reply_len: if random.happens(30) { TOO_LONG } else { reply_len },
        patience: random.happens(150).then(|| random.within(0..3_000)),
        alone: random.happens(600),
    }
}

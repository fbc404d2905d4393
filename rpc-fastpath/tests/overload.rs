//! Twice as many calls as a server can execute, in virtual time: the excess is refused early, the others wait for
//! a bounded time, and the server is never idle for it.

#[path = "simulation/network.rs"]
#[allow(dead_code)]
mod network;
#[path = "simulation/random.rs"]
mod random;

use std::collections::VecDeque;

use network::{Faults, MICROSECOND, Network, Packet, Piece};
use random::Random;
use rpc_fastpath::protocol::{
    Body, Call, Client, Event, Identity, Limits, Outcome, Pending, Refusal, Server, ServerEvent,
    Timers, Transmit,
};

/// How long the server executes a call: one at a time, in the order in which they came.
const SERVICE_TIME: u64 = 10 * MICROSECOND;
/// There and back, as the network has it.
const ROUND_TRIP: u64 = 40 * MICROSECOND;
const CALLS: u64 = 20_000;

#[derive(Clone)]
enum Happening {
    Offered,
    ToServer(usize, Packet),
    ToClient(usize, Packet),
    /// The server has executed a call.
    Executed,
}

struct Session {
    client: Client<(), ()>,
    server: Server<(), ()>,
}

/// How the calls ended, and after how long at most.
#[derive(Debug, Default)]
struct Ends {
    executed: u64,
    waited: u64,
    refused: u64,
    /// Until they were told that they are refused.
    refused_after: u64,
}

struct World {
    random: Random,
    now: u64,
    network: Network<Happening>,
    sessions: Vec<Session>,
    /// What the server has yet to execute, and of which session; the running one first.
    queue: VecDeque<(Pending, usize)>,
    /// When each call was offered.
    offered: Vec<u64>,
    ends: Ends,
}

fn packed(packet: &Transmit<'_, ()>) -> Packet {
    let mut head = [0; 48];
    head[..16].copy_from_slice(&packet.header);
    let mut head_len = 16;
    if let Body::Control(bytes, len) = &packet.body {
        head[16..].copy_from_slice(bytes);
        head_len += len;
    }
    let piece = Piece { call: 0, from: 0, to: packet.body.len() };
    Packet { head, head_len, piece }
}

impl World {
    fn new(sessions: u64, of_client: Limits, of_server: Limits) -> Self {
        let session = |number| {
            let timers = Timers::default();
            let mut client = Client::new(0, number + 1, 1, 0, of_client, timers);
            let open = packed(&client.poll_transmit(0).expect("an opening"));
            let identity = Identity { service: 1.into(), incarnation: 2, epoch: 3 };
            let (head, cookie) = (&open.head[..open.head_len], 1u64 << (40 + number));
            let server = Server::accept(0, head, identity, cookie, of_server, timers);
            let mut server = server.expect("a session");
            let opened = packed(&server.poll_transmit().expect("an answer"));
            let head = &opened.head[..opened.head_len];
            let event = client.receive(ROUND_TRIP, head, opened.piece.to, ());
            assert!(matches!(event, Some(Event::Opened(_))));
            Session { client, server }
        };
        Self {
            random: Random::new(sessions),
            now: ROUND_TRIP,
            network: Network::new(Faults::default()),
            sessions: (0..sessions).map(session).collect(),
            queue: VecDeque::new(),
            offered: Vec::new(),
            ends: Ends::default(),
        }
    }

    /// Offers calls, at random times, so many percent of what the server can execute; until all have ended.
    fn run(mut self, percent: u64) -> Ends {
        let span = CALLS * SERVICE_TIME * 100 / percent;
        for _ in 0..CALLS {
            let at = self.now + self.random.within(0..span);
            self.network.at(at, Happening::Offered);
        }
        while self.ends.executed + self.ends.refused < CALLS {
            let timers = self.sessions.iter().map(|session| session.client.next_timer());
            let timer = timers.min().unwrap_or(u64::MAX);
            self.now = self.now.max(timer.min(self.network.next_time()));
            assert!(self.now < 10 * span, "it comes to no end: {:?}", self.ends);
            if timer <= self.now {
                self.sessions.iter_mut().for_each(|session| session.client.on_timer(self.now));
            }
            if self.network.next_time() <= self.now
                && let Some((_, happening)) = self.network.next()
            {
                self.happen(happening);
            }
            (0..self.sessions.len()).for_each(|number| self.pump(number));
        }
        self.ends
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Offered => {
                let number = self.random.within(0..self.sessions.len() as u64) as usize;
                let token = self.offered.len() as u64;
                self.offered.push(now);
                let (payload, len, deadline) = ((), 8, None);
                let (max_reply, one_way) = (1000, false);
                let call = Call { token, method: 0, payload, len, deadline, max_reply, one_way };
                if let Err(error) = self.sessions[number].client.start(now, call) {
                    assert_eq!(error.why, Refusal::Overload);
                    self.ends.refused += 1;
                }
            }
            Happening::ToServer(number, packet) => {
                let (head, len) = (&packet.head[..packet.head_len], packet.piece.to);
                let event = self.sessions[number].server.receive(now, head, len, ());
                if let Some(ServerEvent::Request(request)) = event {
                    if self.queue.is_empty() {
                        self.network.at(now + SERVICE_TIME, Happening::Executed);
                    }
                    self.queue.push_back((request.pending, number));
                }
            }
            Happening::ToClient(number, packet) => {
                let (head, len) = (&packet.head[..packet.head_len], packet.piece.to);
                let event = self.sessions[number].client.receive(now, head, len, ());
                event.into_iter().for_each(|event| self.tell(event));
            }
            Happening::Executed => {
                let (pending, number) = self.queue.pop_front().expect("it was executed");
                self.sessions[number].server.reply(now, pending, (), 8).expect("it fits");
                if !self.queue.is_empty() {
                    self.network.at(now + SERVICE_TIME, Happening::Executed);
                }
            }
        }
    }

    fn tell(&mut self, event: Event<()>) {
        let Event::Ended { token, outcome, .. } = event else { return };
        let took = self.now - self.offered[token as usize];
        match outcome {
            Outcome::Executed(_) => {
                self.ends.executed += 1;
                self.ends.waited = self.ends.waited.max(took);
            }
            Outcome::Refused(Refusal::Overload) => {
                self.ends.refused += 1;
                self.ends.refused_after = self.ends.refused_after.max(took);
            }
            other => panic!("{other:?}"),
        }
    }

    fn pump(&mut self, number: usize) {
        while let Some(event) = self.sessions[number].client.poll_event(self.now) {
            self.tell(event);
        }
        let Session { client, server } = &mut self.sessions[number];
        while let Some(packet) = client.poll_transmit(self.now) {
            let packet = Happening::ToServer(number, packed(&packet));
            self.network.send(self.now, &mut self.random, packet);
        }
        while let Some(packet) = server.poll_transmit() {
            let packet = Happening::ToClient(number, packed(&packet));
            self.network.send(self.now, &mut self.random, packet);
        }
    }
}

#[test]
fn half_of_what_is_offered_is_refused_by_the_client_that_has_its_backlog_full() {
    let limits = Limits::default();
    let ends = World::new(1, limits, limits).run(200);
    // Those in its window, those in its backlog, and itself.
    let before = u64::from(limits.window + limits.backlog + 1);
    println!("one client at 200%: {ends:?}");
    assert!(ends.waited <= before * SERVICE_TIME + ROUND_TRIP, "{ends:?}");
    assert_eq!(ends.refused_after, 0, "they were refused before they were sent");
    // The server had always something to do.
    assert!(ends.executed * 100 >= CALLS * 49, "{ends:?}");
}

#[test]
fn half_of_what_is_offered_is_refused_by_the_server_that_has_its_backlog_full() {
    const CLIENTS: u64 = 4;
    let of_client = Limits { window: 64, ..Limits::default() };
    let of_server = Limits { backlog: 8, ..of_client };
    let ends = World::new(CLIENTS, of_client, of_server).run(200);
    let before = u64::from(of_server.backlog) * CLIENTS;
    println!("{CLIENTS} clients at 200%: {ends:?}");
    assert!(ends.waited <= before * SERVICE_TIME + ROUND_TRIP, "{ends:?}");
    assert!((1..=ROUND_TRIP).contains(&ends.refused_after), "it was told at once: {ends:?}");
    assert!(ends.executed * 100 >= CALLS * 49, "{ends:?}");
}

#[test]
fn nothing_is_refused_below_what_the_server_can_execute() {
    let limits = Limits::default();
    let ends = World::new(1, limits, limits).run(80);
    println!("one client at 80%: {ends:?}");
    assert_eq!((ends.executed, ends.refused), (CALLS, 0));
}

//! One client process and one server process, what happens to them, and the account of it.

use rpc_fastpath::protocol::{
    Body, Call, Client, Event, Limits, Outcome, Payload, Pending, Refusal, RequestId, Server,
    Timers, Transmit,
};

use super::history::{End, Ends, Entry};
use super::network::{Faults, LONGEST, MICROSECOND, MILLISECOND, Network, Packet, Piece};
use super::random::Random;

pub const SERVICE: u64 = 0x5e41;
pub const FRAGMENT: u32 = 100;
pub const NORMAL: u16 = 0;
pub const PANICS: u16 = 1;
pub const REFUSES: u16 = 2;
/// A run that takes more steps has no end.
const MOST_STEPS: u32 = 100_000;

/// The handle of a message: which call's, and how long.
type Message = (usize, usize);

#[derive(Clone, Debug)]
pub enum Happening {
    ToServer(Packet),
    ToClient(Packet),
    Begin(usize),
    /// A handler has done its work, and then answers.
    Work(usize),
    Answer(usize),
    ClientDies,
    Rebind,
    ServerDies,
    ServerStarts,
    Fence,
    Cut(bool),
    Heal,
}

#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub method: u16,
    pub len: usize,
    pub reply_len: usize,
    pub max_reply: u32,
    pub one_way: bool,
    pub time: Option<u64>,
    pub work: u64,
    pub asks: u32,
}

/// A call in its handler.
pub struct Running {
    pub call: usize,
    pub incarnation: u64,
    pub cookie: u64,
    pub pending: Option<Pending>,
}

pub struct World {
    pub random: Random,
    pub now: u64,
    pub network: Network<Happening>,
    client: Client<Message, Piece>,
    client_number: u32,
    rebinds: bool,
    pub server: Option<Server<Message, Piece>>,
    pub server_lives: bool,
    pub incarnation: u64,
    pub epoch: u64,
    pub calls: Vec<Spec>,
    pub running: Vec<Running>,
    pub limits: Limits,
    pub history: Vec<Entry>,
    pub ends: Ends,
}

pub fn timers() -> Timers {
    Timers {
        rto_initial: 5 * MILLISECOND,
        rto_min: 2 * MILLISECOND,
        rto_max: 40 * MILLISECOND,
        patience: 150 * MILLISECOND,
        keepalive: 60 * MILLISECOND,
        suspicion: 200 * MILLISECOND,
        allowance: 500 * MICROSECOND,
        allowance_alone: 500 * MICROSECOND,
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let limits = Limits {
            window: 1 << random.within(0..4),
            credits: random.within(1..20) as u16,
            fragment: FRAGMENT,
            max_message: 3000,
            backlog: random.within(1..8) as u16,
            unfinished: 6000,
        };
        let network = Network::new(Faults::drawn(&mut random));
        let client = Client::new(0, random.word(), SERVICE, 0, limits, timers());
        let mut world = Self {
            random,
            now: 0,
            network,
            client,
            client_number: 0,
            rebinds: false,
            server: None,
            server_lives: true,
            incarnation: 1,
            epoch: 1,
            calls: Vec::new(),
            running: Vec::new(),
            limits,
            history: Vec::new(),
            ends: Ends::default(),
        };
        world.plan();
        world
    }

    /// Lets everything happen.
    pub fn run(&mut self) {
        let mut steps = 0;
        let mut end = u64::MAX;
        self.pump();
        loop {
            let server_timer = self.server.as_ref().map_or(u64::MAX, |server| server.next_timer());
            let next = self.network.next_time().min(self.client.next_timer()).min(server_timer);
            if next > end {
                break;
            }
            steps += 1;
            assert!(steps < MOST_STEPS, "it does not come to rest");
            self.now = self.now.max(next);
            self.client.on_timer(self.now);
            if let Some(server) = &mut self.server {
                server.on_timer(self.now);
            }
            if self.network.next_time() <= self.now
                && let Some((_, happening)) = self.network.next()
            {
                if let Happening::Heal = happening {
                    // All that is under way or waits for its patience has an end by then.
                    end = self.now + 4 * LONGEST;
                }
                self.happen(happening);
            }
            self.pump();
        }
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::ToServer(packet) => self.arrive_at_server(packet),
            Happening::ToClient(packet) => {
                let head = &packet.head[..packet.head_len];
                let len = packet.piece.to - packet.piece.from;
                let event = self.client.receive(now, head, len, packet.piece);
                event.into_iter().for_each(|event| self.tell(event));
            }
            Happening::Begin(call) => self.begin(call),
            Happening::Work(index) => self.work(index),
            Happening::Answer(index) => self.answer(index),
            Happening::ClientDies => {
                self.history.push(Entry::ClientDied { client: self.client_number });
                self.bind();
            }
            Happening::Rebind => {
                self.rebinds = false;
                if self.client.is_over() {
                    self.bind();
                }
            }
            Happening::ServerDies if self.server_lives => {
                (self.server, self.server_lives) = (None, false);
                self.incarnation += 1;
                let down = self.random.within(0..100) * MILLISECOND;
                self.network.at(now + down, Happening::ServerStarts);
            }
            Happening::ServerDies => {}
            Happening::ServerStarts => self.server_lives = true,
            Happening::Fence => {
                self.epoch += 1;
                if let Some(server) = &mut self.server {
                    server.fence(now);
                }
            }
            Happening::Cut(is_cut) => {
                self.network.is_cut = is_cut;
                let until = now + self.random.within(0..350) * MILLISECOND;
                if is_cut {
                    self.network.at(until, Happening::Cut(false));
                }
            }
            Happening::Heal => {
                self.network.is_cut = false;
                self.network.faults = Faults::default();
                // Now everything must work, once the first has found a session that is not to be used.
                for after in [LONGEST, LONGEST + 100 * MILLISECOND, LONGEST + 101 * MILLISECOND] {
                    let call = self.calls.len();
                    self.calls.push(Spec {
                        method: NORMAL,
                        len: 1000,
                        reply_len: 1000,
                        max_reply: 3000,
                        one_way: false,
                        time: None,
                        work: 0,
                        asks: 0,
                    });
                    self.network.at(now + after, Happening::Begin(call));
                }
            }
        }
    }

    fn bind(&mut self) {
        self.client_number += 1;
        let nonce = self.random.word();
        self.client = Client::new(self.now, nonce, SERVICE, 0, self.limits, timers());
    }

    fn begin(&mut self, call: usize) {
        let spec = self.calls[call];
        // Numbered as they begin.
        self.history.push(Entry::Began { call, client: self.client_number });
        let it = Call {
            token: call as u64,
            method: spec.method,
            payload: (call, spec.len),
            len: spec.len,
            deadline: spec.time.map(|time| self.now + time),
            max_reply: spec.max_reply,
            one_way: spec.one_way,
        };
        if let Err(error) = self.client.start(self.now, it) {
            self.end(call, End::Refused(error.why));
        }
    }

    fn end(&mut self, call: usize, end: End) {
        self.history.push(Entry::Ended { call, end });
        match end {
            End::Executed { .. } | End::Delivered => self.ends.executed += 1,
            End::Failed(_) => self.ends.failed += 1,
            End::Refused(_) => self.ends.refused += 1,
            End::Unknown(_) => self.ends.unknown += 1,
        }
    }

    /// What a client's caller is told.
    fn tell(&mut self, event: Event<Piece>) {
        match event {
            Event::Opened(terms) => self.history.push(Entry::Opened {
                client: self.client_number,
                cookie: terms.cookie,
                incarnation: terms.incarnation,
            }),
            Event::Ended { token, request, outcome } => {
                self.on_end(token as usize, request, outcome)
            }
            Event::Suspected => self.ends.suspected += 1,
            Event::Restored => {}
            Event::SessionOver(_) => self.rebind(),
        }
    }

    fn rebind(&mut self) {
        if !self.rebinds {
            self.rebinds = true;
            let after = self.random.within(0..20) * MILLISECOND;
            self.network.at(self.now + after, Happening::Rebind);
        }
    }

    fn on_end(
        &mut self,
        call: usize,
        request: Option<RequestId>,
        outcome: Outcome<Payload<Piece>>,
    ) {
        let end = match outcome {
            Outcome::Executed(payload) => {
                End::Executed { reply_to: message(&payload, |call| self.calls[call].reply_len) }
            }
            Outcome::Delivered => End::Delivered,
            Outcome::Failed(why) => End::Failed(why),
            Outcome::Refused(why) => End::Refused(why),
            Outcome::Unknown(doubt) => End::Unknown(doubt),
        };
        self.end(call, end);
        let spec = &mut self.calls[call];
        match (end, request) {
            (End::Unknown(_), Some(request)) if spec.asks > 0 => {
                spec.asks -= 1;
                if self.client.query(self.now, request).is_ok() {
                    self.history.push(Entry::Asked { call });
                }
            }
            (End::Refused(Refusal::WrongEpoch), _) => {
                self.client.close();
                self.rebind();
            }
            (End::Executed { .. } | End::Refused(_), _) => {
                self.ends.resolved += u64::from(self.history.contains(&Entry::Asked { call }));
            }
            _ => {}
        }
    }

    /// Sends and tells whatever there is.
    fn pump(&mut self) {
        loop {
            let mut is_quiet = true;
            while let Some(event) = self.client.poll_event(self.now) {
                is_quiet = false;
                self.tell(event);
            }
            while let Some(packet) = self.client.poll_transmit(self.now) {
                let packet = packed(&packet);
                self.network.send(self.now, &mut self.random, Happening::ToServer(packet));
            }
            while let Some(server) = &mut self.server {
                while server.poll_event().is_some() {}
                let Some(packet) = server.poll_transmit() else { break };
                let packet = packed(&packet);
                self.send_to_client(packet);
            }
            if is_quiet {
                return;
            }
        }
    }

    pub fn send_to_client(&mut self, packet: Packet) {
        self.network.send(self.now, &mut self.random, Happening::ToClient(packet));
    }

    /// How the calls ended that were begun when all was well again.
    pub fn last_ends(&self) -> impl Iterator<Item = Option<End>> {
        let last = self.calls.len() - 2..self.calls.len();
        last.map(|call| {
            self.history.iter().find_map(|entry| match *entry {
                Entry::Ended { call: ended, end } if ended == call => Some(end),
                _ => None,
            })
        })
    }
}

/// The call whose whole message this is; none if it is not.
pub fn message(payload: &Payload<Piece>, len: impl Fn(usize) -> usize) -> usize {
    let pieces = payload.pieces();
    let call = pieces[0].call;
    let mut end = 0;
    for piece in pieces {
        if piece.call != call || piece.from != end {
            return usize::MAX;
        }
        end = piece.to;
    }
    if end == len(call) { call } else { usize::MAX }
}

fn packed(packet: &Transmit<'_, Message>) -> Packet {
    let mut packed = bare(&packet.header);
    match &packet.body {
        Body::Empty => {}
        Body::Control(bytes, len) => {
            packed.head[16..].copy_from_slice(bytes);
            packed.head_len += len;
            packed.piece.to = *len;
        }
        Body::Payload((call, _), range) => {
            packed.piece = Piece { call: *call, from: range.start, to: range.end };
        }
    }
    packed
}

pub fn bare(header: &[u8; 16]) -> Packet {
    let mut head = [0; 48];
    head[..16].copy_from_slice(header);
    Packet { head, head_len: 16, piece: Piece { call: 0, from: 0, to: 0 } }
}

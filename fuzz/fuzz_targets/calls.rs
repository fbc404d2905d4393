//! Any packets to both sides of a session, and to each what the other says, in any order: no call ends twice,
//! none is executed twice, and nothing that one packet brings about has no end.
#![no_main]

use fuzz::Bytes;
use libfuzzer_sys::fuzz_target;
use rpc_fastpath::protocol::{
    Body, Call, Client, Event, Failure, Identity, Limits, Pending, Server, ServerEvent, Timers,
    Transmit,
};

const COOKIE: u64 = u64::MAX - 9;
/// Bytes of the longest packet of the protocol's own.
const HEAD: usize = 48;

/// A packet on its way: how much of it is header and the protocol's own, and how much follows in all.
type Sent = ([u8; HEAD], usize, usize);

fuzz_target!(|bytes: &[u8]| {
    let mut input = Bytes(bytes);
    let limits = Limits {
        window: 4,
        credits: 8,
        fragment: 10,
        max_message: 400,
        backlog: 3,
        unfinished: 500,
    };
    let mut session = Session::open(limits);
    while !input.0.is_empty() {
        session.step(&mut input);
    }
    session.end();
});

struct Session {
    now: u64,
    client: Client<(), u8>,
    server: Server<(), u8>,
    /// On their way to the server and to the client.
    ways: [Vec<Sent>; 2],
    pending: Vec<Pending>,
    handed: Vec<u64>,
    begun: u64,
    ended: Vec<u64>,
}

fn sent<P>(packet: &Transmit<'_, P>) -> Sent {
    let mut head = [0; HEAD];
    head[..16].copy_from_slice(&packet.header);
    let mut len = 16;
    if let Body::Control(bytes, count) = &packet.body {
        head[16..].copy_from_slice(bytes);
        len += count;
    }
    (head, len, packet.body.len())
}

impl Session {
    fn open(limits: Limits) -> Self {
        let timers = Timers::default();
        let mut client = Client::new(0, 77, 1, 0, limits, timers);
        let (head, len, _) = sent(&client.poll_transmit(0).expect("an opening"));
        let identity = Identity { service: 1.into(), incarnation: 2, epoch: 3 };
        let server = Server::accept(0, &head[..len], identity, COOKIE, limits, timers);
        Self {
            now: 0,
            client,
            server: server.expect("a session"),
            ways: Default::default(),
            pending: Vec::new(),
            handed: Vec::new(),
            begun: 0,
            ended: Vec::new(),
        }
    }

    fn step(&mut self, input: &mut Bytes) {
        let what = input.byte();
        match what % 8 {
            // What was sent arrives, early or late, once or again.
            0..3 => {
                let way = usize::from(what >> 3 & 1);
                let at = usize::from(input.byte());
                let many = self.ways[way].len();
                if many > 0 {
                    let packet = self.ways[way][at % many];
                    if what & 0x80 == 0 {
                        self.ways[way].remove(at % many);
                    }
                    self.arrive(way, packet);
                }
            }
            3 => {
                let mut head = [0; HEAD];
                head.iter_mut().for_each(|byte| *byte = input.byte());
                // Mostly of this session.
                if what & 0x10 == 0 {
                    let id = COOKIE.wrapping_add(u64::from(head[8] % 32));
                    head[8..16].copy_from_slice(&id.to_le_bytes());
                }
                head[0] = head[0] & 0x80 | head[0] % 8;
                let len = 16 + usize::from(input.byte()) % (HEAD - 15);
                let follows = usize::from(input.byte()) % 16;
                self.arrive(usize::from(what >> 3 & 1), (head, len.min(HEAD), follows));
            }
            4 => self.begin(input),
            5 if !self.pending.is_empty() => {
                let at = usize::from(input.byte()) % self.pending.len();
                let one = self.pending.remove(at);
                match input.byte() {
                    0 => self.server.fail(self.now, one, Failure::Panicked),
                    len => _ = self.server.reply(self.now, one, (), usize::from(len) * 2),
                }
            }
            6 => {
                self.now += u64::from(input.byte()) << (what >> 3);
                self.client.on_timer(self.now);
                self.server.on_timer(self.now);
                assert!(self.client.next_timer() > self.now);
            }
            _ => {}
        }
        self.collect();
    }

    fn begin(&mut self, input: &mut Bytes) {
        let [len, how] = [input.byte(), input.byte()];
        let call = Call {
            token: self.begun,
            method: 1,
            payload: (),
            len: usize::from(len) * 2,
            deadline: (how & 1 != 0).then_some(self.now + (u64::from(how) << 12)),
            max_reply: 300,
            one_way: how & 2 != 0,
        };
        if self.client.start(self.now, call).is_err() {
            self.ended.push(self.begun);
        }
        self.begun += 1;
    }

    fn arrive(&mut self, way: usize, (head, len, follows): Sent) {
        if way == 0 {
            let event = self.server.receive(self.now, &head[..len], follows, 0);
            if let Some(ServerEvent::Request(request)) = event {
                let number = request.pending.request().number;
                assert!(!self.handed.contains(&number), "executed twice");
                self.handed.push(number);
                self.pending.push(request.pending);
            }
        } else if let Some(event) = self.client.receive(self.now, &head[..len], follows, 0) {
            self.tell(event);
        }
    }

    fn tell(&mut self, event: Event<u8>) {
        if let Event::Ended { token, .. } = event {
            assert!(token < self.begun && !self.ended.contains(&token), "ended twice");
            self.ended.push(token);
        }
    }

    /// Takes what there is of events and packets; no step brings about many.
    fn collect(&mut self) {
        for _ in 0..100 {
            let Some(event) = self.client.poll_event(self.now) else { break };
            self.tell(event);
        }
        for way in 0..2 {
            for count in 0.. {
                let packet = match way {
                    0 => self.client.poll_transmit(self.now).as_ref().map(sent),
                    _ => self.server.poll_transmit().as_ref().map(sent),
                };
                let Some(packet) = packet else { break };
                assert!(count < 200, "no end of packets");
                self.ways[way].truncate(63);
                self.ways[way].push(packet);
            }
        }
        assert!(self.server.executing() as usize == self.pending.len() && self.pending.len() <= 3);
        for _ in 0..4 {
            self.server.poll_event();
        }
    }

    /// However it was led on, every call ends.
    fn end(&mut self) {
        self.client.close();
        while let Some(event) = self.client.poll_event(self.now) {
            self.tell(event);
        }
        assert_eq!(self.ended.len() as u64, self.begun);
    }
}

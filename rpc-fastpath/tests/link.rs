//! What gets through a link of a certain rate, delay, queue and loss, in virtual time: goodput under loss, and
//! the delay of small calls beside long ones.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rpc_fastpath::protocol::{
    Body, Call, Client, Event, Identity, Limits, Outcome, Server, ServerEvent, Timers, Transmit,
};

/// The time of a byte at 10 Gbit/s, in tenths of a nanosecond.
const BYTE: u64 = 8;
/// The way through the link, apart from its queue.
const DELAY: u64 = 15_000;
/// What travels with each packet beside its payload.
const OVERHEAD: usize = 16 + 32 + 66;
/// The time of a packet of the largest size.
const LONGEST: u64 = 1_217;
const MIB: usize = 1 << 20;

#[derive(Clone, Copy)]
struct Packet {
    session: usize,
    head: [u8; 48],
    head_len: usize,
    len: usize,
}

/// One direction: a queue of so many packets, and one lost of so many.
struct Way {
    queue: u64,
    one_lost_of: u64,
    free_at: u64,
    count: u64,
    random: u64,
    /// How long each packet waited.
    waits: Vec<u64>,
}

impl Way {
    fn new(queue: u64, one_lost_of: u64) -> Self {
        let random = 88_172_645_463_325_252;
        Self { queue, one_lost_of, free_at: 0, count: 0, random, waits: Vec::new() }
    }

    /// When it arrives, if it does.
    fn send(&mut self, now: u64, len: usize) -> Option<u64> {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let time = (len + OVERHEAD) as u64 * BYTE / 10;
        let waits = self.free_at.saturating_sub(now);
        self.waits.push(waits);
        // A full queue, in packets of the largest size.
        if waits > self.queue * LONGEST {
            return None;
        }
        self.free_at = now + waits + time;
        self.count += 1;
        let is_lost = self.one_lost_of > 0 && (self.random >> 20).is_multiple_of(self.one_lost_of);
        (!is_lost).then_some(self.free_at + DELAY)
    }
}

/// What a session does, one call after the other.
#[derive(Clone, Copy)]
struct Load {
    len: usize,
    reply: usize,
    calls: u32,
    /// So many at once.
    depth: usize,
}

struct Session {
    client: Client<usize, ()>,
    server: Server<usize, ()>,
    load: Load,
    begun: u64,
    times: Vec<u64>,
}

struct Link {
    now: u64,
    sessions: Vec<Session>,
    ways: [Way; 2],
    queue: BinaryHeap<Reverse<(u64, u64, bool, usize)>>,
    packets: Vec<Packet>,
}

fn packed<P>(session: usize, packet: &Transmit<'_, P>) -> Packet {
    let mut head = [0; 48];
    head[..16].copy_from_slice(&packet.header);
    let mut head_len = 16;
    if let Body::Control(bytes, len) = &packet.body {
        head[16..].copy_from_slice(bytes);
        head_len += len;
    }
    Packet { session, head, head_len, len: packet.body.len() }
}

impl Link {
    fn new(loads: &[Load], queue: u64, one_lost_of: u64) -> Self {
        let mut link = Self {
            now: 0,
            sessions: Vec::new(),
            ways: [Way::new(queue, one_lost_of), Way::new(queue, one_lost_of)],
            queue: BinaryHeap::new(),
            packets: Vec::new(),
        };
        for (number, load) in loads.iter().enumerate() {
            let (limits, timers) = (Limits::default(), Timers::default());
            let mut client = Client::new(0, number as u64 + 1, 1, 0, limits, timers);
            client.never_sleep();
            let open = packed(number, &client.poll_transmit(0).expect("an opening"));
            let identity = Identity { service: 1.into(), incarnation: 2, epoch: 3 };
            let cookie = (number as u64 + 1) << 40;
            let head = &open.head[..open.head_len];
            let server = Server::accept(0, head, identity, cookie, limits, timers);
            let mut server = server.expect("a session");
            let opened = packed(number, &server.poll_transmit().expect("an answer"));
            link.packets.push(opened);
            link.queue.push(Reverse((2 * DELAY, number as u64, false, number)));
            link.sessions.push(Session {
                client,
                server,
                load: *load,
                begun: 0,
                times: Vec::new(),
            });
        }
        link
    }

    /// Until each session that has an end has made its calls; how long the first took.
    fn run(&mut self) -> u64 {
        for number in 0..self.sessions.len() {
            for _ in 0..self.sessions[number].load.depth {
                self.call(number);
            }
        }
        let mut first = None;
        while self.sessions.iter().any(|session| (session.times.len() as u32) < session.load.calls)
        {
            let timers = self.sessions.iter().map(|session| session.client.next_timer());
            let timer = timers.min().unwrap_or(u64::MAX);
            let arrival = self.queue.peek().map_or(u64::MAX, |Reverse((time, ..))| *time);
            self.now = self.now.max(timer.min(arrival));
            assert!(self.now < 60_000_000_000, "it comes to no end");
            if timer <= arrival {
                for number in 0..self.sessions.len() {
                    self.sessions[number].client.on_timer(self.now);
                    self.pump(number);
                }
            } else if let Some(Reverse((_, _, to_server, at))) = self.queue.pop() {
                let packet = self.packets[at];
                self.arrive(to_server, packet);
                self.pump(packet.session);
            }
            let session = &self.sessions[0];
            if first.is_none() && session.times.len() as u32 >= session.load.calls {
                first = Some(self.now);
            }
        }
        first.unwrap_or(self.now)
    }

    fn call(&mut self, number: usize) {
        let session = &mut self.sessions[number];
        let Load { len, .. } = session.load;
        session.begun = self.now;
        let call = Call {
            token: 0,
            method: 0,
            payload: len,
            len,
            deadline: None,
            max_reply: 64 << 20,
            one_way: false,
        };
        assert!(session.client.start(self.now, call).is_ok());
    }

    fn arrive(&mut self, to_server: bool, packet: Packet) {
        let session = &mut self.sessions[packet.session];
        let head = &packet.head[..packet.head_len];
        if to_server {
            let event = session.server.receive(self.now, head, packet.len, ());
            if let Some(ServerEvent::Request(request)) = event {
                let len = session.load.reply;
                session.server.reply(self.now, request.pending, len, len).expect("it fits");
            }
        } else if let Some(event) = session.client.receive(self.now, head, packet.len, ()) {
            self.tell(packet.session, event);
        }
    }

    fn tell(&mut self, number: usize, event: Event<()>) {
        if let Event::Ended { outcome, .. } = event {
            assert!(matches!(outcome, Outcome::Executed(_)), "{outcome:?}");
            let session = &mut self.sessions[number];
            session.times.push(self.now - session.begun);
            self.call(number);
        }
    }

    fn pump(&mut self, number: usize) {
        while let Some(event) = self.sessions[number].client.poll_event(self.now) {
            self.tell(number, event);
        }
        loop {
            let session = &mut self.sessions[number];
            let mut packet = session.client.poll_transmit(self.now).map(|it| packed(number, &it));
            let to_server = packet.is_some();
            if packet.is_none() {
                packet = session.server.poll_transmit().map(|it| packed(number, &it));
            }
            let Some(packet) = packet else { return };
            let way = &mut self.ways[usize::from(!to_server)];
            if let Some(at) = way.send(self.now, packet.len) {
                self.packets.push(packet);
                let index = self.packets.len() - 1;
                self.queue.push(Reverse((at, index as u64, to_server, index)));
            }
        }
    }
}

/// Bytes a second of one session's long messages.
fn goodput(load: Load, queue: u64, one_lost_of: u64) -> u64 {
    let time = Link::new(&[load], queue, one_lost_of).run();
    let bytes = (load.len + load.reply) as u64 * u64::from(load.calls);
    bytes * 1_000_000_000 / time
}

const PUT: Load = Load { len: MIB, reply: 0, calls: 40, depth: 1 };
const GET: Load = Load { len: 0, reply: MIB, calls: 40, depth: 1 };

#[test]
fn a_loss_free_link_is_filled_both_ways() {
    for load in [PUT, GET] {
        let goodput = goodput(load, 1000, 0);
        println!("{goodput} bytes a second without loss");
        assert!(goodput > 1_000_000_000, "{goodput}");
    }
}

#[test]
fn one_percent_of_loss_leaves_seventy_of_the_goodput() {
    for load in [PUT, GET] {
        let (whole, lossy) = (goodput(load, 1000, 0), goodput(load, 1000, 100));
        println!("{}% at one percent of loss", lossy * 100 / whole);
        assert!(lossy * 100 >= whole * 70, "{lossy} of {whole}");
    }
}

#[test]
fn a_queue_that_is_shorter_than_the_window_is_no_collapse() {
    for (load, queue) in [(PUT, 8), (GET, 8)] {
        let (whole, short) = (goodput(load, 1000, 0), goodput(load, queue, 0));
        println!("{}% with a short queue", short * 100 / whole);
        assert!(short * 100 >= whole * 60, "{short} of {whole}");
    }
}

#[test]
fn a_small_call_that_is_lost_takes_a_timeout_longer_and_no_more() {
    let small = Load { len: 16, reply: 16, calls: 20_000, depth: 1 };
    let mut link = Link::new(&[small], 1000, 100);
    link.run();
    let [p90, p999] = [900, 999].map(|at| share(&link.sessions[0].times, at));
    println!("p90 of {p90} ns and p99.9 of {p999} ns at one percent of loss");
    // Two in a row are lost in four of ten thousand: a timeout of a millisecond, and the doubled one.
    assert!(p90 < 40_000 && p999 < 4_000_000);
}

#[test]
fn a_small_call_beside_two_long_flows_waits_for_a_bounded_queue() {
    let small = Load { len: 16, reply: 16, calls: 2_000, depth: 1 };
    let p99 = |link: &Link| share(&link.sessions[0].times, 990);
    let mut idle = Link::new(&[small], 1000, 0);
    idle.run();
    let endless = Load { calls: 1, ..PUT };
    let mut busy = Link::new(&[small, endless, endless], 1000, 0);
    busy.run();
    println!("p99 of {} ns idle, {} ns beside two flows", p99(&idle), p99(&busy));
    assert!(p99(&busy) <= 5 * p99(&idle));
}

/// The value below which so many of a thousand are.
fn share(values: &[u64], per_mille: usize) -> u64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    values[values.len() * per_mille / 1000]
}

#[test]
fn all_long_replies_of_a_session_share_its_window() {
    let small = Load { len: 16, reply: 16, calls: 400, depth: 1 };
    for (reply, sessions) in [(MIB, 16), (16 << 10, 16)] {
        let mut loads = vec![small];
        loads.extend(vec![Load { len: 0, reply, calls: 1, depth: 8 }; sessions]);
        let mut link = Link::new(&loads, 10_000, 0);
        link.run();
        // Who comes first finds it full.
        let waits = &link.ways[1].waits[link.ways[1].waits.len() / 4..];
        let [p50, p99] = [500, 990].map(|at| share(waits, at) / LONGEST);
        let null = share(&link.sessions[0].times[50..], 990);
        println!("{sessions} times 8: a queue of {p50} and {p99} packets, a call in {null} ns");
        // All that may be under way of one without the others would be 64 packets of each.
        assert!(p99 <= 100, "{p99}");
    }
}

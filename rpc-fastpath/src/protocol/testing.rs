//! Both machines in one place, for their tests: the test carries the packets.

use super::*;

pub const SERVICE: u64 = 0x5e41;
pub const COOKIE: u64 = u64::MAX - 20;
pub const MILLISECOND: u64 = 1_000_000;

pub type TestClient = Client<&'static str, u32>;
pub type TestServer = Server<&'static str, u32>;

pub fn limits() -> Limits {
    Limits { window: 2, credits: 4, fragment: 10, max_message: 100, backlog: 2, unfinished: 150 }
}

pub fn timers() -> Timers {
    Timers {
        rto_initial: MILLISECOND,
        rto_min: MILLISECOND,
        rto_max: 8 * MILLISECOND,
        patience: 50 * MILLISECOND,
        keepalive: 0,
        ..Timers::default()
    }
}

pub fn identity() -> Identity {
    Identity { service: SERVICE.into(), incarnation: 7, epoch: 3 }
}

pub fn call(token: u64, len: usize) -> Call<&'static str> {
    let payload = "arguments";
    Call { token, method: 5, payload, len, deadline: None, max_reply: 100, one_way: false }
}

/// A packet on its way: header and what follows of the protocol's own, and how much follows in all.
pub type Sent = (Vec<u8>, usize);

pub fn sent<P>(packet: &Transmit<'_, P>) -> Sent {
    let mut head = packet.header.to_vec();
    if let Body::Control(bytes, len) = &packet.body {
        head.extend(&bytes[..*len]);
    }
    (head, packet.body.len())
}

pub fn packet(sent: &Sent) -> crate::wire::Packet {
    crate::wire::Packet::decode(sent.0.first_chunk().expect("a header")).expect("a packet")
}

pub fn from_client(client: &mut TestClient, now: u64) -> Vec<Sent> {
    std::iter::from_fn(|| client.poll_transmit(now).as_ref().map(sent)).collect()
}

pub fn from_server(server: &mut TestServer) -> Vec<Sent> {
    std::iter::from_fn(|| server.poll_transmit().as_ref().map(sent)).collect()
}

pub fn to_server(server: &mut TestServer, now: u64, packets: &[Sent]) -> Vec<ServerEvent<u32>> {
    packets.iter().filter_map(|(head, len)| server.receive(now, head, *len, *len as u32)).collect()
}

/// All that the client is told.
pub fn to_client(client: &mut TestClient, now: u64, packets: &[Sent]) -> Vec<Event<u32>> {
    let mut events: Vec<_> = packets
        .iter()
        .filter_map(|(head, len)| client.receive(now, head, *len, *len as u32))
        .collect();
    events.extend(std::iter::from_fn(|| client.poll_event(now)));
    events
}

/// What the client is told by and by.
pub fn told(client: &mut TestClient, now: u64) -> Vec<Event<u32>> {
    client.on_timer(now);
    to_client(client, now, &[])
}

pub fn open(limits: Limits, timers: Timers) -> (TestClient, TestServer) {
    let mut client = Client::new(0, 99, SERVICE, 0, limits, timers);
    let asked = from_client(&mut client, 0);
    assert_eq!(asked.len(), 1);
    let mut server =
        Server::accept(0, &asked[0].0, identity(), COOKIE, limits, timers).expect("a session");
    let opened = from_server(&mut server);
    assert_eq!(to_client(&mut client, 0, &opened), [Event::Opened(*server.terms())]);
    (client, server)
}

/// The one request.
pub fn request(mut events: Vec<ServerEvent<u32>>) -> Request<u32> {
    assert_eq!(events.len(), 1, "{events:?}");
    match events.pop() {
        Some(ServerEvent::Request(request)) => request,
        other => panic!("not a request: {other:?}"),
    }
}

/// The outcome of the one call that ended, and its token.
pub fn outcome(mut events: Vec<Event<u32>>) -> (u64, Outcome<Payload<u32>>) {
    assert_eq!(events.len(), 1, "{events:?}");
    match events.pop() {
        Some(Event::Ended { token, outcome, .. }) => (token, outcome),
        other => panic!("no end: {other:?}"),
    }
}

//! Makes null calls, both machines in one thread and the network a variable, for a tool that counts the
//! instructions of each part:
//!
//! ```text
//! cargo build --release --example call_cost
//! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='call_cost::client_sends*' \
//!     target/release/examples/call_cost 10000
//! ```
//!
//! Without a tool it prints the time of a call. As a second word, `deadline` gives each call one, and
//! `unpredicted` sets a flag in each header that says nothing new, so that no header is the predicted one.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use rpc_fastpath::protocol::{
    Body, Call, Client, Event, Identity, Limits, Outcome, Server, ServerEvent, Timers, Transmit,
};

/// What a slot carries: the handle of a small payload is the payload.
type Slot = [u64; 7];
type TheClient = Client<[u64; 3], Slot>;
type TheServer = Server<[u64; 3], Slot>;
type Head = [u8; 16];

const ARGUMENTS: [u64; 3] = [1, 2, 3];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let count = words.next().map_or(Ok(1_000_000), |word| word.parse());
    let Ok(count) = count else {
        eprintln!("say how many calls: `call_cost 10000`");
        return ExitCode::FAILURE;
    };
    let how = words.next().unwrap_or_default();
    let time = (how == "deadline").then_some(1_000_000_000);
    // The flag by which a sender asks for word.
    let flag = if how == "unpredicted" { 0x10 } else { 0 };
    let (mut client, mut server) = open();
    let begin = Instant::now();
    for number in 1..=count {
        let now = number * 1_000;
        let mut request = client_sends(&mut client, now, time.map(|time| now + time));
        request[1] |= flag;
        let mut reply = server_answers(&mut server, now + 200, &request);
        reply[1] |= flag;
        client_receives(&mut client, now + 400, &reply);
        client_finishes(&mut client, now + 400);
    }
    println!("{} ns a call", begin.elapsed().as_nanos() / u128::from(count.max(1)));
    ExitCode::SUCCESS
}

fn open() -> (TheClient, TheServer) {
    let (limits, timers) = (Limits::default(), Timers::default());
    let mut client = Client::new(0, 1, 2, 0, limits, timers);
    let head = whole(&client.poll_transmit(0).expect("an opening"));
    let identity = Identity { service: 2.into(), incarnation: 3, epoch: 4 };
    let mut server = Server::accept(0, &head, identity, 5, limits, timers).expect("a session");
    let head = whole(&server.poll_transmit().expect("an answer"));
    assert!(matches!(client.receive(0, &head, 0, Slot::default()), Some(Event::Opened(_))));
    (client, server)
}

fn whole<P>(packet: &Transmit<'_, P>) -> Vec<u8> {
    let mut head = packet.header.to_vec();
    if let Body::Control(bytes, len) = &packet.body {
        head.extend(&bytes[..*len]);
    }
    head
}

/// Begins a call and says what to send.
#[inline(never)]
fn client_sends(client: &mut TheClient, now: u64, deadline: Option<u64>) -> Head {
    let call = Call {
        token: now,
        method: 1,
        payload: ARGUMENTS,
        len: 24,
        deadline,
        max_reply: 64,
        one_way: false,
    };
    client.start(now, call).expect("there is room");
    let packet = client.poll_transmit(now).expect("a request");
    black_box(&packet.body);
    packet.header
}

/// Takes the request, answers it, and says what to send.
#[inline(never)]
fn server_answers(server: &mut TheServer, now: u64, head: &Head) -> Head {
    let Some(ServerEvent::Request(request)) = server.receive(now, head, 24, Slot::default()) else {
        unreachable!("a request");
    };
    black_box(&request.payload);
    server.reply(now, request.pending, ARGUMENTS, 24).expect("it fits");
    let packet = server.poll_transmit().expect("a reply");
    black_box(&packet.body);
    packet.header
}

/// Takes the reply.
#[inline(never)]
fn client_receives(client: &mut TheClient, now: u64, head: &Head) {
    let event = client.receive(now, head, 24, Slot::default());
    let Some(Event::Ended { outcome: Outcome::Executed(payload), .. }) = event else {
        unreachable!("a reply");
    };
    black_box(&payload);
}

/// What can wait until the caller has the reply: looks whether there is more, and at the clock.
#[inline(never)]
fn client_finishes(client: &mut TheClient, now: u64) {
    assert!(client.poll_event(now).is_none());
    client.on_timer(now);
}

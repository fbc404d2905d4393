//! A small call allocates nothing on either side.

use rpc_fastpath::endpoint;
use rpc_fastpath::protocol::{
    Body, Call, Client, Event, Identity, Limits, Outcome, Server, ServerEvent, Timers, Transmit,
};

type Argument = [u8; 24];

fn packet<P>(transmit: &Transmit<'_, P>) -> ([u8; 48], usize) {
    let mut head = [0; 48];
    head[..16].copy_from_slice(&transmit.header);
    match &transmit.body {
        Body::Control(bytes, len) => {
            head[16..16 + len].copy_from_slice(&bytes[..*len]);
            (head, 16 + len)
        }
        _ => (head, 16),
    }
}

fn null_call(client: &mut Client<Argument, ()>, server: &mut Server<Argument, ()>, now: u64) {
    let call = Call {
        token: now,
        method: 1,
        payload: [7; 24],
        len: 24,
        deadline: None,
        max_reply: 64,
        one_way: false,
    };
    assert!(client.start(now, call).is_ok());
    let (head, len) = packet(&client.poll_transmit(now).expect("a request"));
    let Some(ServerEvent::Request(request)) = server.receive(now, &head[..len], 24, ()) else {
        panic!("no request");
    };
    server.reply(now, request.pending, [8; 24], 24).expect("it fits");
    let (head, len) = packet(&server.poll_transmit().expect("a reply"));
    let event = client.receive(now, &head[..len], 24, ());
    assert!(matches!(event, Some(Event::Ended { outcome: Outcome::Executed(_), .. })));
    assert!(client.poll_event(now).is_none() && client.poll_transmit(now).is_none());
    client.on_timer(now);
}

#[test]
fn a_small_call_allocates_nothing() {
    let (limits, timers) = (Limits::default(), Timers::default());
    let mut client = Client::new(0, 1, 2, 0, limits, timers);
    let (head, len) = packet(&client.poll_transmit(0).expect("an opening"));
    let identity = Identity { service: 2.into(), incarnation: 3, epoch: 4 };
    let mut server =
        Server::accept(0, &head[..len], identity, 5, limits, timers).expect("a session");
    let (head, len) = packet(&server.poll_transmit().expect("an answer"));
    assert!(matches!(client.receive(0, &head[..len], 0, ()), Some(Event::Opened(_))));
    let counted = allocation_counter::measure(|| {
        (1..10_000).for_each(|number| null_call(&mut client, &mut server, number * 1_000));
    });
    assert_eq!(counted.count_total, 0);
}

/// One call, client and server by turns in one thread.
fn call_over(connection: &mut endpoint::Connection, service: &mut endpoint::Service) {
    use endpoint::{Bytes, Context, How, Outcome, Reply};
    let mut echo = |_: &Context, arguments: Bytes<'_>, reply: &mut Reply<'_>| {
        reply.write(arguments.as_slice().unwrap_or_default());
        Ok(())
    };
    connection.start(1, &[7; 24], How::default()).expect("there is room");
    let mut ended = 0;
    while ended == 0 {
        connection.poll(|end| {
            ended += 1;
            let is_right = matches!(end.outcome, Outcome::Executed(reply) if reply.len() == 24);
            assert!(is_right);
        });
        service.poll(&mut echo);
    }
}

#[test]
fn a_small_call_over_a_channel_allocates_nothing() {
    for form in ["shm:allocation-PID", "udp:127.0.0.1:PORT"] {
        let port = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let address = form
            .replace("PID", &std::process::id().to_string())
            .replace("PORT", &port.expect("a port").port().to_string());
        let address: unet::Address = address.parse().expect("an address");
        let (mut here, mut there) =
            (endpoint::ConnectionOptions::default(), endpoint::ServiceOptions::default());
        here.connect.network.drivers = drivers::linked();
        there.listen.network.drivers = drivers::linked();
        let addresses = std::slice::from_ref(&address);
        let mut service = endpoint::Service::listen(addresses, there).expect("listening");
        let mut connection = endpoint::Connection::begin(addresses, here).expect("an endpoint");
        (0..1_000).for_each(|_| call_over(&mut connection, &mut service));
        let counted = allocation_counter::measure(|| {
            (0..5_000).for_each(|_| call_over(&mut connection, &mut service));
        });
        assert_eq!(counted.count_total, 0, "{address}");
    }
}

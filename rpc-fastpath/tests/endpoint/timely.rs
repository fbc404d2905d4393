//! Calls that end in time, whatever else their connection did or hears.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rpc_fastpath::endpoint::*;
use rpc_fastpath::protocol::{Body, Call, Client, Identity, Limits, Server, Timers};
use unet::{Channel, ChannelId, Endpoint, EndpointOptions, Event, ListenOptions};

use crate::scene::*;

pub fn a_call_beside_one_that_was_left_alone_has_its_patience(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut options = of_client(way);
        options.timers.patience = 1_000_000_000;
        let mut connection = scene.connect_with(options);
        connection.start(NULL, b"", How::default()).expect("room");
        connection.flush();
        // As one whose thread has something else to do.
        thread::sleep(Duration::from_millis(1_200));
        let outcome = connection.call(NULL, b"", How::default());
        assert_eq!(outcome, Outcome::Executed(vec![]));
    });
}

/// Who has to wake for each packet is late each time: that is no congestion, and not each packet waits for its time.
#[test]
fn long_arguments_between_threads_that_sleep_are_not_held_back() {
    let wait = unet::Wait::Park;
    with_server(UDP, ServiceOptions { wait, ..of_server() }, |scene| {
        let mut connection = scene.connect_with(ConnectionOptions { wait, ..of_client(UDP) });
        let arguments = vec![0; 1 << 20];
        let call = |_| {
            let begin = Instant::now();
            let outcome = connection.call(NULL, &arguments[..], How::default());
            assert_eq!(outcome, Outcome::Executed(vec![]));
            begin.elapsed()
        };
        let shortest = (0..10).map(call).min().expect("calls");
        // Where each of 745 packets waits for its time, and times are rounded to milliseconds, it takes 745 of them.
        assert!(shortest < Duration::from_millis(100), "{shortest:?}");
    });
}

/// Sends a request by a machine.
fn ask(machine: &mut Client<(), ()>, channel: &mut Channel) {
    let (method, max_reply, deadline) = (NULL, 0, None);
    let call = Call { token: 0, method, payload: (), len: 0, deadline, max_reply, one_way: false };
    machine.start(0, call).expect("a place in the window");
    channel.send(&machine.poll_transmit(0).expect("a request").header).expect("room");
}

#[test]
fn who_has_work_all_the_time_is_awake() {
    let options = ServiceOptions { wait: unet::Wait::Park, ..of_server() };
    let address = UDP.address();
    let mut service = Service::listen(std::slice::from_ref(&address), options).expect("listening");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut slow = |_: &Context, _: Bytes<'_>, _: &mut Reply<'_>| {
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_micros(200) {}
                Ok(())
            };
            while !stop.load(Ordering::Relaxed) {
                service.poll_timeout(&mut slow, Duration::from_millis(5));
                while service.poll(&mut slow) > 0 {}
            }
        });
        let mut channel = Channel::connect(&address, of_client(UDP).connect).expect("a channel");
        let timers = Timers { rto_initial: 1 << 40, rto_min: 1 << 40, ..Timers::default() };
        let mut machine = Client::new(0, 7, SERVICE, 0, Limits::default(), timers);
        let open = machine.poll_transmit(0).expect("an opening");
        let Body::Control(offer, len) = open.body else { panic!("with an offer") };
        channel.send(&[&open.header[..], &offer[..len]].concat()).expect("room");
        let opened = channel.recv().expect("terms").inline().to_vec();
        assert!(machine.receive(0, &opened, opened.len() - 16, ()).is_some());
        // It sleeps before the first, and has seven more waiting from then on.
        thread::sleep(Duration::from_millis(20));
        (0..8).for_each(|_| ask(&mut machine, &mut channel));
        let mut woken = Vec::new();
        while woken.len() < 500 {
            let message = channel.recv().expect("replies");
            let bytes = message.inline();
            let packets = match bytes.len() {
                16 => vec![bytes],
                _ => bytes.chunks(18).map(|packet| &packet[2..]).collect(),
            };
            for packet in packets {
                woken.push(packet[1] & 0x40 != 0);
                assert!(machine.receive(0, packet, 0, ()).is_some(), "{packet:?}");
                ask(&mut machine, &mut channel);
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(woken[0], "it was asleep");
        // A machine that is busy may keep this side from asking, and then it sleeps.
        let late = woken[100..].iter().filter(|woken| **woken).count();
        assert!(late < 200, "{late} of 400");
    });
}

/// Gives a session, and executes nothing: what it sends is no packet.
fn chat(endpoint: &mut Endpoint, stop: &AtomicBool) {
    let mut session: Option<(ChannelId, Server<(), ()>)> = None;
    while !stop.load(Ordering::Relaxed) {
        match endpoint.recv_timeout(Duration::from_millis(1)) {
            Some(Event::Incoming(incoming)) => _ = endpoint.accept(incoming, b""),
            Some(Event::Message(from, asked)) if session.is_none() => {
                let identity = Identity { service: SERVICE.into(), incarnation: 1, epoch: 1 };
                let (limits, timers) = (Limits::default(), Timers::default());
                let server = Server::accept(0, asked.inline(), identity, 77, limits, timers);
                let mut server = server.expect("it asks for a session");
                answer(&mut server, endpoint.channel_mut(from).expect("it is open"));
                session = Some((from, server));
            }
            _ => {}
        }
        let channel = session.as_ref().and_then(|(from, _)| endpoint.channel_mut(*from));
        let _ = channel.map(|channel| channel.try_send(b"too short"));
    }
}

fn answer(server: &mut Server<(), ()>, channel: &mut Channel) {
    let opened = server.poll_transmit().expect("an answer");
    let Body::Control(terms, len) = opened.body else { panic!("with terms") };
    channel.send(&[&opened.header[..], &terms[..len]].concat()).expect("room");
}

#[test]
fn a_server_that_says_other_things_does_not_put_a_deadline_off() {
    let address = SHM.address();
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("memory");
    endpoint.listen(&address, ListenOptions::default()).expect("a free name");
    let stop = Arc::new(AtomicBool::new(false));
    let stops = Arc::clone(&stop);
    let chats = thread::spawn(move || chat(&mut endpoint, &stops));
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut connection = Connection::open(&address, of_client(SHM)).expect("a session");
        let deadline = Some(Instant::now() + Duration::from_millis(200));
        let _ = tell.send(connection.call(NULL, b"", How { deadline, ..How::default() }));
    });
    let outcome = told.recv_timeout(Duration::from_secs(15));
    stop.store(true, Ordering::Relaxed);
    chats.join().expect("no panic");
    assert_eq!(outcome, Ok(Outcome::Unknown(Doubt::DeadlinePassed)));
}

//! Connections that are begun, and that nobody waits for; and ports that are listened at no more.

use std::time::{Duration, Instant};

use unet::{ConnectError, Endpoint, Event, Refusal, Wait};

use super::*;

fn endpoint() -> Endpoint {
    Endpoint::new(EndpointOptions::default()).expect("an endpoint")
}

/// One thread has both sides: nobody may wait for the other.
fn connect_within(
    client: &mut Endpoint,
    server: &mut Endpoint,
    mut decide: impl FnMut(&mut Endpoint, unet::Incoming),
) -> Result<ChannelId, ConnectError> {
    loop {
        if let Some(Event::Incoming(incoming)) = server.try_recv() {
            decide(server, incoming);
        }
        match client.recv_timeout(Duration::from_millis(1)) {
            Some(Event::Connected(_, outcome)) => return outcome,
            other => assert!(other.is_none(), "{other:?}"),
        }
    }
}

#[test]
fn one_thread_connects_to_itself_on_this_host_and_over_a_network() {
    let wires = Wires::default();
    let here: Address = format!("shm:begun-{}", std::process::id()).parse().expect("it is valid");
    let (mut client, mut server) = (endpoint(), listening(&wires, 1, Wait::Adaptive));
    server.listen(&here, ListenOptions::default()).expect("the name is free");
    for to in [here, address(1)] {
        let options = ConnectOptions { private: b"me".to_vec(), ..connect_options(&wires) };
        client.begin_connect(&to, options).expect("it is begun");
        let mut far = None;
        let id = connect_within(&mut client, &mut server, |server, incoming| {
            assert_eq!(incoming.private(), b"me");
            far = Some(server.accept(incoming, b"you").expect("accepted"));
            let far = server.channel_mut(far.expect("just accepted")).expect("it is open");
            far.send(b"at once").expect("there is room");
        });
        let id = id.expect("connected");
        assert_eq!(client.channel_mut(id).expect("it is open").private(), b"you");
        let Some(Event::Message(from, message)) = client.recv_timeout(LONG) else {
            panic!("what was sent before the outcome was known is received after it")
        };
        assert_eq!((from, message.inline()), (id, &b"at once"[..]));
    }
}

#[test]
fn a_message_that_comes_with_the_answer_behind_another_channels_is_received() {
    let wires = Wires::default();
    let (mut client, mut server) = (endpoint(), listening(&wires, 1, Wait::Adaptive));
    let mut first_far = None;
    client.begin_connect(&address(1), connect_options(&wires)).expect("it is begun");
    let first = connect_within(&mut client, &mut server, |server, incoming| {
        first_far = Some(server.accept(incoming, b"").expect("accepted"));
    });
    client.begin_connect(&address(1), connect_options(&wires)).expect("it is begun");
    let Some(Event::Incoming(incoming)) = server.recv_timeout(LONG) else { panic!("it asks") };
    let far = server.channel_mut(first_far.expect("accepted")).expect("it is open");
    far.send(b"in front").expect("there is room");
    let second_far = server.accept(incoming, b"").expect("accepted");
    let far = server.channel_mut(second_far).expect("it is open");
    far.send(b"behind").expect("there is room");

    // All three are there at once.
    let mut seen = Vec::new();
    let mut second = None;
    while seen.len() < 2 {
        match client.recv_timeout(LONG) {
            Some(Event::Message(from, message)) => seen.push((from, message.inline().to_vec())),
            Some(Event::Connected(_, connected)) => second = connected.ok(),
            other => panic!("{other:?} after {seen:?}"),
        }
    }
    let expected = [(first.ok(), &b"in front"[..]), (second, b"behind")];
    let seen: Vec<_> = seen.iter().map(|(from, bytes)| (Some(*from), &bytes[..])).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_refusal_and_a_silence_are_told_and_what_was_abandoned_is_not() {
    let wires = Wires::default();
    let (mut client, mut server) = (endpoint(), listening(&wires, 1, Wait::Adaptive));
    client.begin_connect(&address(1), connect_options(&wires)).expect("it is begun");
    let refused = connect_within(&mut client, &mut server, |server, incoming| {
        server.refuse_because(incoming, Refusal::Forbidden);
    });
    assert_eq!(refused, Err(ConnectError::Refused(Refusal::Forbidden)));

    let patience = Duration::from_millis(60);
    let options = ConnectOptions { timeout: patience, ..connect_options(&wires) };
    client.begin_connect(&address(9), options.clone()).expect("it is begun");
    let outcome = client.recv_timeout(LONG);
    assert!(
        matches!(outcome, Some(Event::Connected(_, Err(ConnectError::TimedOut)))),
        "{outcome:?}"
    );
    let attempt = client.begin_connect(&address(9), options).expect("it is begun");
    client.abandon(attempt);
    assert!(client.recv_timeout(2 * patience).is_none());
    let nobody: Address = "shm:nobody-at-all".parse().expect("it is valid");
    let outcome = client.begin_connect(&nobody, connect_options(&wires));
    assert_eq!(outcome.err(), Some(ConnectError::NobodyListens));
}

#[test]
fn a_port_that_is_listened_at_no_more_is_free_when_its_channels_have_ended() {
    let wires = Wires::default();
    let (mut server, id, mut channel) = joined(&wires, 1);
    assert!(server.stop_listening(&address(1)));
    assert!(!server.stop_listening(&address(1)));
    let again = ListenOptions { network: network(&wires), ..ListenOptions::default() };
    assert!(server.listen(&address(1), again.clone()).is_err(), "a channel is still there");
    server.channel_mut(id).expect("it is open").send(b"still").expect("there is room");
    assert_eq!(channel.recv().expect("it is open").inline(), b"still");
    server.close(id);
    assert_eq!(channel.recv().err(), Some(unet::CloseReason::PeerClosed));
    server.listen(&address(1), again).expect("the port is free");
    assert_eq!(server.links().len(), 1);
}

#[test]
fn a_flood_of_messages_does_not_keep_a_client_from_being_heard() {
    let wires = Wires::default();
    let (mut server, id, mut flood) = joined(&wires, 1);
    let mut client = endpoint();
    client.begin_connect(&address(1), connect_options(&wires)).expect("it is begun");
    for messages in 0.. {
        assert!(messages < 1000, "the client is not heard");
        // There is always one more than is taken.
        for _ in 0..2 {
            flood.send(b"x").expect("it is open");
        }
        match server.recv_timeout(LONG) {
            Some(Event::Message(from, _)) => assert_eq!(from, id),
            Some(Event::Incoming(_)) => break,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_thread_that_spins_at_a_device_lets_another_one_use_it() {
    let wires = Wires::default();
    let mut endpoint = listening(&wires, 1, Wait::Spin);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| Channel::connect(&address(1), connect_options(&wires)));
        let Event::Incoming(incoming) = endpoint.recv() else { panic!("a client was to ask") };
        let other = scope.spawn(move || {
            let began = Instant::now();
            assert!((0..2000).all(|_| incoming.limit().is_some()));
            incoming.refuse(5);
            began.elapsed()
        });
        while !client.is_finished() {
            assert!(endpoint.recv_timeout(Duration::from_millis(50)).is_none());
        }
        assert!(client.join().expect("no panic").is_err(), "it was refused");
        assert!(other.join().expect("no panic") < LONG);
    });
}

#[test]
fn a_device_is_maintained_soon_after_a_channel_was_opened_but_not_for_each() {
    let wires = Wires::default();
    let mut server = listening(&wires, 1, Wait::Adaptive);
    for _ in 0..3 {
        let mut channels = Vec::new();
        let (begun, before) = (Instant::now(), wires.maintained());
        for _ in 0..4 {
            channels.push(join(&mut server, &wires, 1).1.expect("connected"));
        }
        // Looks of a millisecond or more: each that lasts longer brings the next maintenance nearer.
        let mut looks = 0;
        while looks < 60 || begun.elapsed() < Duration::from_millis(60) {
            assert!(server.recv_timeout(Duration::from_millis(1)).is_none());
            looks += 1;
        }
        // The server's device alone; the clients' are not looked at.
        let (after, most) = (wires.maintained() - before, begun.elapsed().as_millis() / 5 + 1);
        assert!((3..=most).contains(&after.into()), "{after} times, {most} at most");
        drop(channels);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(250) {
            _ = server.recv_timeout(Duration::from_millis(1));
        }
        let (before, begun) = (wires.maintained(), Instant::now());
        while begun.elapsed() < Duration::from_millis(80) {
            assert!(server.recv_timeout(Duration::from_millis(1)).is_none());
        }
        let (after, most) = (wires.maintained() - before, begun.elapsed().as_millis() / 100 + 1);
        assert!(u128::from(after) <= most, "{after} times, ten times a second at most");
    }
}

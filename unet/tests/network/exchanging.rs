//! What is sent arrives, as it would on one host.

use fbufs::Part;
use unet::{
    Arrival, Channel, ConnectError, Delivery, Endpoint, Event, Offer, Refusal, SendError, Wait,
};

use super::*;

/// The echo server of the crate's documentation, word for word.
fn echo(endpoint: &mut Endpoint) {
    loop {
        match endpoint.recv() {
            Event::Incoming(incoming) => _ = endpoint.accept(incoming, b""),
            Event::Message(from, message) => {
                let Some(channel) = endpoint.channel_mut(from) else { continue };
                let bytes = message.to_vec().expect("nothing is revoked");
                _ = channel.try_send(&bytes);
            }
            Event::Closed(..) => break,
            other => panic!("not to happen: {other:?}"),
        }
    }
}

#[test]
fn messages_of_every_length_come_back_whole_however_the_sides_wait() {
    for (port, wait) in [(1, Wait::Spin), (2, Wait::Adaptive), (3, Wait::Park)] {
        let wires = Wires::default();
        let mut server = listening(&wires, port, wait);
        let server = std::thread::spawn(move || echo(&mut server));
        let mut options = connect_options(&wires);
        options.channel.wait = wait;
        let mut channel = Channel::connect(&address(port), options).expect("connected");
        let limit = channel.limit();
        assert_eq!(limit, 1472 - unet::wire::HEADER_BYTES);
        for len in (0..200).chain([500, 1000, limit - 1, limit]) {
            let sent: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
            channel.send(&sent).expect("there is room");
            let received = channel.recv().expect("it comes back");
            assert_eq!(received.to_vec().expect("nothing is revoked"), sent);
            assert_eq!(received.inline().len(), if len <= unet::MAX_INLINE { len } else { 0 });
        }
        let too_long = vec![0; limit + 1];
        let refused = SendError::TooLarge { len: limit + 1, limit };
        assert_eq!(channel.try_send(&too_long), Err(refused));
        drop(channel);
        server.join().expect("it ends when the client closes");
    }
}

#[test]
fn a_buffer_goes_out_and_comes_in_without_a_copy_with_bytes_and_a_tag_beside_it() {
    let wires = Wires::default();
    let (mut endpoint, id, mut channel) = joined(&wires, 1);
    let mut fbuf = channel.alloc(1000).expect("there are buffers");
    fbuf.fill(7);
    assert!(matches!(channel.try_send_fbuf(9, fbuf.freeze(), b"beside"), Ok(Offer::Taken)));
    let Some(Event::Message(from, mut message)) = endpoint.recv_timeout(LONG) else {
        panic!("a message was to come")
    };
    assert_eq!((from, message.tag(), message.inline()), (id, 9, &b"beside"[..]));
    assert_eq!(message.message().len(), 1000);
    let Some(Part::Own(fbuf)) = message.take_message().pop_part() else { panic!("a buffer") };
    assert!(fbuf.iter().all(|byte| *byte == 7));
    assert_eq!(channel.copied(), 0);
    // And back in the very same buffer.
    let far = endpoint.channel_mut(id).expect("it is open");
    assert!(matches!(far.try_send_fbuf(1, fbuf, &[]), Ok(Offer::Taken)));
    assert_eq!(channel.recv().expect("it comes back").message().len(), 1000);
}

#[test]
fn what_is_in_a_foreign_buffer_is_copied_and_counted() {
    let wires = Wires::default();
    let (mut endpoint, _, mut channel) = joined(&wires, 1);
    let mut pool = unet::Pool::new(unet::PoolOptions::default()).expect("memory");
    let message = pool.message(0, 300, |bytes| bytes.fill(3)).expect("buffers");
    assert!(matches!(channel.try_send_message(4, message, b"x"), Ok(Offer::Taken)));
    let Some(Event::Message(_, message)) = endpoint.recv_timeout(LONG) else { panic!("none") };
    assert_eq!((message.inline(), message.message().len()), (&b"x"[..], 300));
    assert_eq!(channel.copied(), 300);
}

#[test]
fn what_came_over_a_network_is_not_lost_to_who_looks_for_a_peer_s_buffer() {
    let wires = Wires::default();
    let (mut endpoint, _, mut channel) = joined(&wires, 1);
    channel.send(&[7; 1000]).expect("there is room");
    let Some(Event::Message(_, mut message)) = endpoint.recv_timeout(LONG) else { panic!("none") };
    assert!(message.take_fbuf().is_none());
    assert_eq!(message.to_vec(), Ok(vec![7; 1000]));
}

#[test]
fn what_was_posted_waits_for_the_flush_and_comes_in_order() {
    let wires = Wires::default();
    let (mut endpoint, _, mut channel) = joined(&wires, 1);
    for number in 0..20u8 {
        assert_eq!(channel.try_post(0, &[number]), Ok(Offer::Taken));
    }
    assert!(endpoint.recv_timeout(Duration::from_millis(5)).is_none());
    channel.flush();
    let mut message = Delivery::default();
    for number in 0..20u8 {
        endpoint.recv_into(&mut message);
        assert_eq!(message.inline(), [number]);
    }
}

#[test]
fn what_was_posted_goes_out_before_what_is_sent_and_does_not_pile_up() {
    let wires = Wires::default();
    let (mut endpoint, _, mut channel) = joined(&wires, 1);
    let mut message = Delivery::default();
    assert_eq!(channel.try_post(0, &[0]), Ok(Offer::Taken));
    channel.send(&[1]).expect("there is room");
    for number in 0..2u8 {
        endpoint.recv_into(&mut message);
        assert_eq!(message.inline(), [number]);
    }
    for number in 0..100u8 {
        assert_eq!(channel.try_post(0, &[number]), Ok(Offer::Taken));
    }
    // Some went out before anybody asked, the rest wait.
    for number in 0..64u8 {
        endpoint.recv_into(&mut message);
        assert_eq!(message.inline(), [number]);
    }
    assert!(endpoint.recv_timeout(Duration::from_millis(5)).is_none());
    channel.flush();
    for number in 64..100u8 {
        endpoint.recv_into(&mut message);
        assert_eq!(message.inline(), [number]);
    }
}

#[test]
fn what_was_posted_and_forgotten_goes_out_while_its_channel_is_looked_at() {
    let wires = Wires::default();
    let (mut endpoint, _, mut channel) = joined(&wires, 1);
    assert_eq!(channel.try_post(0, &[1]), Ok(Offer::Taken));
    let mut message = Delivery::default();
    // Less than the silence after which the channel asks for its peer.
    for _ in 0..150 {
        assert_eq!(channel.try_recv_into(&mut message), Ok(false));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(matches!(endpoint.recv_into(&mut message), Arrival::Message(_)));
    assert_eq!(message.inline(), [1]);
}

#[test]
fn both_sides_know_each_other_s_private_bytes_and_incarnations() {
    let wires = Wires::default();
    let (mut endpoint, id, channel) = joined(&wires, 1);
    let far = endpoint.channel_mut(id).expect("it is open");
    assert_eq!((channel.private(), far.private()), (&b"you"[..], &b"me"[..]));
    let (own, peer) = channel.incarnations();
    assert_eq!(far.incarnations(), (peer, own));
    assert_eq!(channel.peer_address(), Some("127.0.0.1:1".parse().expect("valid")));
    assert_eq!(channel.credentials().uid, u32::MAX);
}

#[test]
fn channels_of_an_endpoint_share_a_device_and_are_told_apart() {
    let wires = Wires::default();
    let mut server = listening(&wires, 1, Wait::Adaptive);
    let server = std::thread::spawn(move || {
        let mut accepted = 0;
        loop {
            match server.recv() {
                Event::Incoming(incoming) => {
                    accepted += 1;
                    _ = server.accept(incoming, &[accepted]);
                }
                Event::Message(from, message) => {
                    let Some(channel) = server.channel_mut(from) else { continue };
                    channel.send(message.inline()).expect("there is room");
                }
                Event::Closed(..) if server.channels() == 0 => return,
                Event::Closed(..) => {}
                other => panic!("not to happen: {other:?}"),
            }
        }
    });
    let mut client = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    let ids: Vec<ChannelId> = (0..5)
        .map(|_| client.connect(&address(1), connect_options(&wires)).expect("connected"))
        .collect();
    assert_eq!((client.channels(), client.links().len()), (5, 1));
    for round in 0..100u8 {
        for (number, id) in ids.iter().enumerate() {
            let channel = client.channel_mut(*id).expect("it is open");
            channel.send(&[number as u8, round]).expect("there is room");
        }
        for _ in &ids {
            let Event::Message(from, message) = client.recv() else { panic!("a message") };
            let number = ids.iter().position(|id| *id == from).expect("one of them");
            assert_eq!(message.inline(), [number as u8, round]);
        }
    }
    drop(client);
    server.join().expect("no panic");
}

#[test]
fn one_endpoint_serves_this_host_and_the_network() {
    let wires = Wires::default();
    let mut endpoint = listening(&wires, 1, Wait::Adaptive);
    let name: Address = format!("shm:both-{}", std::process::id()).parse().expect("valid");
    endpoint.listen(&name, unet::ListenOptions::default()).expect("the name is free");
    let server = std::thread::spawn(move || {
        let mut closed = 0;
        while closed < 2 {
            match endpoint.recv() {
                Event::Incoming(incoming) => _ = endpoint.accept(incoming, b""),
                Event::Message(from, message) => {
                    let channel = endpoint.channel_mut(from).expect("it is open");
                    channel.send(message.inline()).expect("there is room");
                }
                Event::Closed(..) => closed += 1,
                other => panic!("not to happen: {other:?}"),
            }
        }
    });
    let mut near = Channel::connect(&name, ConnectOptions::default()).expect("connected");
    let mut far = Channel::connect(&address(1), connect_options(&wires)).expect("connected");
    for round in 0..1000u16 {
        for channel in [&mut near, &mut far] {
            channel.send(&round.to_le_bytes()).expect("there is room");
        }
        for channel in [&mut near, &mut far] {
            assert_eq!(channel.recv().expect("it comes back").inline(), round.to_le_bytes());
        }
    }
    drop((near, far));
    server.join().expect("no panic");
}

#[test]
fn a_refused_client_learns_why_also_when_the_answer_was_lost() {
    let wires = Wires::default();
    let mut endpoint = listening(&wires, 1, Wait::Adaptive);
    let mut lost = 0;
    wires.decide(move |_, to, bytes| {
        // The first answer of the listener is lost.
        let is_answer = to.port() != 1;
        lost += u32::from(is_answer);
        if is_answer && lost == 1 { vec![] } else { vec![bytes] }
    });
    let outcome = std::thread::scope(|scope| {
        let client = scope.spawn(|| Channel::connect(&address(1), connect_options(&wires)));
        let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(LONG) else { panic!("none") };
        endpoint.refuse(incoming, 77);
        while !client.is_finished() {
            assert!(endpoint.recv_timeout(Duration::from_millis(5)).is_none(), "asked once only");
        }
        client.join().expect("no panic")
    });
    assert_eq!(outcome.err(), Some(ConnectError::Refused(Refusal::Application(77))));
}

#[test]
fn every_packet_of_a_handshake_may_be_lost_or_doubled() {
    for lost in 0..4 {
        let wires = Wires::default();
        let mut seen = 0;
        wires.decide(move |_, _, bytes| {
            seen += 1;
            if seen - 1 == lost { vec![] } else { vec![bytes.clone(), bytes] }
        });
        let (mut endpoint, id, mut channel) = joined(&wires, 1);
        assert_eq!(endpoint.channels(), 1, "a hello that came twice makes one channel");
        wires.decide(|_, _, bytes| vec![bytes.clone(), bytes]);
        channel.send(b"one").expect("there is room");
        let Some(Event::Message(from, message)) = endpoint.recv_timeout(LONG) else {
            panic!("a message")
        };
        assert_eq!((from, message.inline()), (id, &b"one"[..]));
        assert!(endpoint.recv_timeout(Duration::from_millis(20)).is_none(), "it came twice");
    }
}

#[test]
fn an_address_without_a_driver_or_a_host_says_so() {
    let without = Channel::connect(&address(1), ConnectOptions::default());
    let no_driver = ConnectError::Open(unet::device::OpenError::NoDriver);
    assert_eq!(without.err(), Some(no_driver));
    let wires = Wires::default();
    let nowhere: Address = "wires:nowhere.invalid:1".parse().expect("it is valid");
    let unknown = Channel::connect(&nowhere, connect_options(&wires));
    assert_eq!(unknown.err(), Some(ConnectError::UnknownHost));
    let silent = ConnectOptions { timeout: Duration::from_millis(50), ..connect_options(&wires) };
    assert_eq!(Channel::connect(&address(9), silent).err(), Some(ConnectError::TimedOut));
}

#[test]
fn what_was_sent_and_received_stands_in_the_page_at_once_for_whoever_asks_after_a_kill() {
    let wires = Wires::default();
    let (mut endpoint, id, mut channel) = joined(&wires, 1);
    for count in 1..=3 {
        channel.send(b"counted").expect("there is room");
        let page = unet::Snapshot::read(channel.segment()).expect("a page");
        assert_eq!(page.get(unet::Counter::Sent), count);
        assert!(matches!(endpoint.recv_timeout(LONG), Some(Event::Message(..))));
        let there = endpoint.channel_mut(id).expect("open").segment();
        let page = unet::Snapshot::read(there).expect("a page");
        assert_eq!(page.get(unet::Counter::Received), count);
    }
}

#[test]
fn an_address_may_be_written_in_more_than_one_way() {
    let wires = Wires::default();
    let mut endpoint = listening(&wires, 1, Wait::Adaptive);
    let mapped: Address = "wires:[::ffff:127.0.0.1]:1".parse().expect("it is valid");
    let options = ConnectOptions { timeout: Duration::from_secs(1), ..connect_options(&wires) };
    std::thread::scope(|scope| {
        let client = scope.spawn(|| Channel::connect(&mapped, options));
        let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(LONG) else { panic!("none") };
        endpoint.accept(incoming, b"").expect("accepted");
        client.join().expect("no panic").expect("connected");
    });
}

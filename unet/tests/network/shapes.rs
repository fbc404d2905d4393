//! Devices of every shape: with several pieces a datagram, and such as no channel can use.

use unet::device::OpenError;
use unet::{Arrival, Counter, Delivery, Event, ListenError, Message, Offer};

use super::wires::Shape;
use super::*;

fn pieces() -> Wires {
    let mut wires = Wires::default();
    wires.mtu = Some(4000);
    wires.shape = Shape { headroom: 64, piece_bytes: 512, pieces: 8 };
    wires
}

#[test]
fn a_message_of_many_pieces_arrives_whole_at_every_edge() {
    let wires = pieces();
    let (mut endpoint, _, mut channel) = joined(&wires, 1);
    let limit = channel.limit();
    let edges = [448 - 32, 448 - 32 + 512, limit - 1, limit].into_iter();
    for len in (0..200).chain(edges.flat_map(|edge| [edge - 1, edge, edge.min(limit - 1) + 1])) {
        let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
        channel.send(&bytes).expect("there is room");
        let Some(Event::Message(_, message)) = endpoint.recv_timeout(LONG) else { panic!("none") };
        assert_eq!(message.to_vec(), Ok(bytes), "{len}");
    }
    let over = channel.try_send(&vec![0; limit + 1]);
    assert_eq!(over, Err(unet::SendError::TooLarge { len: limit + 1, limit }));
}

#[test]
fn what_is_pushed_out_of_a_full_queue_is_pushed_out_whole() {
    let wires = pieces();
    let (mut endpoint, _, mut channel) = joined(&wires, 1);
    wires.set_down(true);
    let body = vec![7; 1200];
    let mut taken = 0;
    while channel.try_send(&body).expect("it may come back") == Offer::Taken {
        taken += 1;
    }
    // Nothing is heard meanwhile, so that the peer is asked whether it is there.
    let until = std::time::Instant::now() + Duration::from_millis(500);
    while std::time::Instant::now() < until {
        let _ = channel.recv_timeout(Duration::from_millis(20));
    }
    assert!(channel.counters().get(Counter::Probes) > 0);
    wires.set_down(false);
    channel.flush();
    let mut received = 0;
    while let Some(Event::Message(_, message)) = endpoint.recv_timeout(Duration::from_millis(20)) {
        assert_eq!(message.to_vec(), Ok(body.clone()));
        received += 1;
    }
    assert!(received > 0 && received <= taken);
    assert_eq!(endpoint.links()[0].get(Counter::WireMalformed), 0);
}

#[test]
fn a_device_whose_pieces_have_no_room_for_a_header_is_refused() {
    let shapes = [(0, 0, 1), (0, 2048, 0), (64, 63, 1), (64, 64, 1), (0, 31, 16), (2000, 2048, 16)];
    for (headroom, piece_bytes, pieces) in shapes {
        let mut wires = Wires::default();
        wires.shape = Shape { headroom, piece_bytes, pieces };
        let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
        let options = ListenOptions { network: network(&wires), ..ListenOptions::default() };
        let refused = endpoint.listen(&address(1), options);
        let unsupported = matches!(refused, Err(ListenError::Open(OpenError::Unsupported(_))));
        assert!(unsupported, "{refused:?}");
        let options =
            ConnectOptions { timeout: Duration::from_millis(50), ..connect_options(&wires) };
        let refused = Channel::connect(&address(1), options).map(|_| ());
        let unsupported = matches!(refused, Err(ConnectError::Open(OpenError::Unsupported(_))));
        assert!(unsupported, "{refused:?}");
    }
}

#[test]
fn a_message_of_buffers_goes_out_whatever_room_there_is_before_them() {
    let wires = pieces();
    let (mut endpoint, _, mut channel) = joined(&wires, 1);
    for (headroom, beside) in [(0, 0), (0, 40), (0, 56), (100, 0), (8, 41), (8, 1)] {
        for len in [0, 1, 300, 360] {
            let Ok(message) = channel.message(headroom, len, |bytes| bytes.fill(3)) else {
                assert!(headroom + len > 360, "{headroom} {len}");
                continue;
            };
            let inline = vec![5; beside];
            let offer = channel.try_send_message(9, message, &inline).expect("it fits");
            assert!(matches!(offer, Offer::Taken));
            let Some(Event::Message(_, message)) = endpoint.recv_timeout(LONG) else { panic!() };
            assert_eq!((message.inline(), message.tag()), (&inline[..], 9));
            assert_eq!(message.to_vec(), Ok([inline, vec![3; len]].concat()));
        }
    }
    let all = channel.buffers();
    assert_eq!(all.0, all.2, "all are back");
    let big: Message = channel.alloc(100).expect("free").freeze().into();
    assert!(channel.try_send_message(0, big, &[0; 57]).is_err());
}

#[test]
fn a_flood_of_messages_of_many_pieces_fills_no_more_than_its_share_of_the_buffers() {
    let wires = pieces();
    let mut endpoint = listening(&wires, 1, Wait::Adaptive);
    let (_, flood) = join(&mut endpoint, &wires, 1);
    let (quiet_id, quiet) = join(&mut endpoint, &wires, 1);
    let (mut flood, mut quiet) = (flood.expect("connected"), quiet.expect("connected"));
    let body = vec![0; flood.limit() - 400];
    for round in 0..20u8 {
        (0..40).for_each(|_| flood.send(&body).expect("there is room"));
        quiet.send(&[round]).expect("there is room");
        let far = endpoint.channel_mut(quiet_id).expect("it is open");
        let message = far.recv_timeout(LONG).expect("it is open").expect("it is not starved");
        assert_eq!(message.inline(), [round]);
    }
    let (free, all) = endpoint.links()[0].buffers;
    assert!(free >= all - all / 4 - 8, "{free} of {all} are free");
}

#[test]
fn nothing_of_a_message_in_pieces_is_seen_with_the_next_one_of_a_channel_on_this_host() {
    let wires = pieces();
    let (mut remote, _, mut channel) = joined(&wires, 1);
    let here: Address = format!("shm:after-pieces-{}", std::process::id()).parse().expect("valid");
    let mut local = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    local.listen(&here, ListenOptions::default()).expect("the name is free");
    let connect = || Channel::connect(&here, ConnectOptions::default()).expect("connected");
    let mut near = std::thread::scope(|scope| {
        let near = scope.spawn(connect);
        let Some(Event::Incoming(incoming)) = local.recv_timeout(LONG) else { panic!("it asks") };
        local.accept(incoming, b"").expect("accepted");
        near.join().expect("no panic")
    });
    let mut message = Delivery::default();
    channel.send(&[7; 2000]).expect("there is room");
    assert!(matches!(remote.recv_into(&mut message), Arrival::Message(_)));
    assert_eq!(message.len(), 2000);
    near.send(b"short").expect("there is room");
    assert!(matches!(local.recv_into(&mut message), Arrival::Message(_)));
    assert_eq!(message.to_vec().as_deref(), Ok(&b"short"[..]));
}

//! How channels over a network end, and what is counted of them.

use unet::device::DeviceError;
use unet::{CloseReason, Counter, Event, SendError};

use super::*;

fn closed(endpoint: &mut Endpoint) -> (ChannelId, CloseReason) {
    match endpoint.recv_timeout(LONG) {
        Some(Event::Closed(id, reason)) => (id, reason),
        other => panic!("a channel was to end: {other:?}"),
    }
}

#[test]
fn a_peer_that_closes_is_known_to_have_closed_after_everything_it_sent() {
    let wires = Wires::default();
    let (mut endpoint, id, mut channel) = joined(&wires, 1);
    channel.send(b"last").expect("there is room");
    drop(channel);
    let Some(Event::Message(_, message)) = endpoint.recv_timeout(LONG) else { panic!("none") };
    assert_eq!(message.inline(), b"last");
    assert_eq!(closed(&mut endpoint), (id, CloseReason::PeerClosed));
    assert!(endpoint.channel_mut(id).is_none());
    assert_eq!(endpoint.channels(), 0);
}

#[test]
fn a_listener_that_closes_ends_the_client_s_channel() {
    let wires = Wires::default();
    let (mut endpoint, id, mut channel) = joined(&wires, 1);
    endpoint.close(id);
    assert_eq!(channel.recv().err(), Some(CloseReason::PeerClosed));
    assert_eq!(channel.try_send(b"x"), Err(SendError::Closed(CloseReason::PeerClosed)));
    assert_eq!(channel.counters().get(Counter::Closed), 1);
}

#[test]
fn a_peer_that_is_cut_off_is_asked_and_then_given_up() {
    let wires = Wires::default();
    let (mut endpoint, id, mut channel) = joined(&wires, 1);
    // While both are there, silence is no reason.
    assert!(endpoint.recv_timeout(Duration::from_millis(100)).is_none());
    wires.decide(|_, _, _| vec![]);
    assert_eq!(closed(&mut endpoint), (id, CloseReason::PeerSilent));
    assert_eq!(channel.recv().err(), Some(CloseReason::PeerSilent));
    assert!(channel.counters().get(Counter::Probes) > 0);
}

#[test]
fn two_silent_peers_that_are_there_stay_joined() {
    let wires = Wires::default();
    let (mut endpoint, id, channel) = joined(&wires, 1);
    let mut channel = std::thread::scope(|scope| {
        let client = scope.spawn(move || {
            let mut channel = channel;
            assert_eq!(
                channel.recv_timeout(Duration::from_millis(2500)).ok().flatten().map(|_| ()),
                None
            );
            channel
        });
        assert!(endpoint.recv_timeout(Duration::from_millis(2500)).is_none());
        client.join().expect("no panic")
    });
    channel.send(b"still here").expect("it is open");
    assert!(matches!(endpoint.recv_timeout(LONG), Some(Event::Message(from, _)) if from == id));
}

#[test]
fn a_peer_that_was_restarted_says_so() {
    let wires = Wires::default();
    let (endpoint, _, mut channel) = joined(&wires, 1);
    // Its farewell is lost, as when it is killed.
    wires.decide(|_, _, _| vec![]);
    drop(endpoint);
    wires.deliver_all();
    let mut again = listening(&wires, 1, Wait::Adaptive);
    channel.send(b"do you know me?").expect("there is room");
    let reason = std::thread::scope(|scope| {
        let client = scope.spawn(|| channel.recv().err());
        while !client.is_finished() {
            assert!(again.recv_timeout(Duration::from_millis(5)).is_none());
        }
        client.join().expect("no panic")
    });
    assert_eq!(reason, Some(CloseReason::PeerRestarted));
    assert_eq!(again.links()[0].get(Counter::WireUnknown), 1);
}

#[test]
fn a_device_that_is_down_holds_messages_back_and_goes_on_when_it_is_up() {
    let wires = Wires::default();
    let (mut endpoint, _, mut channel) = joined(&wires, 1);
    wires.set_down(true);
    let mut taken = 0;
    while channel.try_send(b"x").expect("it may come back") == unet::Offer::Taken {
        taken += 1;
        assert!(taken <= 1000, "there is a bound");
    }
    assert!(taken > 0);
    wires.set_down(false);
    channel.flush();
    for _ in 0..taken {
        assert!(matches!(endpoint.recv_timeout(LONG), Some(Event::Message(..))));
    }
    assert_eq!(endpoint.channels(), 1);
}

#[test]
fn a_device_that_is_gone_ends_every_channel_over_it() {
    let wires = Wires::default();
    let (mut endpoint, id, mut channel) = joined(&wires, 1);
    wires.take_away();
    let gone = CloseReason::DeviceFailed(DeviceError::Gone);
    assert_eq!(closed(&mut endpoint), (id, gone));
    assert_eq!(channel.recv().err(), Some(gone));
}

#[test]
fn what_nobody_took_is_counted_when_the_channel_closes() {
    let wires = Wires::default();
    let (mut endpoint, id, mut channel) = joined(&wires, 1);
    for _ in 0..3 {
        channel.send(b"x").expect("there is room");
    }
    let Some(Event::Message(..)) = endpoint.recv_timeout(LONG) else { panic!("none") };
    endpoint.close(id);
    let link = &endpoint.links()[0];
    assert_eq!((link.get(Counter::LostAtClose), link.get(Counter::Received)), (2, 3));
}

#[test]
fn the_farewell_says_what_was_lost_at_the_end() {
    let wires = Wires::default();
    let (mut endpoint, id, mut channel) = joined(&wires, 1);
    channel.send(b"first").expect("there is room");
    wires.decide(|_, _, _| vec![]);
    for _ in 0..5 {
        channel.send(b"lost").expect("there is room");
    }
    wires.deliver_all();
    assert!(matches!(endpoint.recv_timeout(LONG), Some(Event::Message(..))));
    drop(channel);
    assert_eq!(closed(&mut endpoint), (id, CloseReason::PeerClosed));
    let link = &endpoint.links()[0];
    assert_eq!((link.get(Counter::Received), link.get(Counter::WireLost)), (1, 5));
}

#[test]
fn what_the_network_loses_is_counted_to_the_message() {
    let wires = Wires::default();
    let (mut endpoint, id, mut channel) = joined(&wires, 1);
    let mut number = 0u32;
    wires.decide(move |_, _, bytes| {
        number += 1;
        if number.is_multiple_of(7) { vec![] } else { vec![bytes] }
    });
    let mut received = 0;
    for _ in 0..700 {
        channel.send(b"x").expect("there is room");
        while let Some(Event::Message(..)) = endpoint.try_recv() {
            received += 1;
        }
    }
    wires.deliver_all();
    channel.send(b"last").expect("there is room");
    while let Some(Event::Message(..)) = endpoint.recv_timeout(Duration::from_millis(20)) {
        received += 1;
    }
    let far = endpoint.channel_mut(id).expect("it is open");
    assert_eq!((received, far.counters().get(Counter::WireLost)), (601, 100));
}

#[test]
fn what_a_farewell_overtakes_is_counted_once() {
    let wires = Wires::default();
    let (mut endpoint, id, mut channel) = joined(&wires, 1);
    let kept = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = kept.clone();
    wires.decide(move |from, to, bytes| {
        keep.lock().expect("no panic").push((from, to, bytes));
        vec![]
    });
    for _ in 0..3 {
        channel.send(b"late").expect("there is room");
    }
    wires.deliver_all();
    drop(channel);
    while endpoint.channel_mut(id).is_some_and(|channel| channel.closed().is_none()) {
        // It receives alone, so that the endpoint does not let go of the channel yet.
        let _ = endpoint.channel_mut(id).map(|channel| channel.try_recv());
    }
    for (from, to, bytes) in kept.lock().expect("no panic").drain(..) {
        wires.forge(from, to, &bytes);
    }
    let _ = endpoint.channel_mut(id).map(|channel| channel.try_recv());
    let link = &endpoint.links()[0];
    let counters = endpoint.channel_mut(id).expect("held").counters();
    let of = |counter| counters.get(counter);
    assert_eq!((of(Counter::WireLost), link.get(Counter::WireForeign)), (0, 0));
    assert_eq!((of(Counter::Received), of(Counter::LostAtClose)), (3, 3));
}

#[test]
fn an_endpoint_connects_and_listens_again_after_its_device_was_gone() {
    let wires = Wires::default();
    let mut far = listening(&wires, 1, Wait::Adaptive);
    let mut near = listening(&wires, 2, Wait::Adaptive);
    let connect = |near: &mut Endpoint, far: &mut Endpoint| {
        std::thread::scope(|scope| {
            let client = scope.spawn(|| near.connect(&address(1), connect_options(&wires)));
            while !client.is_finished() {
                if let Some(Event::Incoming(it)) = far.recv_timeout(Duration::from_millis(2)) {
                    far.accept(it, b"").expect("accepted");
                }
            }
            client.join().expect("no panic")
        })
    };
    connect(&mut near, &mut far).expect("connected");
    wires.take_away();
    closed(&mut near);
    closed(&mut far);
    for endpoint in [&mut near, &mut far] {
        // Each of its devices is looked at.
        assert!(endpoint.recv_timeout(Duration::from_millis(5)).is_none());
        assert!(endpoint.links().iter().all(|link| link.failed == Some(DeviceError::Gone)));
    }
    wires.bring_back();
    let options = ListenOptions { network: network(&wires), ..ListenOptions::default() };
    far.listen(&address(1), options).expect("the port is free again");
    assert_eq!(far.links().len(), 1);
    connect(&mut near, &mut far).expect("connected");
    assert!(near.links().iter().all(|link| link.failed.is_none()));
}

#[test]
fn a_patience_of_many_years_is_not_one_of_none() {
    let wires = Wires::default();
    // As many periods of a tenth of a second as there are numbers of 32 bits.
    let silence = Duration::from_millis((1 << 32) * 100);
    let options = NetworkOptions { silence, ..network(&wires) };
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    let listen = ListenOptions { network: options, ..ListenOptions::default() };
    endpoint.listen(&address(1), listen).expect("the port is free");
    let (_, channel) = join(&mut endpoint, &wires, 1);
    let _channel = channel.expect("connected");
    let other = endpoint.recv_timeout(Duration::from_millis(700));
    assert!(other.is_none(), "{other:?}");
}

#[test]
fn what_the_device_did_not_take_before_the_channel_closed_is_counted() {
    let wires = Wires::default();
    let (mut endpoint, id, _channel) = joined(&wires, 1);
    let near = endpoint.channel_mut(id).expect("it is open");
    near.send(b"this goes out").expect("there is room");
    wires.set_down(true);
    for _ in 0..5 {
        near.send(b"and these do not").expect("they may wait");
    }
    endpoint.close(id);
    let link = &endpoint.links()[0];
    assert_eq!((link.get(Counter::Sent), link.get(Counter::LostAtClose)), (6, 5));
}

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

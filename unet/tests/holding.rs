//! Channels that are held: what the peer sends waits with the peer, and nothing is lost; farewells.

mod support;

use support::{PATIENCE, address, event, join, listening};
use unet::{CloseReason, Event, Offer, Wait};

#[test]
fn what_is_sent_on_a_held_channel_waits_until_it_is_released() {
    for wait in support::WAITS {
        let address = address("held");
        let mut endpoint = listening(&address, wait);
        let (id, mut client) = join(&mut endpoint, &address, wait);
        endpoint.hold(id);
        assert_eq!(endpoint.channels(), 1);
        let mut sent = 0;
        while client.try_send(&[sent]).expect("it is open") == Offer::Taken {
            sent += 1;
        }
        assert!(endpoint.recv_timeout(std::time::Duration::from_millis(30)).is_none());
        drop(client);
        assert!(endpoint.recv_timeout(std::time::Duration::from_millis(30)).is_none());
        endpoint.release(id);
        endpoint.release(id);
        for number in 0..sent {
            let Event::Message(from, message) = event(&mut endpoint) else { panic!("a message") };
            assert_eq!((from, message.inline()), (id, &[number][..]));
        }
        assert!(matches!(event(&mut endpoint), Event::Closed(closed, _) if closed == id));
        assert_eq!(endpoint.channels(), 0);
    }
}

#[test]
fn a_held_channel_can_be_closed_and_others_go_on() {
    let address = address("held-closed");
    let mut endpoint = listening(&address, Wait::Adaptive);
    let (held, mut one) = join(&mut endpoint, &address, Wait::Adaptive);
    let (other, mut two) = join(&mut endpoint, &address, Wait::Adaptive);
    endpoint.hold(held);
    one.send(b"waits").expect("there is room");
    two.send(b"goes on").expect("there is room");
    let Event::Message(from, _) = event(&mut endpoint) else { panic!("a message") };
    assert_eq!(from, other);
    endpoint.close(held);
    assert_eq!(endpoint.channels(), 1);
    assert!(one.recv_timeout(PATIENCE).is_err());
}

#[test]
fn the_end_of_a_held_channel_does_not_keep_its_owner_awake() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let address = address("held-ended");
    let mut endpoint = listening(&address, Wait::Park);
    let (id, client) = join(&mut endpoint, &address, Wait::Park);
    endpoint.hold(id);
    drop(client);
    assert!(endpoint.recv_timeout(std::time::Duration::from_millis(20)).is_none());
    assert!(endpoint.arm(), "there is nothing to be received");
    let mut watched = [PollFd::new(&endpoint, PollFlags::IN)];
    let short = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    assert_eq!(poll(&mut watched, Some(&short)), Ok(0), "its owner is kept awake");
    endpoint.release(id);
    assert!(matches!(event(&mut endpoint), Event::Closed(closed, _) if closed == id));
}

#[test]
fn a_farewell_says_why_where_a_hang_up_alone_would_not() {
    for reason in [CloseReason::Forbidden, CloseReason::PeerSilent, CloseReason::PeerRestarted] {
        let address = address("farewell");
        let mut endpoint = listening(&address, Wait::Adaptive);
        let (id, mut client) = join(&mut endpoint, &address, Wait::Adaptive);
        endpoint.channel_mut(id).expect("open").send(b"last").expect("there is room");
        endpoint.close_because(id, reason);
        assert_eq!(client.recv().expect("it was sent before").inline(), b"last");
        assert_eq!(client.recv().err(), Some(reason));
    }
}

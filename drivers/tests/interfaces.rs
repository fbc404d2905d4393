//! What happens to channels when interfaces, addresses and hosts change or go.

mod pair;

use std::time::{Duration, Instant};

use pair::{
    Client, Echo, GENERIC, NATIVE, PATIENCE, SILENCE, UDP, WAYS, Way, in_host, in_lab,
    join_hosts_by_switch, run,
};
use unet::device::DeviceError;
use unet::{CloseReason, Event, Offer, SendError};

/// Headers of IPv4 and UDP, and U-Net's.
const HEADERS: usize = 28 + 32;

fn joined(way: Way, test: impl FnOnce(&Echo, &mut Client) + Send) {
    in_lab(|| {
        let echo = Echo::start(way.0);
        let mut client = Client::connect(way.1);
        client.expect_echo(100);
        test(&echo, &mut client);
    });
}

/// Waits for the channel's end.
fn end(client: &mut Client) -> CloseReason {
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < PATIENCE, "it was to end");
        match client.endpoint.recv_timeout(Duration::from_millis(10)) {
            Some(Event::Closed(_, reason)) => return reason,
            None | Some(Event::Message(..)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_channel_survives_either_end_going_down_and_up() {
    for way in WAYS {
        joined(way, |_, client| {
            for host in ["a", "b", "a"] {
                run(&format!("ip -n lab-{host} link set lab-{host}0 down"));
                client.idle(Duration::from_millis(250));
                assert!(
                    !client.call(100, Duration::from_millis(50)),
                    "{way:?}: nothing is carried"
                );
                run(&format!("ip -n lab-{host} link set lab-{host}0 up"));
                client.expect_echo(1000);
            }
        });
    }
}

#[test]
fn an_interface_that_is_down_pushes_back() {
    for way in [GENERIC, NATIVE] {
        joined(way, |_, client| {
            run("ip -n lab-a link set lab-a0 down");
            client.idle(Duration::from_millis(250));
            let mut taken = 0;
            while client.channel().try_send(&[7; 100]) == Ok(Offer::Taken) {
                taken += 1;
                assert!(taken <= 64, "more is taken than may wait");
            }
            assert_eq!(client.channel().try_send(&[7; 100]), Ok(Offer::Full(())), "{way:?}");
            run("ip -n lab-a link set lab-a0 up");
            client.expect_echo(100);
        });
    }
}

/// The peer is heard, and then no more: the channel ends, and not before the silence was long enough.
fn end_by_silence(way: Way, client: &mut Client, silence: &str) {
    let begin = Instant::now();
    client.expect_echo(100);
    run(silence);
    assert_eq!(end(client), CloseReason::PeerSilent, "{way:?}");
    assert!(begin.elapsed() >= SILENCE, "{way:?} {:?}", begin.elapsed());
}

#[test]
fn a_deleted_interface_ends_its_channels_at_once() {
    for way in [GENERIC, NATIVE] {
        joined(way, |_, client| {
            run("ip -n lab-a link del lab-a0");
            // Later, it would be silence.
            assert_eq!(end(client), CloseReason::DeviceFailed(DeviceError::Gone), "{way:?}");
        });
    }
}

#[test]
fn a_deleted_interface_below_the_kernels_sockets_is_silence() {
    joined(UDP, |_, client| end_by_silence(UDP, client, "ip -n lab-a link del lab-a0"));
}

#[test]
fn a_peer_without_a_carrier_is_silent() {
    for way in WAYS {
        joined(way, |_, client| {
            end_by_silence(way, client, "ip -n lab-b link set lab-b0 down");
        });
    }
}

#[test]
fn a_peer_whose_host_is_gone_is_silent() {
    for way in WAYS {
        join_hosts_by_switch();
        in_host(|| {
            let echo = Echo::start(way.0);
            let mut client = Client::connect(way.1);
            end_by_silence(way, &mut client, "ip -n lab-b link del lab-b0");
            let at = client.link();
            assert_eq!((at.failed, at.channels), (None, 0), "its own device is as it was");
            drop(echo);
        });
    }
}

#[test]
fn a_changed_mtu_changes_the_limit_and_the_channel_goes_on() {
    for way in WAYS {
        joined(way, |_, client| {
            assert_eq!(client.channel().limit(), 1500 - HEADERS, "{way:?}");
            client.expect_echo(1500 - HEADERS);
            run("ip -n lab-a link set lab-a0 mtu 1000");
            client.idle(Duration::from_millis(500));
            let limit = 1000 - HEADERS;
            assert_eq!(client.channel().limit(), limit, "{way:?}");
            let refused = client.channel().try_send(&vec![1; limit + 1]);
            assert_eq!(refused, Err(SendError::TooLarge { len: limit + 1, limit }));
            client.expect_echo(limit);
            run("ip -n lab-a link set lab-a0 mtu 1500");
            client.idle(Duration::from_millis(500));
            assert_eq!(client.channel().limit(), 1500 - HEADERS, "{way:?}");
            client.expect_echo(1500 - HEADERS);
        });
    }
}

#[test]
fn a_channel_survives_that_an_address_goes_and_comes_back() {
    for way in WAYS {
        for host in ["a", "b"] {
            joined(way, |_, client| {
                let last = if host == "a" { 1 } else { 2 };
                let address = format!("10.77.0.{last}/24 dev lab-{host}0");
                run(&format!("ip -n lab-{host} address del {address}"));
                client.idle(Duration::from_millis(300));
                _ = client.call(100, Duration::from_millis(50));
                run(&format!("ip -n lab-{host} address add {address}"));
                client.expect_echo(1000);
            });
        }
    }
}

#[test]
fn a_peer_that_moved_to_another_address_is_silent() {
    for way in WAYS {
        joined(way, |_, client| {
            run("ip -n lab-b address del 10.77.0.2/24 dev lab-b0");
            run("ip -n lab-b address add 10.77.0.99/24 dev lab-b0");
            assert_eq!(end(client), CloseReason::PeerSilent, "{way:?}");
        });
    }
}

#[test]
fn an_endpoint_whose_interface_was_deleted_connects_anew_when_it_is_there_again() {
    for way in [GENERIC, NATIVE] {
        joined(way, |_, client| {
            run("ip -n lab-a link del lab-a0");
            assert_eq!(end(client), CloseReason::DeviceFailed(DeviceError::Gone), "{way:?}");
            pair::join_hosts();
            let _echo = Echo::start(&way.0.replace("9000", "9001"));
            client.reconnect(&way.1.replace("9000", "9001"));
            client.expect_echo(100);
        });
    }
}

//! Destinations: opened, changed, gone.

use unet::device::{Datagrams, Device, DeviceError, FramedOptions, Route};

use super::*;

#[test]
fn only_what_can_be_reached_is_opened() {
    let mut device = device(options());
    let refused = ["192.0.2.9:9", "255.255.255.255:9", "224.0.0.1:9", "0.0.0.0:9", "192.0.2.2:0"];
    for to in refused.iter().chain(&["[ff02::1]:9", "[::]:9", "[2001:db8::9]:9"]) {
        assert_eq!(device.open(at(to)), Err(DeviceError::Unreachable), "{to}");
    }
    let to = device.open(at("[::ffff:192.0.2.2]:9")).expect("it is an address of IPv4");
    send(&mut device, to, b"x");
    assert_eq!(sent(&mut device)[12..14], [8, 0]);
}

#[test]
fn a_neighbour_that_has_not_answered_is_asked_again() {
    let mut device = device(options());
    let to = at(THEIRS4);
    let route = device.routes().routes.insert(to.ip(), Err(DeviceError::Unresolved));
    assert_eq!(device.open(to), Err(DeviceError::Unresolved));
    device.routes().routes.extend(route.map(|route| (to.ip(), route)));
    assert!(device.open(to).is_ok());
}

#[test]
fn no_more_destinations_are_opened_than_may_be() {
    let mut device = device(FramedOptions { destinations: 2, ..options() });
    let first = device.open(at(THEIRS4)).expect("there is room");
    device.open(at(THEIRS4)).expect("there is room");
    assert_eq!(device.open(at(THEIRS4)), Err(DeviceError::TooManyDestinations));
    device.close(first);
    assert!(device.open(at(THEIRS6)).is_ok());
}

#[test]
fn a_neighbour_that_vanished_is_counted_and_one_that_moved_is_followed() {
    let mut device = device(options());
    let to = device.open(at(THEIRS4)).expect("there is a way");
    let route = Route { source: ip(V4), mac: [2, 0, 0, 0, 0, 9], mtu: 1400 };
    for (answer, vanished) in [(DeviceError::Unresolved, 1), (DeviceError::Unreachable, 2)] {
        device.routes().routes.insert(at(THEIRS4).ip(), Err(answer));
        device.maintain().expect("the device is up");
        assert!(send(&mut device, to, b"x").is_empty());
        assert_eq!(counted(&mut device), [("unresolved", vanished)]);
        assert_eq!(device.max_payload(to), 1472, "as it was last");
    }
    device.routes().routes.insert(at(THEIRS4).ip(), Ok(route));
    device.maintain().expect("the device is up");
    send(&mut device, to, b"x");
    assert_eq!(sent(&mut device)[..6], route.mac);
    assert_eq!(device.max_payload(to), 1372);
}

#[test]
fn a_way_or_a_device_that_carries_less_is_respected() {
    let mut device = device(options());
    let to = device.open(at(THEIRS4)).expect("there is a way");
    let route = Route { source: ip(V4), mac: THEIRS, mtu: 600 };
    device.routes().routes.insert(at(THEIRS4).ip(), Ok(route));
    device.maintain().expect("the device is up");
    assert_eq!(device.max_payload(to), 572);
    send(&mut device, to, &[0; 573]);
    send(&mut device, to, &[0; 572]);
    assert_eq!(sent(&mut device).len(), 614);
    assert_eq!(counted(&mut device), [("too-long", 1)]);
    device.device().capabilities.mtu = 500;
    device.maintain().expect("the device is up");
    assert_eq!((device.max_payload(to), device.capabilities().mtu), (472, 472));
    // A way that is said to carry next to nothing carries nothing; it is not a fault.
    for mtu in [0, 20, 28, usize::MAX] {
        device.routes().routes.insert(at(THEIRS4).ip(), Ok(Route { mtu, ..route }));
        device.maintain().expect("the device is up");
        assert!(device.max_payload(to) <= 472);
        send(&mut device, to, b"");
    }
}

#[test]
fn a_piece_that_holds_less_than_the_mtu_is_respected() {
    let mut device = device(options());
    device.device().capabilities.mtu = 9000;
    device.routes().routes.values_mut().flatten().for_each(|route| route.mtu = 9000);
    device.maintain().expect("the device is up");
    let to = device.open(at(THEIRS4)).expect("there is a way");
    assert_eq!(device.max_payload(to), wire::BUFFER - 42);
}

#[test]
fn looking_again_is_bounded_and_every_destination_has_its_turn() {
    let mut device = device(FramedOptions { destinations: 1000, ..options() });
    for _ in 0..1000 {
        device.open(at(THEIRS4)).expect("there is room");
    }
    device.routes().asked = 0;
    device.maintain().expect("the device is up");
    let quiet = device.routes().asked;
    assert!((1..=8).contains(&quiet));
    device.routes().changed = true;
    let mut calls = 0;
    while device.routes().asked < 1000 + quiet {
        let before = device.routes().asked;
        device.maintain().expect("the device is up");
        assert!(device.routes().asked - before <= 64);
        calls += 1;
        assert!(calls < 20, "a change is followed soon");
    }
}

#[test]
fn an_interface_that_is_gone_is_reported_by_everything_that_sends() {
    let mut device = device(options());
    let to = device.open(at(THEIRS4)).expect("there is a way");
    device.routes().state = Some(DeviceError::Gone);
    assert_eq!(device.maintain(), Err(DeviceError::Gone));
    let fbuf = payload(&mut device, b"x");
    let mut out = VecDeque::from([Outgoing { to, piece: Piece::whole(fbuf) }]);
    assert_eq!(device.transmit(&mut out), Err(DeviceError::Gone));
    assert_eq!(out.len(), 1);
}

#[test]
fn an_address_that_the_host_has_lost_is_not_used_until_it_is_back() {
    let mut device = device(FramedOptions { local: Some(ip(V4)), ..options() });
    let to = device.open(at(THEIRS4)).expect("there is a way");
    device.routes().local = vec![ip(V6)];
    device.routes().changed = true;
    device.maintain().expect("the device is up");
    assert!(send(&mut device, to, b"x").is_empty());
    assert!(receive(&mut device, &[frame(THEIRS4, b"x")]).is_empty());
    assert_eq!(counted(&mut device), [("unresolved", 1), ("foreign", 1)]);
    assert_eq!(device.open(at(THEIRS4)), Err(DeviceError::Unreachable));
    device.routes().local = vec![ip(V4)];
    device.routes().changed = true;
    device.maintain().expect("the device is up");
    send(&mut device, to, b"x");
    assert_eq!(sent(&mut device)[26..30], [192, 0, 2, 1]);
    assert_eq!(receive(&mut device, &[frame(THEIRS4, b"x")]).len(), 1);
}

#[test]
fn an_address_that_the_host_never_had_is_its_owners_affair() {
    let other = ip("192.0.2.77");
    let mut device = device(FramedOptions { local: Some(other), ..options() });
    device.routes().changed = true;
    device.maintain().expect("the device is up");
    let to = device.open(at(THEIRS4)).expect("there is a way");
    send(&mut device, to, b"x");
    assert_eq!(sent(&mut device)[26..30], [192, 0, 2, 77]);
}

//! A network within a process: time, links, MTU, several receivers, and runs that repeat.

use std::net::SocketAddr;
use std::time::Duration;

use driver_sim::{DeviceOptions, Faults, Frames, Network};
use unet::device::{
    Count, Datagrams, Device, DeviceError, Frames as _, OpenError, Outgoing, Piece, Received,
};

const A: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 1);
const B: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 1);

fn pair(network: &Network) -> (driver_sim::Datagrams, driver_sim::Datagrams) {
    let join = |at| network.datagrams(at, DeviceOptions::default()).expect("it is free");
    (join(A), join(B))
}

fn send(
    device: &mut driver_sim::Datagrams,
    to: SocketAddr,
    bytes: &[u8],
) -> Result<(), DeviceError> {
    let to = device.open(to)?;
    let mut buffer = device.pool().alloc(bytes.len()).expect("one is free");
    buffer.copy_from_slice(bytes);
    let result =
        device.transmit(&mut [Outgoing { to, piece: Piece::whole(buffer.freeze()) }].into());
    device.close(to);
    result
}

fn receive(device: &mut driver_sim::Datagrams) -> Vec<Received> {
    let mut received = Vec::new();
    device.receive(&mut received).expect("it is up");
    received
}

#[test]
fn nothing_arrives_before_its_time() {
    let faults = Faults { delay: Duration::from_millis(3), ..Faults::default() };
    let network = Network::new(1, faults);
    let (mut a, mut b) = pair(&network);
    send(&mut a, B, b"later").expect("it is up");
    assert_eq!(network.next_arrival(), Some(Duration::from_millis(3)));
    network.advance(Duration::from_nanos(2_999_999));
    assert!(receive(&mut b).is_empty());
    network.advance(Duration::from_nanos(1));
    assert_eq!(receive(&mut b).len(), 1);
}

/// What arrived, and when, of a run under faults.
fn run(seed: u64) -> Vec<(Duration, Vec<u8>)> {
    let faults = Faults {
        loss: 0.1,
        duplicate: 0.1,
        corrupt: 0.1,
        delay: Duration::from_micros(5),
        jitter: Duration::from_micros(50),
        ..Faults::default()
    };
    let network = Network::new(seed, faults);
    let (mut a, mut b) = pair(&network);
    let mut arrived = Vec::new();
    for number in 0..300u32 {
        send(&mut a, B, &number.to_be_bytes()).expect("it is up");
        network.advance(Duration::from_micros(7));
        let now = network.now();
        arrived.extend(receive(&mut b).into_iter().map(|one| (now, one.piece.bytes.to_vec())));
    }
    arrived
}

#[test]
fn a_seed_repeats_a_run_and_another_does_not() {
    assert_eq!(run(4), run(4));
    assert_ne!(run(4), run(5));
}

#[test]
fn a_link_that_is_down_is_an_error_there_and_a_loss_elsewhere() {
    let network = Network::new(1, Faults::default());
    let (mut a, mut b) = pair(&network);
    assert!(network.set_link(a.port(), false));
    assert_eq!(send(&mut a, B, b"out"), Err(DeviceError::Down));
    assert_eq!(a.maintain(), Err(DeviceError::Down));
    assert_eq!(a.receive(&mut Vec::new()), Err(DeviceError::Down));
    send(&mut b, A, b"in").expect("its own link is up");
    assert_eq!((network.account().down, a.statistics()[Count::Sent]), (1, 0));
    assert!(network.set_link(a.port(), true));
    assert_eq!(a.maintain(), Ok(()));
    send(&mut b, A, b"in").expect("it is up");
    assert_eq!(receive(&mut a).len(), 1);
}

#[test]
fn a_device_that_is_unplugged_is_gone_and_its_address_free() {
    let network = Network::new(1, Faults::default());
    let (mut a, mut b) = pair(&network);
    assert_eq!(network.datagrams(A, DeviceOptions::default()).err(), Some(OpenError::AddressInUse));
    send(&mut b, A, b"never read").expect("it is up");
    assert!(network.unplug(a.port()));
    assert!(!network.unplug(a.port()));
    assert_eq!(send(&mut a, B, b"out"), Err(DeviceError::Gone));
    assert_eq!(a.arm(), Err(DeviceError::Gone));
    assert_eq!(a.maintain(), Err(DeviceError::Gone));
    send(&mut b, A, b"in").expect("its own link is up");
    let account = network.account();
    assert_eq!((account.nowhere, account.abandoned), (1, 1));
    let _again = network.datagrams(A, DeviceOptions::default()).expect("it is free again");
    drop(a);
    assert!(
        network.datagrams(A, DeviceOptions::default()).is_err(),
        "the old one took nothing away"
    );
}

#[test]
fn a_smaller_mtu_loses_what_is_longer_until_the_device_has_learnt_it() {
    let network = Network::new(1, Faults::default());
    let (mut a, mut b) = pair(&network);
    network.set_mtu(100);
    send(&mut a, B, &[0; 101]).expect("it is up");
    send(&mut a, B, &[0; 100]).expect("it is up");
    assert_eq!((network.account().too_long, receive(&mut b).len()), (1, 1));
    a.maintain().expect("it is up");
    assert_eq!(a.capabilities().mtu, 100);
    send(&mut a, B, &[0; 101]).expect("it is up");
    assert_eq!((a.statistics()[Count::TooLong], network.account().sent), (1, 2));
}

#[test]
fn datagrams_go_to_their_address_only() {
    let network = Network::new(1, Faults::default());
    let (mut a, mut b) = pair(&network);
    send(&mut a, "10.0.0.3:1".parse().expect("it is one"), b"nobody").expect("it is up");
    send(&mut a, "10.0.0.2:2".parse().expect("it is one"), b"nobody").expect("it is up");
    assert_eq!(network.account().nowhere, 2);
    assert_eq!(a.open("[fd00::1]:1".parse().expect("it is one")), Err(DeviceError::Unreachable));
    send(&mut a, B, b"you").expect("it is up");
    assert_eq!(receive(&mut b)[0].from, A);
}

fn frame(device: &mut Frames, to: [u8; 6]) {
    let bytes = [&to[..], &device.mac(), &[0x88, 0xb5], b"hello"].concat();
    let mut buffer = device.pool().alloc(bytes.len()).expect("one is free");
    buffer.copy_from_slice(&bytes);
    device.transmit(&mut [Piece::whole(buffer.freeze())].into()).expect("it is up");
}

#[test]
fn a_frame_for_all_reaches_all_but_its_sender() {
    let network = Network::new(1, Faults::default());
    let join = |number| network.frames([2, 0, 0, 0, 0, number], DeviceOptions::default());
    let mut devices = [1, 2, 3, 4].map(|number| join(number).expect("it is free"));
    frame(&mut devices[0], [0xff; 6]);
    let arrived = devices.each_mut().map(|device| {
        let mut received = Vec::new();
        device.receive(&mut received).expect("it is up");
        received.len()
    });
    assert_eq!(arrived, [0, 1, 1, 1]);
    frame(&mut devices[0], [2, 0, 0, 0, 0, 3]);
    frame(&mut devices[0], [2, 0, 0, 0, 0, 9]);
    let account = network.account();
    assert_eq!((account.sent, account.flooded, account.nowhere, account.carried), (3, 2, 1, 4));
    assert_eq!(join(1).err(), Some(OpenError::AddressInUse));
    let of_several = network.frames([3, 0, 0, 0, 0, 1], DeviceOptions::default());
    assert!(matches!(of_several.err(), Some(OpenError::BadValue(_))));
}

#[test]
fn an_option_that_makes_no_device_is_refused() {
    let network = Network::new(1, Faults::default());
    let good = DeviceOptions::default();
    for options in [
        DeviceOptions { mtu: 9000, ..good },
        DeviceOptions { mtu: usize::MAX, ..good },
        DeviceOptions { stock: 0, ..good },
        DeviceOptions { burst: 0, ..good },
        DeviceOptions { pieces: 0, ..good },
        DeviceOptions { queue: 0, ..good },
        DeviceOptions { buffers: 0, ..good },
        DeviceOptions { buffers: 1 << 20, ..good },
        DeviceOptions { buffer_bytes: 1999, ..good },
    ] {
        let opened = network.datagrams(A, options);
        assert!(matches!(opened.err(), Some(OpenError::BadValue(_))), "{options:?}");
    }
}

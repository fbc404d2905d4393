//! Once a device has been used a while, no packet costs an allocation.

use std::collections::VecDeque;

use driver_sim::{DeviceOptions, Faults, HostDatagrams, Network};
use unet::device::{Datagrams, Outgoing, Piece, Received};

const FAULTS: Faults = Faults {
    loss: 0.01,
    burst: 0.0,
    recover: 0.25,
    burst_loss: 1.0,
    duplicate: 0.05,
    corrupt: 0.05,
    reorder: 0.0,
    late: std::time::Duration::ZERO,
    delay: std::time::Duration::ZERO,
    jitter: std::time::Duration::ZERO,
};

fn exchanges_without_allocating(a: &mut dyn Datagrams, b: &mut dyn Datagrams) {
    let to = a.open(b.local()).expect("it is reachable");
    let mut queue: VecDeque<Outgoing> = VecDeque::with_capacity(64);
    let mut received: Vec<Received> = Vec::with_capacity(64);
    let mut arrived = 0;
    let mut exchange = |packets: usize| {
        for _ in 0..packets {
            let buffer = a.pool().alloc(1400).expect("one is free");
            queue.push_back(Outgoing { to, piece: Piece::whole(buffer.freeze()) });
        }
        while !queue.is_empty() {
            a.transmit(&mut queue).expect("it is up");
            b.receive(&mut received).expect("it is up");
            arrived += received.len();
            for Received { piece, .. } in received.drain(..) {
                b.pool().recycle(piece.bytes.freeze());
            }
        }
    };
    // More at a time than later, so that no fault makes them more than ever.
    (0..500).for_each(|_| exchange(10));
    let cost = allocation_counter::measure(|| (0..500).for_each(|_| exchange(5)));
    assert_eq!(cost.count_total, 0);
    assert!(arrived > 4000, "{arrived}");
}

#[test]
fn a_device_of_this_process_does_not_allocate() {
    let network = Network::new(1, FAULTS);
    let join = |host| {
        network.datagrams(([10, 0, 0, host], 1).into(), DeviceOptions::default()).expect("free")
    };
    exchanges_without_allocating(&mut join(1), &mut join(2));
}

#[test]
fn a_device_of_the_host_does_not_allocate() {
    let name = format!("allocation-{}", std::process::id());
    let join = |host| {
        let local = ([10, 0, 0, host], 1).into();
        HostDatagrams::join(&name, local, 1, FAULTS, DeviceOptions::default()).expect("free")
    };
    exchanges_without_allocating(&mut join(1), &mut join(2));
}

//! How many buffers the kernel has to receive into: few while it is calm, all when many frames may come.

mod support;

use std::collections::VecDeque;

use driver_af_xdp::AfXdp;
use support::{Pair, WAYS, compose, options, receive, send_all, settle};
use unet::device::{Device, Frames};

const BUFFERS: u32 = 1024;
const ALL: usize = BUFFERS as usize / 2;
/// What is said to be few in `docs/src/drivers.md`, and how many frames are a crowd.
const FEW: usize = 128;
const CROWD: usize = 32;

/// Sends a burst, which is received whole, by bursts or one by one.
fn burst(near: &mut AfXdp, far: &mut AfXdp, frames: usize, singly: bool) {
    let mut sent: VecDeque<_> =
        (0..frames).map(|_| compose(near, b"a burst").expect("free")).collect();
    send_all(near, &mut sent);
    if singly {
        for _ in 0..frames {
            let frame = std::iter::repeat_with(|| far.receive_one()).take(1 << 24).flatten().next();
            far.pool().recycle_received(frame.expect("it arrives").freeze());
        }
    } else {
        for piece in receive(far, frames) {
            far.pool().recycle_received(piece.bytes.freeze());
        }
    }
    near.transmit(&mut VecDeque::new()).expect("up");
}

/// How many the kernel has, after a look at nothing.
fn in_stock(device: &mut AfXdp) -> usize {
    let mut none = Vec::new();
    device.receive(&mut none).expect("up");
    assert!(none.is_empty());
    device.pool().total() - device.pool().free()
}

fn become_calm(near: &mut AfXdp, far: &mut AfXdp) {
    for _ in 0..2 {
        far.maintain().expect("up");
    }
    for _ in 0..ALL / (CROWD - 1) {
        burst(near, far, CROWD - 1, false);
    }
    assert_eq!(in_stock(far), FEW);
}

#[test]
fn few_buffers_do_while_it_is_calm_and_all_are_there_for_a_crowd() {
    for way in WAYS {
        let pair = Pair::new();
        let (mut near, mut far) = pair.open(&options(way, BUFFERS));
        assert_eq!((in_stock(&mut far), far.capabilities().stock), (ALL, ALL));
        // A look all the time, but too short a time.
        far.maintain().expect("up");
        burst(&mut near, &mut far, 1, false);
        assert_eq!(in_stock(&mut far), ALL);
        for singly in [false, true] {
            become_calm(&mut near, &mut far);
            // As many come as there are buffers: none is lost, and then there are more.
            burst(&mut near, &mut far, FEW, singly);
            assert_eq!(in_stock(&mut far), ALL);
            burst(&mut near, &mut far, ALL / 2, singly);
        }
        settle(&mut near);
        settle(&mut far);
    }
}

#[test]
fn who_sleeps_leaves_all_buffers_behind() {
    for way in WAYS {
        let pair = Pair::new();
        let (mut near, mut far) = pair.open(&options(way, BUFFERS));
        become_calm(&mut near, &mut far);
        assert_eq!(far.arm(), Ok(true));
        assert_eq!(far.pool().total() - far.pool().free(), ALL);
        // Not calm until it was awake for a whole period.
        far.maintain().expect("up");
        burst(&mut near, &mut far, CROWD - 1, false);
        assert_eq!(in_stock(&mut far), ALL);
        burst(&mut near, &mut far, ALL / 2, true);
    }
}

//! What a device that has been used a while does without: allocation.

use allocation_counter::measure;
use unet::device::{Datagrams, Outgoing, Piece};

use super::*;

#[test]
fn nothing_is_allocated_for_datagrams_whole_or_in_pieces() {
    let mut device = device(options());
    device.device().capabilities.pieces = 4;
    device.maintain().expect("the device is up");
    let to = device.open(at(THEIRS4)).expect("there is a way");
    let mut out = VecDeque::with_capacity(8);
    for round in 0..4 {
        for more in [false, true, false] {
            let bytes = payload(&mut device, b"abc");
            out.push_back(Outgoing { to, piece: Piece { bytes, more } });
        }
        // A full device: what was not taken goes back.
        device.device().room = 0;
        let counted = measure(|| device.transmit(&mut out).expect("the device is up"));
        assert!(round == 0 || counted.count_total == 0, "{counted:?}");
        assert_eq!(out.len(), 3);
        out.clear();
    }
}

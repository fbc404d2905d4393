//! Any words in a send queue and as credit: a cell within its slot, nothing, or a fault.
#![no_main]

use fuzz::{Bytes, segment};
use libfuzzer_sys::fuzz_target;
use segment::geometry::{CREDIT, SEND_QUEUE};
use segment::ring::{Cell, Consumer, Popped, Producer, PushRefusal, SLOT_PAYLOAD};
use segment::scribble::Scribbler;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Bytes(bytes);
    let (own, _own_as_seen) = segment();
    let (peers, peer) = segment();
    let scribbler = Scribbler::over(&peers);
    let mut producer = Producer::attach(&own, &peer);
    let mut consumer = Consumer::attach(&own, &peer);
    let mut received = 0u64;
    for _ in 0..300 {
        if !input.more() {
            break;
        }
        match input.below(4) {
            0 => scribbler.store(SEND_QUEUE + input.below(8 * 64), input.word()),
            // A good sequence with anything below.
            1 => {
                let slot = SEND_QUEUE + (received % 8) as usize * 64;
                scribbler.store(slot, (received + 1) << 32 | input.word() & 0xFFFF_FFFF);
            }
            2 => scribbler.store(CREDIT, input.word() >> input.below(64)),
            _ => match producer.try_push(&Cell::default()) {
                Ok(()) | Err(PushRefusal::Full) => {}
                Err(PushRefusal::Fault(_)) => return,
            },
        }
        let ready = consumer.is_ready();
        let mut cell = Cell::new(0);
        match consumer.try_pop(&mut cell) {
            Ok(Popped::Nothing) => assert!(!ready),
            Ok(Popped::Cell | Popped::CellAndCredit) => {
                assert!(ready && cell.bytes().len() <= SLOT_PAYLOAD);
                assert_eq!(cell.bytes().len(), cell.len());
                received += 1;
            }
            Err(_) => return,
        }
        assert_eq!(consumer.received(), received);
    }
});

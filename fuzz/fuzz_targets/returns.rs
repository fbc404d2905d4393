//! Any words on the free queue, with buffers taken, lent and dropped in between: no buffer is in two
//! places, and none is lost.
#![no_main]

use fbufs::{FbufMut, Pool};
use fuzz::{BUFFERS, Bytes, segment};
use libfuzzer_sys::fuzz_target;
use segment::geometry::FREE_QUEUE;
use segment::scribble::Scribbler;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Bytes(bytes);
    let (mut own, _own_as_seen) = segment();
    let (peers, peer) = segment();
    let scribbler = Scribbler::over(&peers);
    let mut pool = Pool::new(&mut own, &peer);
    let mut held: Vec<(FbufMut, u8)> = Vec::new();
    let mut lent = Vec::new();
    let mut written = 0usize;
    for mark in 1..200u8 {
        if !input.more() {
            break;
        }
        match input.below(6) {
            0 => {
                if let Ok(mut fbuf) = pool.alloc(input.below(5000)) {
                    fbuf.fill(mark);
                    held.push((fbuf, mark));
                }
            }
            1 if !held.is_empty() => {
                let (fbuf, _) = held.swap_remove(input.below(held.len()));
                lent.push(pool.lend(fbuf.freeze()).expect("its own"));
            }
            2 if !held.is_empty() => drop(held.swap_remove(input.below(held.len()))),
            // A return that is good, or was.
            3 if !lent.is_empty() => {
                let descriptor = lent[input.below(lent.len())];
                let sequence = (written as u64 + 1) << 48;
                let word = sequence | descriptor.to_words()[0];
                scribbler.store(FREE_QUEUE + written % 256 * 8, word);
                written += 1;
            }
            4 => {
                let at = if input.below(2) == 0 { written % 256 } else { input.below(256) };
                scribbler.store(FREE_QUEUE + at * 8, input.word());
                written += 1;
            }
            _ => {
                let caught = pool.collect().is_err();
                if caught {
                    pool.reclaim();
                    assert_eq!(pool.lent(), 0);
                }
            }
        }
        assert!(pool.free() + pool.lent() + held.len() <= BUFFERS, "none is in two places");
        for (fbuf, mark) in &held {
            assert!(fbuf.iter().all(|byte| byte == mark), "nobody else wrote to it");
        }
    }
    held.clear();
    // Whatever was found wrong: what the peer has comes back, and what was dropped.
    let _ = pool.collect();
    pool.reclaim();
    assert_eq!((pool.free(), pool.lent(), pool.total()), (BUFFERS, 0, BUFFERS));
});

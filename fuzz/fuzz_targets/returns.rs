//! Any words on the free queue, with buffers taken, shared, lent, revoked and dropped in between: no
//! buffer is in two places, and none is lost.
#![no_main]

use fbufs::{Fbuf, Leases, MAX_LEASES, Part, Path, Pool, Quota};
use fuzz::{BUFFERS, Bytes, segment};
use libfuzzer_sys::fuzz_target;
use segment::geometry::FREE_QUEUE;
use segment::scribble::Scribbler;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Bytes(bytes);
    let (mut own, _own_as_seen) = segment();
    let (peers, peer) = segment();
    let scribbler = Scribbler::over(&peers);
    let mut pool = Pool::in_segment(&mut own);
    let mut leases = Leases::new(&pool, &Path::default(), &peer, Quota::default());
    let mut held: Vec<(Fbuf, u8)> = Vec::new();
    let mut lent = Vec::new();
    let mut written = 0usize;
    for mark in 1..200u8 {
        if !input.more() {
            break;
        }
        match input.below(8) {
            0 => {
                if let Ok(mut fbuf) = pool.alloc(input.below(5000)) {
                    fbuf.fill(mark);
                    held.push((fbuf.freeze(), mark));
                }
            }
            1 if !held.is_empty() => {
                let (fbuf, _) = held.swap_remove(input.below(held.len()));
                lent.push(leases.lend(Part::Own(fbuf)).expect("its own"));
            }
            // Keeps what it lends.
            2 if !held.is_empty() => {
                let (fbuf, _) = &held[input.below(held.len())];
                lent.push(leases.lend(Part::Own(fbuf.clone())).expect("its own"));
            }
            3 if !held.is_empty() => drop(held.swap_remove(input.below(held.len()))),
            // A return that is good, or was.
            4 if !lent.is_empty() => {
                let descriptor = lent[input.below(lent.len())];
                let lease = u64::from(descriptor.lease) | (input.below(2) as u64) << 15;
                let sequence = (written as u64 + 1) << 48;
                let word = sequence | lease << 32 | u64::from(descriptor.generation);
                scribbler.store(FREE_QUEUE + written % 256 * 8, word);
                written += 1;
            }
            5 => {
                let at = if input.below(2) == 0 { written % 256 } else { input.below(256) };
                scribbler.store(FREE_QUEUE + at * 8, input.word());
                written += 1;
            }
            6 => drop(leases.revoke(&mut pool)),
            _ => {
                if leases.collect(&mut pool).is_err() {
                    leases.reclaim(&mut pool);
                    assert_eq!((leases.lent(), leases.lent_bytes()), (0, 0));
                }
            }
        }
        assert!(pool.free() + held.len() <= BUFFERS, "none is in two places");
        assert!(leases.lent() <= MAX_LEASES);
        for (fbuf, mark) in &held {
            assert!(fbuf.iter().all(|byte| byte == mark), "nobody else wrote to it");
        }
    }
    held.clear();
    // Whatever was found wrong: what the peer has comes back, and what was dropped.
    let _ = leases.collect(&mut pool);
    leases.reclaim(&mut pool);
    assert_eq!((pool.free(), leases.lent(), pool.total()), (BUFFERS, 0, BUFFERS));
});

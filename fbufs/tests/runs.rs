//! Adjacent buffers of the largest class as one part of a message: taken, handed over, revoked, freed.

mod support;

use fbufs::{
    AllocError, Descriptor, FbufMut, Message, Part, PeerFbuf, Pool, PoolOptions, ReadError,
    SecureError,
};
use support::{CLASSES, Hop, TOTAL, region};

/// Bytes of a buffer of the largest class, and how many there are.
const LARGEST: (usize, usize) = CLASSES[2];
const TWO: usize = 2 * LARGEST.0;
const ALL: usize = LARGEST.0 * LARGEST.1;

/// A message whose bytes count up.
fn counting(pool: &mut Pool, headroom: usize, len: usize) -> Result<Message, AllocError> {
    let mut next = 0u8;
    pool.message(headroom, len, |part| {
        for byte in part {
            (*byte, next) = (next, next.wrapping_add(1));
        }
    })
}

fn too_large(asked: usize) -> AllocError {
    AllocError::TooLarge { asked, largest: LARGEST.0 }
}

fn count(len: usize) -> Vec<u8> {
    (0..len).map(|at| at as u8).collect()
}

fn part(message: Message) -> Part {
    let mut parts = message.into_parts();
    let part = parts.next().expect("there is one");
    assert!(parts.next().is_none(), "one part");
    part
}

fn hand_over(hop: &mut Hop, len: usize) -> PeerFbuf {
    let message = counting(&mut hop.pool, 0, len).expect("they are free");
    hop.hand_over(part(message))
}

#[test]
fn what_is_larger_than_a_buffer_is_one_part_and_frees_all_its_buffers() {
    let mut pool = region();
    for (headroom, len) in [(0, TWO), (64, TWO), (1, ALL - 1), (0, LARGEST.0 + 1)] {
        let message = counting(&mut pool, headroom, len).expect("they are free");
        assert_eq!((message.parts().len(), message.headroom()), (1, headroom));
        assert_eq!(message.to_vec(), Ok(count(len)));
        assert_eq!(pool.free(), TOTAL - (headroom + len).div_ceil(LARGEST.0));
        drop(message);
        assert_eq!(pool.free(), TOTAL);
    }
    let asked = 2 * ALL;
    let more = pool.message(0, asked, |_| {}).expect_err("there are no more");
    assert_eq!(more, too_large(asked));
    assert_eq!(pool.free(), TOTAL);
}

#[test]
fn what_can_never_be_had_is_too_large_and_what_is_in_use_is_exhausted() {
    let mut pool = region();
    let refused = |pool: &mut Pool, headroom, len| {
        let mut filled = false;
        let refusal = pool.message(headroom, len, |_| filled = true).err();
        assert!(!filled || refusal != Some(too_large(headroom + len)));
        refusal
    };
    // The end of a rope may lie in a smaller buffer, a run and the headroom may not.
    assert_eq!(refused(&mut pool, 0, ALL + 256), None);
    assert_eq!(refused(&mut pool, 64, ALL + 192), None);
    assert_eq!(refused(&mut pool, 0, ALL + 257), Some(too_large(ALL + 257)));
    assert_eq!(refused(&mut pool, LARGEST.0, ALL), Some(too_large(ALL + LARGEST.0)));
    assert_eq!(refused(&mut pool, LARGEST.0 + 1, 10), None);
    let mut pool = region();
    let all: Vec<FbufMut> = (0..LARGEST.1).map(|_| pool.alloc(LARGEST.0).expect("free")).collect();
    let mut all = all.into_iter().map(Some).collect::<Vec<_>>();
    (all[0], all[2]) = (None, None);
    assert_eq!(refused(&mut pool, LARGEST.0 + 1, 10), Some(AllocError::Exhausted), "not adjacent");
    assert_eq!(refused(&mut pool, 0, ALL), Some(AllocError::Exhausted));
}

#[test]
fn a_part_that_no_pool_as_small_can_hold_is_not_secured_for_good() {
    let mut hop = Hop::bare();
    let mut classes = support::classes();
    classes[2].buffers = 1;
    let mut small = Pool::new(PoolOptions { classes, ..PoolOptions::default() }).expect("memory");
    let mut message = Message::from(hand_over(&mut hop, ALL));
    assert_eq!(message.secure(&mut small), Err(SecureError::Alloc(too_large(ALL))));
    assert!(message.is_volatile() && small.free() == small.total());
}

#[test]
fn where_no_buffers_are_adjacent_it_is_a_rope() {
    let mut pool = region();
    let all: Vec<FbufMut> = (0..LARGEST.1).map(|_| pool.alloc(LARGEST.0).expect("free")).collect();
    let mut all = all.into_iter().map(Some).collect::<Vec<_>>();
    (all[0], all[2]) = (None, None);
    let message = counting(&mut pool, 0, TWO).expect("two are free");
    assert_eq!(message.parts().len(), 2);
    assert_eq!(message.to_vec(), Ok(count(TWO)));
    all[1] = None;
    drop(message);
    assert_eq!(counting(&mut pool, 0, ALL).expect("all are free").parts().len(), 1);
}

#[test]
fn a_run_that_came_back_is_taken_apart_and_put_together_again() {
    let mut hop = Hop::bare();
    for _ in 0..3 {
        drop(hand_over(&mut hop, ALL));
        hop.collect();
        let one = hop.pool.alloc(LARGEST.0).expect("free");
        let two = counting(&mut hop.pool, 0, TWO).expect("free");
        assert_eq!((two.parts().len(), hop.pool.free()), (1, TOTAL - LARGEST.1));
        assert_eq!(hop.pool.alloc(LARGEST.0).err(), Some(AllocError::Exhausted));
        drop((one, two));
        assert_eq!(hop.pool.free(), TOTAL);
    }
}

#[test]
fn a_receiver_reads_all_of_a_run_and_parts_of_it() {
    let mut hop = Hop::bare();
    let received = hand_over(&mut hop, ALL);
    assert_eq!(received.to_vec(), Ok(count(ALL)));
    let across = received.slice(LARGEST.0 - 3..LARGEST.0 + 5).expect("within");
    drop(received);
    hop.collect();
    assert_eq!(across.to_vec().expect("not revoked"), count(ALL)[LARGEST.0 - 3..LARGEST.0 + 5]);
    assert_eq!((hop.leases.lent(), hop.pool.free()), (1, TOTAL - LARGEST.1));
    drop(across);
    hop.collect();
    assert_eq!((hop.leases.lent(), hop.pool.free()), (0, TOTAL));
}

#[test]
fn a_run_is_revoked_as_a_whole_and_its_buffers_are_lent_again_one_by_one() {
    let mut hop = Hop::bare();
    let received = hand_over(&mut hop, TWO);
    let second = received.slice(LARGEST.0..TWO).expect("within");
    assert_eq!(hop.leases.revoke(&mut hop.pool), 1);
    assert_eq!(
        (received.to_vec(), second.to_vec()),
        (Err(ReadError::Revoked), Err(ReadError::Revoked))
    );
    assert_eq!(hop.pool.free(), TOTAL);
    let again: Vec<PeerFbuf> = (0..LARGEST.1).map(|_| hand_over(&mut hop, LARGEST.0)).collect();
    for fbuf in again {
        assert_eq!(fbuf.to_vec(), Ok(count(LARGEST.0)));
    }
    assert!(received.is_revoked() && second.is_revoked());
}

#[test]
fn a_run_is_revoked_by_the_name_of_each_of_its_buffers() {
    // Who passes a run on may name it by a buffer within, honest or not.
    for guarded in [false, true] {
        let mut hop = Hop::bare();
        let message = counting(&mut hop.pool, 0, TWO).expect("they are free");
        let Part::Own(fbuf) = part(message) else { panic!("its own") };
        let whole = match guarded {
            true => hop.leases.lend_guarded(fbuf).expect("whole pages"),
            false => hop.leases.lend(Part::Own(fbuf)).expect("it may be lent"),
        };
        let second = Descriptor { index: whole.index + 1, len: LARGEST.0 as u32, ..whole };
        let second = hop.holdings.accept(second).expect("it is within");
        assert_eq!(second.to_vec(), Ok(count(TWO)[LARGEST.0..].to_vec()));
        assert_eq!(hop.leases.revoke(&mut hop.pool), 1);
        assert_eq!(second.to_vec(), Err(ReadError::Revoked));
    }
}

#[test]
fn a_run_is_secured_in_as_many_parts_as_there_is_room_for() {
    let mut hop = Hop::bare();
    let mut pool = region();
    let mut message = Message::from(hand_over(&mut hop, TWO));
    message.append(hop.lend_bytes(&[9; 10]).into());
    let held = pool.alloc(LARGEST.0).expect("free");
    let between = pool.alloc(LARGEST.0).expect("free");
    drop(held);
    assert_eq!(message.clone().secure(&mut pool), Ok(TWO + 10));
    let before = pool.copied();
    assert_eq!(message.secure(&mut pool), Ok(TWO + 10));
    assert_eq!(pool.copied() - before, (TWO + 10) as u64);
    assert_eq!((message.parts().len(), message.is_volatile()), (3, false), "a rope, and the end");
    assert_eq!(message.to_vec().expect("its own"), [count(TWO), vec![9; 10]].concat());
    drop((between, message));
    assert_eq!(pool.free(), TOTAL);
}

#[test]
fn adjacent_buffers_are_one_that_is_written_and_shared() {
    let mut pool = region();
    let mut fbuf = pool.alloc_adjacent(TWO).expect("they are free");
    fbuf.copy_from_slice(&count(TWO));
    let fbuf = fbuf.freeze();
    assert_eq!(fbuf.slice(LARGEST.0 - 1..TWO).expect("within")[..], count(TWO)[LARGEST.0 - 1..]);
    assert!(pool.alloc_adjacent(TWO).is_none(), "one is left");
    assert!(pool.alloc_adjacent(2 * ALL).is_none());
    drop(fbuf);
    assert_eq!(pool.free(), TOTAL);
    assert_eq!(pool.alloc_adjacent(10).expect("they are free").len(), 10);
}

//! Who may read, write and free a buffer that several hold, and what a revocation means to them.

mod support;

use fbufs::{
    AllocError, Fbuf, FbufMut, MAX_LEASES, MAX_REGIONS, Message, Part, Path, PathError, PeerFbuf,
    Pool, Quota, ReadError, SecureError,
};
use support::{Hop, TOTAL, region};

fn filled(pool: &mut Pool, byte: u8, len: usize) -> FbufMut {
    let mut fbuf = pool.alloc(len).expect("one is free");
    fbuf.fill(byte);
    fbuf
}

fn lend(hop: &mut Hop, fbuf: &Fbuf) -> PeerFbuf {
    hop.hand_over(Part::Own(fbuf.clone()))
}

#[test]
fn a_buffer_is_free_when_its_last_slice_and_its_last_lease_are_gone() {
    let mut hop = Hop::bare();
    let mut fbuf = filled(&mut hop.pool, 7, 100).freeze();
    let front = fbuf.split_to(40).expect("it is as long");
    assert_eq!((front.len(), fbuf.len()), (40, 60));
    assert!(fbuf.split_to(61).is_none() && fbuf.len() == 60, "nothing happens");
    let middle = fbuf.slice(10..20).expect("within");
    let received = lend(&mut hop, &middle);
    let part = received.slice(2..5).expect("within");
    for handle in [front, fbuf, middle] {
        assert!(!handle.is_unique());
        drop(handle);
        assert_eq!(hop.pool.free(), TOTAL - 1);
    }
    drop(received);
    hop.collect();
    assert_eq!(hop.pool.free(), TOTAL - 1, "a part of what was received is still held");
    assert_eq!(part.to_vec().expect("not revoked"), [7; 3]);
    drop(part);
    hop.collect();
    assert_eq!((hop.pool.free(), hop.leases.lent()), (TOTAL, 0));
}

#[test]
fn only_who_is_alone_may_write_again() {
    let mut hop = Hop::bare();
    let fbuf = filled(&mut hop.pool, 7, 100).freeze();
    let other = fbuf.clone();
    let fbuf = fbuf.try_into_mut().expect_err("another reads it");
    drop(other);
    let received = lend(&mut hop, &fbuf);
    let fbuf = fbuf.try_into_mut().expect_err("the receiver reads it");
    assert_eq!(received.to_vec().expect("not revoked"), [7; 100]);
    drop(received);
    hop.collect();
    let mut fbuf = fbuf.try_into_mut().expect("alone");
    fbuf.fill(8);
    assert_eq!(&fbuf[..], [8; 100]);
}

#[test]
fn a_header_is_written_before_what_others_share_only_in_another_buffer() {
    let mut hop = Hop::bare();
    let mut fbuf = hop.pool.alloc_with_headroom(16, 4).expect("one is free");
    fbuf.fill(1);
    let mut message = Message::from(fbuf);
    assert_eq!(message.headroom(), 16);
    message.push(&[2; 8]).expect("there is room");
    let clone = message.clone();
    assert_eq!(message.headroom(), 0, "the other would see it");
    message.push(&[3]).expect_err("the other would see it");
    message.push_with(&mut hop.pool, &[3]).expect("a buffer is free");
    let bytes = [2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1];
    assert_eq!(clone.to_vec().expect("own"), bytes);
    assert_eq!(message.to_vec().expect("own")[1..], bytes);
    drop(clone);
    assert!(message.headroom() > 0);
    drop(message);
    assert_eq!(hop.pool.free(), TOTAL);
}

#[test]
fn what_is_revoked_cannot_be_read_and_its_leases_stay_used_until_given_back() {
    let mut hop = Hop::bare();
    let mine = filled(&mut hop.pool, 7, 100).freeze();
    let held = [lend(&mut hop, &mine), hop.lend_bytes(&[8; 50])];
    let mut rope = Message::from(held[1].clone());
    let mut window = Message::from(held[0].clone());
    assert_eq!(hop.leases.revoke(&mut hop.pool), 2);
    assert_eq!((hop.leases.lent(), hop.leases.lent_bytes()), (2, 0));
    assert_eq!(hop.leases.revoke(&mut hop.pool), 0, "once");
    assert_eq!(hop.pool.free(), TOTAL - 1, "what the owner keeps is still its own");
    assert_eq!(&mine[..], [7; 100]);
    assert!(!held[0].is_revoked() && held[1].is_revoked(), "nobody can have written what is kept");
    drop(mine);
    for fbuf in &held {
        assert!(fbuf.is_revoked());
        assert_eq!(fbuf.copy_to(0, &mut [0; 8]), Err(ReadError::Revoked));
        assert_eq!(fbuf.for_each_word(|_| ()), Err(ReadError::Revoked));
        let secured = fbuf.secure(&mut region()).err();
        assert_eq!(secured, Some(SecureError::Read(ReadError::Revoked)));
    }
    assert_eq!(rope.pop(&mut [0; 8]), Err(ReadError::Revoked));
    assert_eq!(rope.len(), 50, "nothing was removed");
    assert_eq!(rope.for_each_chunk(|_| ()), Err(ReadError::Revoked));
    assert_eq!(rope.to_vec(), Err(ReadError::Revoked));
    assert!(rope.secure(&mut region()).is_err() && rope.is_volatile());
    let mut zeros = [9; 100];
    bytes::Buf::copy_to_slice(&mut window, &mut zeros);
    assert!(zeros == [0; 100] && window.is_revoked(), "a reader that cannot be told reads zeros");
    drop((held, rope, window));
    assert_eq!(hop.collect(), 2);
    assert_eq!((hop.leases.lent(), hop.pool.free()), (0, TOTAL));
    // The buffers are as good as ever.
    let again = hop.lend_bytes(&[9; 50]);
    assert_eq!(again.to_vec().expect("of a new epoch"), [9; 50]);
}

#[test]
fn leases_that_are_never_given_back_run_out_and_harm_nobody_else() {
    let (mut greedy, mut modest) = (Hop::bare(), Hop::bare());
    let mut held = Vec::new();
    for _ in 0..MAX_LEASES {
        held.push(greedy.lend_bytes(&[1; 8]));
        greedy.leases.revoke(&mut greedy.pool);
    }
    assert_eq!(greedy.pool.free(), TOTAL, "every buffer came back");
    let fbuf = greedy.pool.alloc(8).expect("one is free").freeze();
    assert!(greedy.leases.lend(Part::Own(fbuf)).is_err());
    assert_eq!(modest.lend_bytes(&[1; 8]).to_vec().expect("not revoked"), [1; 8]);
    drop(held);
    assert_eq!(greedy.collect(), MAX_LEASES);
    assert_eq!(greedy.lend_bytes(&[1; 8]).to_vec().expect("not revoked"), [1; 8]);
}

#[test]
fn who_holds_a_buffer_for_long_is_told_of_its_revocation_after_any_number_of_others() {
    let mut hop = Hop::bare();
    let one = hop.pool.alloc(4096).expect("one is free");
    let two = hop.pool.alloc(4096).expect("one is free");
    // The third of its size is the only one left, so it is revoked each time.
    let lent = hop.pool.alloc(4096).expect("one is free").freeze();
    let first = hop.hand_over(Part::Own(lent));
    hop.leases.revoke(&mut hop.pool);
    for _ in 0..2 * u32::from(u16::MAX) + 2 {
        let fbuf = hop.pool.alloc(4096).expect("it came back").freeze();
        let received = hop.hand_over(Part::Own(fbuf));
        assert!(!received.is_revoked());
        hop.leases.revoke(&mut hop.pool);
        assert!(first.is_revoked(), "an epoch came twice");
        drop(received);
        hop.collect();
    }
    drop((one, two, first));
    assert_eq!(hop.pool.free(), TOTAL);
}

/// A region's pool, handed through two hops: A lends to B, B passes it on to C.
fn pipeline(pool: &Pool) -> (Hop, Hop) {
    let first = Hop::new(&Path::of(pool).expect("a region"), Quota::default());
    let second = Hop::new(&first.path, Quota::default());
    (first, second)
}

#[test]
fn a_buffer_that_was_passed_on_comes_back_through_every_domain() {
    let mut pool = region();
    let (mut first, mut second) = pipeline(&pool);
    let at_b = first.hand_over(Part::Own(filled(&mut pool, 7, 3000).freeze()));
    let at_c = second.hand_over(Part::Peer(at_b));
    assert_eq!(at_c.to_vec().expect("not revoked"), [7; 3000]);
    assert_eq!((first.collect(), second.collect()), (0, 0));
    drop(at_c);
    assert_eq!((first.collect(), first.holdings.held()), (0, 1), "B has not looked");
    assert_eq!(second.collect(), 1);
    assert_eq!(first.leases.collect(&mut pool), Ok(1));
    assert_eq!(pool.free(), TOTAL);
    assert_eq!((pool.copied(), first.holdings.copied(), second.holdings.copied()), (0, 0, 3000));
}

#[test]
fn a_revocation_reaches_every_later_domain() {
    let mut pool = region();
    let (mut first, mut second) = pipeline(&pool);
    let at_b = first.hand_over(Part::Own(filled(&mut pool, 7, 3000).freeze()));
    let kept = at_b.clone();
    let at_c = second.hand_over(Part::Peer(at_b));
    assert_eq!(second.leases.revoke(&mut second.pool), 0, "it is not B's to revoke");
    assert_eq!(first.leases.revoke(&mut pool), 1);
    assert_eq!(pool.free(), TOTAL);
    for fbuf in [&kept, &at_c] {
        assert_eq!(fbuf.to_vec(), Err(ReadError::Revoked));
    }
    // B's lease to C is free to be given back, and what A lends next is good.
    assert_eq!(second.leases.revoke(&mut second.pool), 1, "it was passed on");
    let again = first.hand_over(Part::Own(filled(&mut pool, 8, 3000).freeze()));
    let again = second.hand_over(Part::Peer(again));
    assert_eq!(again.to_vec().expect("of a new epoch"), [8; 3000]);
    drop((kept, at_c, again));
    assert_eq!(second.collect(), 2);
    assert_eq!(first.leases.collect(&mut pool), Ok(2));
    assert_eq!((first.leases.lent(), pool.free()), (0, TOTAL));
}

#[test]
fn a_dead_receiver_gives_everything_back_and_who_has_it_from_it_is_told() {
    let mut pool = region();
    let (mut first, mut second) = pipeline(&pool);
    let at_b = first.hand_over(Part::Own(filled(&mut pool, 7, 3000).freeze()));
    let at_c = second.hand_over(Part::Peer(at_b));
    // B is gone: nobody gives back any more.
    assert_eq!(first.leases.reclaim(&mut pool), 1);
    assert_eq!((pool.free(), first.leases.lent()), (TOTAL, 0));
    assert_eq!(at_c.to_vec(), Err(ReadError::Revoked));
}

#[test]
fn a_channel_that_is_dropped_takes_back_what_a_living_pool_had_lent() {
    let mut pool = region();
    let (mut first, mut second) = pipeline(&pool);
    let at_b = first.hand_over(Part::Own(filled(&mut pool, 7, 3000).freeze()));
    let at_c = second.hand_over(Part::Peer(at_b));
    let Hop { leases, holdings, .. } = first;
    drop(leases);
    assert_eq!(pool.free(), TOTAL);
    assert_eq!(at_c.to_vec(), Err(ReadError::Revoked));
    drop(holdings);
}

#[test]
fn a_secured_copy_outlives_everything() {
    let mut pool = region();
    let mut hop = Hop::bare();
    let received = hop.lend_bytes(&[7; 3000]);
    let secured = received.secure(&mut pool).expect("a buffer is free");
    assert_eq!(pool.copied(), 3000);
    hop.leases.revoke(&mut hop.pool);
    drop((received, hop));
    assert_eq!(&secured[..], [7; 3000]);
    let large = pool.alloc(4097).err();
    assert_eq!(large, Some(AllocError::TooLarge { asked: 4097, largest: 4096 }));
}

#[test]
fn a_path_has_an_order_and_an_end() {
    let mut path = Path::default();
    let pools: Vec<Pool> = (0..MAX_REGIONS).map(|_| region()).collect();
    for (number, pool) in pools.iter().enumerate() {
        path = path.then(pool).expect("there is room");
        assert_eq!((path.regions(), path.descriptors().count()), (number + 1, number + 1));
    }
    assert_eq!(path.then(&pools[0]).err(), Some(PathError::TooLong));
    let hop = Hop::bare();
    assert_eq!(Path::of(&hop.pool).err(), Some(PathError::InSegment));
}

#[test]
fn every_region_of_a_long_path_is_told_from_the_others() {
    let mut pools: Vec<Pool> = (0..MAX_REGIONS).map(|_| region()).collect();
    let path = pools.iter().try_fold(Path::default(), |path, pool| path.then(pool));
    let mut hop = Hop::new(&path.expect("it is not too long"), Quota::default());
    let mut held = vec![hop.lend_bytes(&[99; 60])];
    for (number, pool) in pools.iter_mut().enumerate() {
        let fbuf = filled(pool, number as u8, 60).freeze();
        held.push(hop.hand_over(Part::Own(fbuf)));
    }
    for (fbuf, byte) in held.iter().zip([99u8].into_iter().chain(0..)) {
        assert_eq!(fbuf.to_vec().expect("not revoked"), [byte; 60]);
    }
    assert_eq!(hop.path.copied(), 60 * MAX_REGIONS as u64);
}

#[test]
fn taking_a_shared_buffer_from_one_receiver_does_not_take_it_from_another() {
    let mut pool = region();
    let path = Path::of(&pool).expect("a region");
    let mut slow = Hop::new(&path, Quota::default());
    let mut other = Hop::new(&path, Quota::default());
    let fbuf = filled(&mut pool, 7, 3000).freeze();
    let at_slow = slow.hand_over(Part::Own(fbuf.clone()));
    let at_other = other.hand_over(Part::Own(fbuf));
    assert_eq!(slow.leases.revoke(&mut slow.pool), 1);
    assert!(!at_other.is_revoked(), "nothing can have been written yet");
    assert_eq!(at_other.to_vec().expect("not revoked"), [7; 3000]);
    drop(at_other);
    assert_eq!(other.collect(), 1);
    assert!(at_slow.is_revoked(), "now it can be written");
    assert_eq!(pool.free(), pool.total());
}

#[test]
fn a_clone_that_outlives_the_channel_is_not_written_unnoticed() {
    let mut hop = Hop::bare();
    let mut fbuf = hop.pool.alloc_with_headroom(8, 8).expect("one is free");
    fbuf.fill(1);
    let keep = fbuf.freeze();
    let received = hop.hand_over(Part::Own(keep.clone()));
    let Hop { leases, .. } = hop;
    drop(leases);
    assert!(!received.is_revoked(), "last words are readable");
    let mut message = Message::from(keep);
    message.push(&[2; 8]).expect("it is alone");
    assert_eq!(received.to_vec(), Err(ReadError::Revoked));
}

//! The receiver's side against an owner that describes what it likes: a descriptor never gives a
//! range outside, nothing is held twice, and what is wrong is named.

mod support;

use fbufs::{Descriptor, PeerFbuf};
use proptest::prelude::*;
use segment::Fault;
use support::{Receiver, TOTAL, both, buffer_bytes};

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Two arbitrary words, in a slot.
    Words([u64; 2]),
    /// One that is almost right: buffer, distance from the right generation, offset, length.
    Near(u16, u32, u32, u32),
    /// Drops the nth buffer that is held.
    Drop(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let distance = prop_oneof![8 => Just(0u32), 1 => Just(1), 1 => any::<u32>()];
    let range = || prop_oneof![8 => 0u32..70, 2 => 0u32..5000, 1 => any::<u32>()];
    prop_oneof![
        2 => any::<[u64; 2]>().prop_map(Op::Words),
        10 => (0u16..15, distance, range(), range())
            .prop_map(|(index, distance, offset, len)| Op::Near(index, distance, offset, len)),
        8 => (0usize..TOTAL).prop_map(Op::Drop),
    ]
}

fn expected(descriptor: Descriptor, generations: &[u32], held: &[PeerFbufOf]) -> Result<(), Fault> {
    let index = usize::from(descriptor.index);
    if index >= TOTAL {
        return Err(Fault::BufferIndex);
    }
    if u64::from(descriptor.offset) + u64::from(descriptor.len) > buffer_bytes(index) as u64 {
        return Err(Fault::BufferRange);
    }
    if held.iter().any(|held| held.index == index) {
        return Err(Fault::BufferHeld);
    }
    if descriptor.generation != generations[index] {
        return Err(Fault::BufferGeneration);
    }
    Ok(())
}

struct PeerFbufOf {
    index: usize,
    fbuf: PeerFbuf,
}

fn play(ops: &[Op]) -> Result<Vec<Fault>, TestCaseError> {
    let mut receiver = Receiver::new();
    let mut generations = [0u32; TOTAL];
    let mut held: Vec<PeerFbufOf> = Vec::new();
    let mut faults = Vec::new();
    for op in ops {
        let descriptor = match *op {
            Op::Words(words) => Descriptor::from_words(words),
            Op::Near(index, distance, offset, len) => {
                let generation = generations.get(usize::from(index)).copied().unwrap_or(0);
                Descriptor { index, generation: generation.wrapping_add(distance), offset, len }
            }
            Op::Drop(at) => {
                if at < held.len() {
                    let dropped = held.remove(at);
                    generations[dropped.index] = generations[dropped.index].wrapping_add(1);
                }
                prop_assert_eq!(receiver.pool.held(), held.len());
                continue;
            }
        };
        let should = expected(descriptor, &generations, &held);
        match receiver.pool.accept(descriptor) {
            Ok(fbuf) => {
                prop_assert_eq!(should, Ok(()));
                prop_assert_eq!(fbuf.len(), descriptor.len as usize);
                within(&fbuf)?;
                held.push(PeerFbufOf { index: descriptor.index.into(), fbuf });
            }
            Err(fault) => {
                prop_assert_eq!(should, Err(fault));
                faults.push(fault);
            }
        }
        prop_assert_eq!(receiver.pool.held(), held.len());
    }
    // What is held is readable to the end, whatever came after it.
    for held in &held {
        within(&held.fbuf)?;
    }
    Ok(faults)
}

/// All of it can be copied, and nothing beyond.
fn within(fbuf: &PeerFbuf) -> Result<(), TestCaseError> {
    let len = fbuf.len();
    prop_assert_eq!(fbuf.to_vec().len(), len);
    prop_assert!(!fbuf.copy_to(0, &mut vec![0; len + 1]));
    prop_assert!(!fbuf.copy_to(len, &mut [0]));
    prop_assert!(!fbuf.copy_to(usize::MAX, &mut [0]));
    prop_assert!(fbuf.copy_to(len, &mut []));
    prop_assert_eq!(fbuf.is_empty(), len == 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn a_descriptor_of_any_words_is_refused_by_name_or_lies_within_its_buffer(
        ops in prop::collection::vec(op(), 1..60),
    ) {
        play(&ops)?;
    }

    #[test]
    fn a_descriptor_survives_the_slot(index: u16, generation: u32, offset: u32, len: u32) {
        let descriptor = Descriptor { index, generation, offset, len };
        prop_assert_eq!(Descriptor::from_words(descriptor.to_words()), descriptor);
    }

    #[test]
    fn honest_sides_hand_over_any_bytes_and_end_with_every_buffer_at_home(
        messages in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..4096), 0usize..4),
            1..60,
        ),
    ) {
        let (mut pool, mut peer_pool, _far) = both();
        let mut held: Vec<(PeerFbuf, Vec<u8>)> = Vec::new();
        for (bytes, keep) in messages {
            if let Ok(mut fbuf) = pool.alloc(bytes.len()) {
                fbuf.copy_from_slice(&bytes);
                let descriptor = pool.lend(fbuf.freeze()).expect("its own");
                let received = peer_pool.accept(descriptor).expect("it is honest");
                held.push((received, bytes));
            }
            while held.len() > keep {
                let (fbuf, bytes) = held.remove(held.len() / 2);
                prop_assert!(fbuf.to_vec() == bytes, "what was written is read");
            }
            prop_assert_eq!(peer_pool.held(), held.len());
        }
        held.clear();
        pool.collect().expect("it is honest");
        prop_assert_eq!((pool.free(), pool.lent(), peer_pool.held()), (TOTAL, 0, 0));
    }
}

#[test]
fn the_sequences_above_reach_every_check_of_a_descriptor() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let ops = prop::collection::vec(op(), 1..60);
    let mut found = std::collections::HashSet::new();
    for _ in 0..200 {
        let sequence = ops.new_tree(&mut runner).expect("it has no filter").current();
        found.extend(play(&sequence).expect("it holds"));
    }
    use Fault::*;
    for fault in [BufferIndex, BufferRange, BufferHeld, BufferGeneration] {
        assert!(found.contains(&fault), "{} was never met", fault.name());
    }
}

#[test]
fn buffers_dropped_by_many_threads_all_come_home() {
    let (mut pool, mut peer_pool, _far) = both();
    for _ in 0..200 {
        let mut received = Vec::new();
        while let Ok(fbuf) = pool.alloc(1) {
            let descriptor = pool.lend(fbuf.freeze()).expect("its own");
            received.push(peer_pool.accept(descriptor).expect("it is honest"));
        }
        assert_eq!(received.len(), TOTAL);
        std::thread::scope(|scope| {
            while received.len() >= 4 {
                let share = received.split_off(received.len() - 4);
                scope.spawn(move || drop(share));
            }
        });
        drop(received);
        pool.collect().expect("it is honest");
        assert_eq!((pool.free(), pool.lent(), peer_pool.held()), (TOTAL, 0, 0));
    }
}

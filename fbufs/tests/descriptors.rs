//! The borrower's side against a lender that describes what it likes: a descriptor never gives a
//! range outside, no lease is held twice, and what is wrong is named.

mod support;

use fbufs::{Descriptor, Part, Path, PeerFbuf, Quota, ReadError};
use proptest::prelude::*;
use segment::Fault;
use support::{Hop, TOTAL, buffer_bytes, reach, region};

/// The lender's segment and one region, of the same classes.
const BUFFERS: usize = 2 * TOTAL;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Two arbitrary words, in a slot.
    Words([u64; 2]),
    /// One that is almost right: distance from the right generation, and the rest.
    Near(u32, Descriptor),
    /// Drops the nth buffer that is held.
    Drop(usize),
    /// Clones the nth: the lease is held until both are dropped.
    Clone(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let distance = prop_oneof![40 => Just(0u32), 1 => Just(1), 1 => any::<u32>()];
    let range = || prop_oneof![8 => 0u32..70, 2 => 0u32..5000, 1 => any::<u32>()];
    let index = prop_oneof![20 => 0u16..BUFFERS as u16, 1 => any::<u16>()];
    prop_oneof![
        2 => any::<[u64; 2]>().prop_map(Op::Words),
        12 => (distance, 0u8..6, index, any::<u16>(), range(), range()).prop_map(
            |(distance, lease, index, epoch, offset, len)| {
                let epoch = if epoch % 8 == 0 { epoch } else { 0 };
                Op::Near(distance, Descriptor { lease, index, generation: 0, epoch, offset, len })
            },
        ),
        8 => (0usize..TOTAL).prop_map(Op::Drop),
        2 => (0usize..TOTAL).prop_map(Op::Clone),
    ]
}

struct Held {
    descriptor: Descriptor,
    fbuf: PeerFbuf,
}

fn expected(descriptor: Descriptor, generation: u32, held: &[Held]) -> Result<(), Fault> {
    let index = usize::from(descriptor.index);
    if index >= BUFFERS {
        return Err(Fault::BufferIndex);
    }
    let size = reach(index % TOTAL) as u64;
    if u64::from(descriptor.offset) + u64::from(descriptor.len) > size {
        return Err(Fault::BufferRange);
    }
    if descriptor.generation != generation {
        return Err(Fault::BufferGeneration);
    }
    if held.iter().any(|held| held.descriptor.lease == descriptor.lease) {
        return Err(Fault::BufferHeld);
    }
    Ok(())
}

fn leases_of(held: &[Held]) -> usize {
    let leases: std::collections::HashSet<u8> =
        held.iter().map(|held| held.descriptor.lease).collect();
    leases.len()
}

fn play(ops: &[Op]) -> Result<Vec<Fault>, TestCaseError> {
    let mut pool = region();
    // What the region begins with, so that its bytes are told from the segment's, which are zero.
    let mut marked: Vec<_> = (0..TOTAL).map(|_| pool.alloc(1).expect("one is free")).collect();
    marked.iter_mut().for_each(|fbuf| fbuf[0] = 0xAB);
    let mut hop = Hop::new(&Path::of(&pool).expect("it is a region"), Quota::default());
    let mut generation = 0;
    let mut held: Vec<Held> = Vec::new();
    let mut faults = Vec::new();
    for op in ops {
        let descriptor = match *op {
            Op::Words(words) => Descriptor::from_words(words),
            Op::Near(distance, near) => {
                let generation = (generation + distance) & 0x00ff_ffff;
                Descriptor { generation, ..near }
            }
            Op::Drop(at) => {
                if at < held.len() {
                    held.remove(at);
                }
                prop_assert_eq!(hop.holdings.held(), leases_of(&held));
                continue;
            }
            Op::Clone(at) => {
                if let Some(Held { descriptor, fbuf }) = held.get(at) {
                    let (descriptor, fbuf) = (*descriptor, fbuf.clone());
                    held.push(Held { descriptor, fbuf });
                }
                continue;
            }
        };
        let should = expected(descriptor, generation, &held);
        match hop.holdings.accept(descriptor) {
            Ok(fbuf) => {
                prop_assert_eq!(should, Ok(()));
                generation += 1;
                let received = Held { descriptor, fbuf };
                within(&received)?;
                held.push(received);
            }
            Err(fault) => {
                prop_assert_eq!(should, Err(fault));
                faults.push(fault);
            }
        }
        prop_assert_eq!(hop.holdings.held(), leases_of(&held));
    }
    // What is held is readable to the end, whatever came after it.
    for held in &held {
        within(held)?;
    }
    drop(marked);
    Ok(faults)
}

/// All of it can be copied, and nothing beyond; nothing of an epoch that is not the one of now.
fn within(held: &Held) -> Result<(), TestCaseError> {
    let Held { descriptor, fbuf } = held;
    let len = fbuf.len();
    prop_assert_eq!(len, descriptor.len as usize);
    prop_assert_eq!(fbuf.is_empty(), len == 0);
    prop_assert_eq!(fbuf.copy_to(0, &mut vec![0; len + 1]), Err(ReadError::OutOfRange));
    prop_assert_eq!(fbuf.copy_to(len, &mut [0]), Err(ReadError::OutOfRange));
    prop_assert_eq!(fbuf.copy_to(usize::MAX, &mut [0]), Err(ReadError::OutOfRange));
    if descriptor.epoch != 0 {
        prop_assert!(fbuf.is_revoked());
        prop_assert_eq!(fbuf.to_vec(), Err(ReadError::Revoked));
        return Ok(());
    }
    prop_assert_eq!(fbuf.copy_to(len, &mut []), Ok(()));
    let mut expected = vec![0; len];
    let index = usize::from(descriptor.index);
    if index >= TOTAL {
        let size = buffer_bytes(index % TOTAL);
        let begins = |at: &usize| (descriptor.offset as usize + at).is_multiple_of(size);
        (0..len).filter(begins).for_each(|at| expected[at] = 0xAB);
    }
    prop_assert_eq!(fbuf.to_vec(), Ok(expected), "the right buffer of the right region");
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
    fn a_descriptor_survives_the_slot(
        lease: u8, index: u16, generation in 0u32..1 << 24, epoch: u16, offset: u32, len: u32,
    ) {
        let descriptor = Descriptor { lease, index, generation, epoch, offset, len };
        prop_assert_eq!(Descriptor::from_words(descriptor.to_words()), descriptor);
    }

    #[test]
    fn honest_sides_hand_over_any_bytes_and_end_with_every_buffer_at_home(
        messages in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..4096), 0usize..4),
            1..60,
        ),
    ) {
        let mut hop = Hop::bare();
        let mut held: Vec<(PeerFbuf, Vec<u8>)> = Vec::new();
        for (bytes, keep) in messages {
            hop.collect();
            if let Ok(mut fbuf) = hop.pool.alloc(bytes.len()) {
                fbuf.copy_from_slice(&bytes);
                held.push((hop.hand_over(Part::Own(fbuf.freeze())), bytes));
            }
            while held.len() > keep {
                let (fbuf, bytes) = held.remove(held.len() / 2);
                prop_assert!(fbuf.to_vec() == Ok(bytes), "what was written is read");
            }
            prop_assert_eq!(hop.holdings.held(), held.len());
        }
        held.clear();
        hop.collect();
        let home = (hop.pool.free(), hop.leases.lent(), hop.holdings.held());
        prop_assert_eq!(home, (TOTAL, 0, 0));
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
    let mut hop = Hop::bare();
    for _ in 0..200 {
        let mut received = Vec::new();
        while let Ok(fbuf) = hop.pool.alloc(1) {
            received.push(hop.hand_over(Part::Own(fbuf.freeze())));
        }
        assert_eq!(received.len(), TOTAL);
        // Every second one has two handles, which threads drop at the same time.
        let clones: Vec<PeerFbuf> = received.iter().step_by(2).cloned().collect();
        std::thread::scope(|scope| {
            scope.spawn(move || drop(clones));
            while received.len() >= 4 {
                let share = received.split_off(received.len() - 4);
                scope.spawn(move || drop(share));
            }
        });
        drop(received);
        assert_eq!(hop.collect(), TOTAL);
        let home = (hop.pool.free(), hop.leases.lent(), hop.holdings.held());
        assert_eq!(home, (TOTAL, 0, 0));
    }
}

#[test]
fn generations_go_round() {
    let mut hop = Hop::bare();
    let good =
        |generation| Descriptor { lease: 0, index: 0, generation, epoch: 0, offset: 0, len: 1 };
    for generation in 0..1 << 24 {
        let fbuf = hop.holdings.accept(good(generation)).expect("it is the next");
        hop.holdings.give_back(fbuf);
    }
    assert!(hop.holdings.accept(good(1)).is_err());
    assert!(hop.holdings.accept(good(0)).is_ok());
}

//! The owner's side against a receiver that returns what it likes: every buffer is in exactly one
//! place, and a wrong return is named.

mod support;

use fbufs::{AllocError, Descriptor, Fbuf, FbufMut, LendError};
use proptest::prelude::*;
use segment::Fault;
use support::{CLASSES, Owner, TOTAL, buffer_bytes};

#[derive(Clone, Copy, Debug)]
enum Op {
    Alloc(usize),
    /// Drops the nth buffer that is held.
    Drop(usize),
    /// Narrows and lends the nth.
    Lend(usize),
    /// Lends the nth and takes it back before it was published.
    Unlend(usize),
    /// The receiver returns the nth buffer it has.
    Return(usize),
    /// The receiver returns the nth it has returned before.
    ReturnAgain(usize),
    /// The receiver returns something.
    ReturnAnything(u16, u32),
    /// The receiver writes something.
    Scribble(u64),
    Collect,
    /// The receiver is gone.
    Reclaim,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop_oneof![0usize..5000, 0usize..70].prop_map(Op::Alloc),
        3 => (0usize..TOTAL).prop_map(Op::Drop),
        5 => (0usize..TOTAL).prop_map(Op::Lend),
        1 => (0usize..TOTAL).prop_map(Op::Unlend),
        5 => (0usize..TOTAL).prop_map(Op::Return),
        1 => (0usize..TOTAL).prop_map(Op::ReturnAgain),
        1 => (0u16..20, 0u32..4).prop_map(|(index, generation)| {
            Op::ReturnAnything(index, generation)
        }),
        1 => any::<u64>().prop_map(Op::Scribble),
        4 => Just(Op::Collect),
        1 => Just(Op::Reclaim),
    ]
}

/// A buffer that is held here, and what was written to it.
struct Held {
    fbuf: FbufMut,
    mark: u8,
}

/// What should be the case.
#[derive(Default)]
struct Model {
    held: Vec<Held>,
    /// The receiver's, as far as the owner has collected.
    lent: Vec<Descriptor>,
    /// Collected long ago.
    old: Vec<Descriptor>,
    generations: [u32; TOTAL],
    /// What the receiver wrote and nobody has collected: index and generation, or nonsense.
    written: Vec<Option<(u16, u32)>>,
    marks: u8,
}

impl Model {
    /// Takes one return, or names the check that it fails.
    fn take_back(&mut self, index: u16, generation: u32) -> Result<(), Fault> {
        let current = self.generations.get_mut(usize::from(index)).ok_or(Fault::BufferIndex)?;
        if *current != generation {
            return Err(Fault::FreeGeneration);
        }
        let at = self.lent.iter().position(|lent| lent.index == index);
        self.old.push(self.lent.remove(at.ok_or(Fault::FreeNotLent)?));
        *current += 1;
        Ok(())
    }

    /// How many good returns there are, or the first wrong one.
    fn collect(&mut self) -> Result<usize, Fault> {
        // No more at once than an honest receiver can have.
        let written: Vec<_> = self.written.drain(..self.written.len().min(TOTAL)).collect();
        for what in &written {
            let (index, generation) = what.ok_or(Fault::FreeSequence)?;
            self.take_back(index, generation)?;
        }
        Ok(written.len())
    }
}

/// Collects; what was found wrong.
fn collect(owner: &mut Owner, model: &mut Model) -> Result<Option<Fault>, TestCaseError> {
    let (found, expected) = (owner.pool.collect(), model.collect());
    prop_assert_eq!(found, expected);
    Ok(found.err())
}

/// Every buffer is in one place. To be called when nothing waits to be collected.
fn adds_up(owner: &Owner, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(owner.pool.total(), TOTAL);
    prop_assert_eq!(owner.pool.lent(), model.lent.len());
    prop_assert_eq!(owner.pool.free() + owner.pool.lent() + model.held.len(), TOTAL);
    for held in &model.held {
        prop_assert!(held.fbuf.iter().all(|byte| *byte == held.mark), "nobody else wrote to it");
    }
    Ok(())
}

fn freeze(held: Held, narrow: bool) -> Result<Fbuf, TestCaseError> {
    let len = held.fbuf.len();
    let fbuf = held.fbuf.freeze();
    prop_assert!(fbuf.iter().all(|byte| *byte == held.mark));
    if !narrow {
        return Ok(fbuf);
    }
    let narrowed = fbuf.slice(len / 4..len / 2).expect("it is within");
    prop_assert_eq!(narrowed.len(), len / 2 - len / 4);
    Ok(narrowed)
}

/// Plays a sequence; what the receiver did wrong in it.
fn play(ops: &[Op]) -> Result<Option<Fault>, TestCaseError> {
    let mut owner = Owner::new();
    let mut model = Model::default();
    for op in ops {
        match *op {
            Op::Alloc(len) => {
                // Collected first, so that what is found wrong is found here.
                if let Some(fault) = collect(&mut owner, &mut model)? {
                    return aftermath(owner, model, fault);
                }
                let free = owner.pool.free();
                match owner.pool.alloc(len) {
                    Ok(mut fbuf) => {
                        prop_assert_eq!(fbuf.len(), len);
                        prop_assert_eq!(owner.pool.free(), free - 1);
                        model.marks = model.marks.wrapping_add(1);
                        fbuf.fill(model.marks);
                        model.held.push(Held { fbuf, mark: model.marks });
                    }
                    Err(AllocError::TooLarge { asked, largest }) => {
                        prop_assert!(asked == len && len > largest && largest == 4096);
                    }
                    Err(AllocError::Exhausted) => {
                        let fitting: usize = CLASSES
                            .iter()
                            .filter(|(bytes, _)| *bytes >= len)
                            .map(|(_, buffers)| buffers)
                            .sum();
                        prop_assert!(TOTAL - free >= fitting, "all that fit are in use");
                    }
                    Err(other) => return Err(TestCaseError::fail(format!("{other}"))),
                }
            }
            Op::Drop(at) if at < model.held.len() => drop(model.held.remove(at)),
            Op::Lend(at) if at < model.held.len() => {
                let fbuf = freeze(model.held.remove(at), at % 2 == 1)?;
                let len = fbuf.len();
                let lent = owner.pool.lend(fbuf).map_err(|_| TestCaseError::fail("its own"))?;
                prop_assert_eq!(lent.len as usize, len);
                let size = buffer_bytes(lent.index.into());
                prop_assert!(lent.offset as usize + len <= size);
                prop_assert!(model.lent.iter().all(|other| other.index != lent.index));
                model.lent.push(lent);
            }
            Op::Unlend(at) if at < model.held.len() => {
                let fbuf = freeze(model.held.remove(at), false)?;
                let len = fbuf.len();
                let lent = owner.pool.lend(fbuf).map_err(|_| TestCaseError::fail("its own"))?;
                let back = owner.pool.unlend(lent).expect("it was lent");
                prop_assert_eq!(back.len(), len);
                prop_assert!(owner.pool.unlend(lent).is_none(), "once");
            }
            Op::Return(at) if at < model.lent.len() => {
                let lent = model.lent[at];
                let what = Some((lent.index, lent.generation));
                if !model.written.contains(&what) {
                    owner.give_back(lent.index, lent.generation);
                    model.written.push(what);
                }
            }
            Op::ReturnAgain(at) if at < model.old.len() => {
                let old = model.old[at];
                owner.give_back(old.index, old.generation);
                model.written.push(Some((old.index, old.generation)));
            }
            Op::ReturnAnything(index, generation) => {
                owner.give_back(index, generation);
                model.written.push(Some((index, generation)));
            }
            Op::Scribble(word) => {
                // A sequence that is never due so early.
                owner.write(word | 0x8000 << 48);
                model.written.push(None);
            }
            Op::Reclaim => {
                if let Some(fault) = collect(&mut owner, &mut model)? {
                    return aftermath(owner, model, fault);
                }
                prop_assert_eq!(owner.pool.reclaim(), model.lent.len());
                for lent in model.lent.drain(..) {
                    model.generations[usize::from(lent.index)] += 1;
                    model.old.push(lent);
                }
                adds_up(&owner, &model)?;
            }
            Op::Collect => {
                if let Some(fault) = collect(&mut owner, &mut model)? {
                    return aftermath(owner, model, fault);
                }
                adds_up(&owner, &model)?;
            }
            _ => {}
        }
    }
    match collect(&mut owner, &mut model)? {
        Some(fault) => aftermath(owner, model, fault),
        None => {
            adds_up(&owner, &model)?;
            Ok(None)
        }
    }
}

/// The receiver was caught: the channel is closed, and everything it had comes back.
fn aftermath(
    mut owner: Owner,
    mut model: Model,
    fault: Fault,
) -> Result<Option<Fault>, TestCaseError> {
    prop_assert_eq!(owner.pool.reclaim(), model.lent.len());
    model.lent.clear();
    prop_assert_eq!(owner.pool.lent(), 0);
    prop_assert_eq!(owner.pool.free() + model.held.len(), TOTAL);
    // What is still held here can be written and dropped.
    for held in &mut model.held {
        held.fbuf.fill(0xEE);
    }
    let held = model.held.len();
    model.held.clear();
    let _ = owner.pool.collect();
    prop_assert_eq!(owner.pool.free(), TOTAL, "{} were held", held);
    Ok(Some(fault))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn every_buffer_is_in_one_place_whatever_the_receiver_returns(
        ops in prop::collection::vec(op(), 1..80),
    ) {
        play(&ops)?;
    }
}

#[test]
fn the_sequences_above_reach_every_check_of_a_return() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let ops = prop::collection::vec(op(), 1..80);
    let mut found = std::collections::HashSet::new();
    for _ in 0..1000 {
        let sequence = ops.new_tree(&mut runner).expect("it has no filter").current();
        found.extend(play(&sequence).expect("it holds"));
    }
    use Fault::*;
    for fault in [BufferIndex, FreeGeneration, FreeNotLent, FreeSequence] {
        assert!(found.contains(&fault), "{} was never met", fault.name());
    }
}

#[test]
fn a_buffer_of_another_pool_is_given_back() {
    let (mut one, mut other) = (Owner::new(), Owner::new());
    let fbuf = one.pool.alloc(10).expect("one is free").freeze();
    let (error, fbuf) = other.pool.lend(fbuf).expect_err("it is foreign");
    assert_eq!((error, fbuf.len()), (LendError::Foreign, 10));
    assert!(one.pool.lend(fbuf).is_ok());
    assert_eq!((one.pool.lent(), other.pool.lent()), (1, 0));
}

#[test]
fn a_slice_outside_a_buffer_frees_it() {
    let mut owner = Owner::new();
    for (start, end) in [(0, 11), (5, 4), (11, 11), (usize::MAX, usize::MAX), (0, usize::MAX)] {
        let fbuf = owner.pool.alloc(10).expect("one is free").freeze();
        assert!(fbuf.slice(start..end).is_none(), "{start}..{end}");
    }
    owner.pool.collect().expect("nobody returned anything");
    assert_eq!(owner.pool.free(), TOTAL);
}

//! The lender's side against a receiver that returns what it likes: every buffer is in exactly one
//! place, and a wrong return is named.

mod support;

use fbufs::{
    AllocError, Descriptor, Fbuf, FbufMut, LendError, MAX_LEASES, Part, Path, Pool, Quota,
};
use proptest::prelude::*;
use segment::Fault;
use support::{CLASSES, Hop, Lender, TOTAL, buffer_bytes, region};

#[derive(Clone, Copy, Debug)]
enum Op {
    Alloc(usize),
    /// Drops the nth buffer that is held.
    Drop(usize),
    /// Narrows and lends the nth.
    Lend(usize),
    /// Lends a part of the nth, and keeps it.
    Share(usize),
    /// The receiver returns the nth lease it has.
    Return(usize),
    /// The receiver returns the nth it has returned before.
    ReturnAgain(usize),
    /// The receiver returns something.
    ReturnAnything(u16, u32),
    /// The receiver writes something.
    Scribble(u64),
    Collect,
    /// What the receiver holds is taken away from it.
    Revoke,
    /// The receiver is gone.
    Reclaim,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop_oneof![0usize..5000, 0usize..70].prop_map(Op::Alloc),
        3 => (0usize..TOTAL).prop_map(Op::Drop),
        5 => (0usize..TOTAL).prop_map(Op::Lend),
        2 => (0usize..TOTAL).prop_map(Op::Share),
        6 => (0usize..TOTAL).prop_map(Op::Return),
        1 => (0usize..TOTAL).prop_map(Op::ReturnAgain),
        1 => (prop_oneof![0u16..20, 250u16..300, 0x8000u16..0x8014], 0u32..4).prop_map(|(lease, generation)| {
            Op::ReturnAnything(lease, generation)
        }),
        1 => any::<u64>().prop_map(Op::Scribble),
        4 => Just(Op::Collect),
        1 => Just(Op::Revoke),
        1 => Just(Op::Reclaim),
    ]
}

/// A buffer that is held here, and what was written to it.
struct Held {
    fbuf: Here,
    mark: u8,
}

enum Here {
    /// Alone.
    Unique(FbufMut),
    /// Parts of it are, or were, lent.
    Shared(Fbuf, usize),
}

impl Held {
    fn bytes(&self) -> &[u8] {
        match &self.fbuf {
            Here::Unique(fbuf) => fbuf,
            Here::Shared(fbuf, _) => fbuf,
        }
    }
}

struct Lent {
    descriptor: Descriptor,
    revoked: bool,
}

/// What should be the case.
#[derive(Default)]
struct Model {
    held: Vec<Held>,
    /// The receiver's, as far as the lender has collected.
    lent: Vec<Lent>,
    /// Collected long ago.
    old: Vec<Descriptor>,
    generation: u32,
    /// What the receiver wrote and nobody has collected: lease and generation, or nonsense.
    written: Vec<Option<(u16, u32)>>,
    marks: u8,
}

impl Model {
    /// Takes one return, or names the check that it fails.
    fn take_back(&mut self, lease: u16, generation: u32) -> Result<(), Fault> {
        // Whether somebody else may still be reading it changes nothing here.
        let lease = lease & 0x7fff;
        if usize::from(lease) >= MAX_LEASES {
            return Err(Fault::BufferIndex);
        }
        let at = self.lent.iter().position(|lent| u16::from(lent.descriptor.lease) == lease);
        let at = at.ok_or(Fault::FreeNotLent)?;
        if self.lent[at].descriptor.generation != generation {
            return Err(Fault::FreeGeneration);
        }
        self.old.push(self.lent.remove(at).descriptor);
        Ok(())
    }

    /// How many good returns there are, or the first wrong one.
    fn collect(&mut self) -> Result<usize, Fault> {
        let written: Vec<_> = self.written.drain(..self.written.len().min(MAX_LEASES)).collect();
        for what in &written {
            let (lease, generation) = what.ok_or(Fault::FreeSequence)?;
            self.take_back(lease, generation)?;
        }
        Ok(written.len())
    }

    fn is_lent(&self, index: usize) -> bool {
        let holds = |lent: &Lent| !lent.revoked && usize::from(lent.descriptor.index) == index;
        self.lent.iter().any(holds)
    }

    /// How many buffers are not free: lent, held, or both.
    fn in_use(&self) -> usize {
        let lent = (0..TOTAL).filter(|index| self.is_lent(*index)).count();
        let only_here = self.held.iter().filter(|held| match held.fbuf {
            Here::Unique(_) => true,
            Here::Shared(_, index) => !self.is_lent(index),
        });
        lent + only_here.count()
    }
}

/// Collects; what was found wrong.
fn collect(lender: &mut Lender, model: &mut Model) -> Result<Option<Fault>, TestCaseError> {
    let (found, expected) = (lender.leases.collect(&mut lender.pool), model.collect());
    prop_assert_eq!(found, expected);
    Ok(found.err())
}

/// Every buffer is in one place. To be called when nothing waits to be collected.
fn adds_up(lender: &mut Lender, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(lender.pool.total(), TOTAL);
    prop_assert_eq!(lender.leases.lent(), model.lent.len());
    let bytes = |lent: &Lent| if lent.revoked { 0 } else { u64::from(lent.descriptor.len) };
    prop_assert_eq!(lender.leases.lent_bytes(), model.lent.iter().map(bytes).sum::<u64>());
    prop_assert_eq!(lender.pool.free() + model.in_use(), TOTAL);
    for held in &model.held {
        prop_assert!(held.bytes().iter().all(|byte| *byte == held.mark), "nobody else wrote to it");
    }
    Ok(())
}

fn alloc(lender: &mut Lender, model: &mut Model, len: usize) -> Result<(), TestCaseError> {
    let free = lender.pool.free();
    match lender.pool.alloc(len) {
        Ok(mut fbuf) => {
            prop_assert_eq!(fbuf.len(), len);
            prop_assert_eq!(lender.pool.free(), free - 1);
            model.marks = model.marks.wrapping_add(1);
            fbuf.fill(model.marks);
            model.held.push(Held { fbuf: Here::Unique(fbuf), mark: model.marks });
        }
        Err(AllocError::TooLarge { asked, largest }) => {
            prop_assert!(asked == len && len > largest && largest == 4096);
        }
        Err(AllocError::Exhausted) => {
            let fits = CLASSES.iter().filter(|(bytes, _)| *bytes >= len);
            let fitting: usize = fits.map(|(_, buffers)| buffers).sum();
            prop_assert!(TOTAL - free >= fitting, "all that fit are in use");
        }
        Err(other) => return Err(TestCaseError::fail(format!("{other}"))),
    }
    Ok(())
}

/// Lends the middle of a buffer, and keeps a clone if it is asked to.
fn lend(
    lender: &mut Lender,
    model: &mut Model,
    at: usize,
    keep: bool,
) -> Result<(), TestCaseError> {
    let Held { fbuf, mark } = model.held.remove(at);
    let fbuf = match fbuf {
        Here::Unique(fbuf) => fbuf.freeze(),
        Here::Shared(fbuf, _) => fbuf,
    };
    let len = fbuf.len();
    let part = if at % 2 == 1 { fbuf.slice(len / 4..len / 2) } else { fbuf.slice(0..len) };
    let part = part.expect("it is within");
    prop_assert!(part.iter().all(|byte| *byte == mark));
    let len = part.len();
    let kept = keep.then_some(fbuf);
    let lent = lender.leases.lend(Part::Own(part)).map_err(|_| TestCaseError::fail("its own"))?;
    prop_assert_eq!(lent.len as usize, len);
    prop_assert!(lent.offset as usize + len <= buffer_bytes(lent.index.into()));
    prop_assert_eq!(lent.generation, model.generation, "one after another");
    prop_assert!(model.lent.iter().all(|other| other.descriptor.lease != lent.lease));
    model.generation += 1;
    model.lent.push(Lent { descriptor: lent, revoked: false });
    if let Some(fbuf) = kept {
        model.held.push(Held { fbuf: Here::Shared(fbuf, lent.index.into()), mark });
    }
    Ok(())
}

/// Plays one step; what the receiver did wrong before it, if that was found now.
fn step(lender: &mut Lender, model: &mut Model, op: Op) -> Result<Option<Fault>, TestCaseError> {
    // Collected first, so that what is found wrong is found here.
    if matches!(op, Op::Alloc(_) | Op::Collect | Op::Revoke | Op::Reclaim)
        && let Some(fault) = collect(lender, model)?
    {
        return Ok(Some(fault));
    }
    match op {
        Op::Alloc(len) => alloc(lender, model, len)?,
        Op::Drop(at) if at < model.held.len() => drop(model.held.remove(at)),
        Op::Lend(at) if at < model.held.len() => lend(lender, model, at, false)?,
        Op::Share(at) if at < model.held.len() => lend(lender, model, at, true)?,
        Op::Return(at) if at < model.lent.len() => {
            let lent = model.lent[at].descriptor;
            let what = Some((lent.lease.into(), lent.generation));
            if !model.written.contains(&what) {
                lender.give_back(lent.lease.into(), lent.generation);
                model.written.push(what);
            }
        }
        Op::ReturnAgain(at) if at < model.old.len() => {
            let old = model.old[at];
            lender.give_back(old.lease.into(), old.generation);
            model.written.push(Some((old.lease.into(), old.generation)));
        }
        Op::ReturnAnything(lease, generation) => {
            lender.give_back(lease, generation);
            model.written.push(Some((lease, generation)));
        }
        Op::Scribble(word) => {
            // A sequence that is never due so early.
            lender.write(word | 0x8000 << 48);
            model.written.push(None);
        }
        Op::Revoke => {
            let held = model.lent.iter().filter(|lent| !lent.revoked).count();
            prop_assert_eq!(lender.leases.revoke(&mut lender.pool), held);
            // The leases stay used up until they are given back.
            model.lent.iter_mut().for_each(|lent| lent.revoked = true);
            adds_up(lender, model)?;
        }
        Op::Reclaim => {
            let held = model.lent.iter().filter(|lent| !lent.revoked).count();
            prop_assert_eq!(lender.leases.reclaim(&mut lender.pool), held);
            model.old.extend(model.lent.drain(..).map(|lent| lent.descriptor));
            adds_up(lender, model)?;
        }
        Op::Collect => adds_up(lender, model)?,
        _ => {}
    }
    Ok(None)
}

/// Plays a sequence; what the receiver did wrong in it.
fn play(ops: &[Op]) -> Result<Option<Fault>, TestCaseError> {
    let mut lender = Lender::new();
    let mut model = Model::default();
    for op in ops.iter().copied().chain([Op::Collect]) {
        if let Some(fault) = step(&mut lender, &mut model, op)? {
            return aftermath(lender, model, fault);
        }
    }
    Ok(None)
}

/// The receiver was caught: the channel is closed, and everything it had comes back.
fn aftermath(
    mut lender: Lender,
    mut model: Model,
    fault: Fault,
) -> Result<Option<Fault>, TestCaseError> {
    let held = model.lent.iter().filter(|lent| !lent.revoked).count();
    prop_assert_eq!(lender.leases.reclaim(&mut lender.pool), held);
    model.lent.clear();
    prop_assert_eq!((lender.leases.lent(), lender.leases.lent_bytes()), (0, 0));
    prop_assert_eq!(lender.pool.free() + model.held.len(), TOTAL);
    // What is still held here can be written and dropped.
    for held in model.held.drain(..) {
        let mut fbuf = match held.fbuf {
            Here::Unique(fbuf) => fbuf,
            Here::Shared(fbuf, _) => fbuf.try_into_mut().expect("nobody shares it any more"),
        };
        fbuf.fill(0xEE);
    }
    prop_assert_eq!(lender.pool.free(), TOTAL);
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
    let (mut one, mut other) = (Lender::new(), Lender::new());
    let fbuf = one.pool.alloc(10).expect("one is free").freeze();
    let (error, part) = other.leases.lend(Part::Own(fbuf)).expect_err("it is foreign");
    assert_eq!((error, part.len()), (LendError::Foreign, 10));
    assert!(one.leases.lend(part).is_ok());
    assert_eq!((one.leases.lent(), other.leases.lent()), (1, 0));
    // Neither is a pool that is on no path of the channel's.
    let mut region = region();
    let fbuf = region.alloc(10).expect("one is free").freeze();
    let parts = [Part::Own(fbuf)];
    assert_eq!(one.leases.has_room(&parts, 10), Err(LendError::Foreign));
}

#[test]
fn a_slice_outside_a_buffer_is_none() {
    let mut lender = Lender::new();
    let fbuf = lender.pool.alloc(10).expect("one is free").freeze();
    for (start, end) in [(0, 11), (5, 4), (11, 11), (usize::MAX, usize::MAX), (0, usize::MAX)] {
        assert!(fbuf.slice(start..end).is_none(), "{start}..{end}");
    }
    drop(fbuf);
    assert_eq!(lender.pool.free(), TOTAL);
}

#[test]
fn the_buffer_that_was_freed_last_is_taken_first() {
    let mut pool = region();
    let held: Vec<FbufMut> = (0..4).map(|_| pool.alloc(60).expect("one is free")).collect();
    let mut freed: Vec<*const u8> = Vec::new();
    for fbuf in held {
        freed.push(fbuf.as_ptr());
        pool.recycle(fbuf.freeze());
    }
    let again: Vec<FbufMut> = (0..4).map(|_| pool.alloc(60).expect("one is free")).collect();
    assert!(again.iter().map(|fbuf| fbuf.as_ptr()).eq(freed.into_iter().rev()));
}

#[test]
fn a_pool_with_classes_out_of_bounds_is_not_made() {
    let mut options = fbufs::PoolOptions::default();
    options.classes[1].buffer_bytes = 65;
    assert!(matches!(Pool::new(options), Err(segment::memory::CreateError::Size)));
}

/// What a quota of four buffers allows, which starts again at two.
fn four() -> Quota {
    Quota { buffers: 4, bytes: 1000, resume_buffers: 2, resume_bytes: 500 }
}

fn part(hop: &mut Hop, len: usize) -> Part {
    Part::Own(hop.pool.alloc(len).expect("one is free").freeze())
}

#[test]
fn a_receiver_that_holds_its_quota_gets_nothing_until_it_has_given_back_enough() {
    let mut hop = Hop::new(&Path::default(), four());
    let mut held = Vec::new();
    for _ in 0..4 {
        let part = part(&mut hop, 1);
        held.push(hop.hand_over(part));
    }
    let refused = |hop: &mut Hop| {
        let offered = part(hop, 1);
        hop.leases.lend(offered).err().map(|(error, _)| error)
    };
    assert_eq!(refused(&mut hop), Some(LendError::Quota));
    held.pop();
    assert_eq!(hop.collect(), 1);
    assert_eq!(refused(&mut hop), Some(LendError::Quota), "one is not enough");
    held.pop();
    assert_eq!(hop.collect(), 1);
    assert_eq!(refused(&mut hop), None);
    // Above the low mark again, and below the high one: nobody waits.
    assert_eq!(refused(&mut hop), None);
    assert_eq!(refused(&mut hop), Some(LendError::Quota));
}

#[test]
fn bytes_count_as_buffers_do() {
    let mut hop = Hop::new(&Path::default(), four());
    let large = part(&mut hop, 900);
    let held = hop.hand_over(large);
    let offered = [part(&mut hop, 101)];
    assert_eq!(hop.leases.has_room(&offered, 101), Err(LendError::Quota));
    let small = [part(&mut hop, 1)];
    assert_eq!(hop.leases.has_room(&small, 1), Err(LendError::Quota), "until it gave some back");
    drop(held);
    hop.collect();
    assert_eq!(hop.leases.has_room(&offered, 101), Ok(()));
    assert_eq!(hop.leases.lent_bytes(), 0);
}

#[test]
fn more_than_the_receiver_may_ever_hold_is_refused_for_good() {
    let mut hop = Hop::new(&Path::default(), four());
    let five: Vec<Part> = (0..5).map(|_| part(&mut hop, 1)).collect();
    assert_eq!(hop.leases.has_room(&five, 5), Err(LendError::TooMuch));
    assert_eq!(hop.leases.has_room(&five[..1], 1001), Err(LendError::TooMuch));
    assert_eq!(hop.leases.has_room(&five[..4], 4), Ok(()), "a refusal changes nothing");
}

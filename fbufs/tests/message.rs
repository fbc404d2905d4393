//! A message does what a vector of bytes would do, by moving none.

mod support;

use std::io::IoSlice;

use bytes::Buf;
use fbufs::{MAX_HEADER, Message, NoHeadroom, Part, Path, Pool, Quota, ReadError};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use support::{Hop, TOTAL, region};

#[derive(Clone, Debug)]
enum Op {
    Push(Vec<u8>),
    PushWith(Vec<u8>),
    Pop(usize),
    Peek(usize, usize),
    Skip(usize),
    Truncate(usize),
    /// Splits bytes off and keeps what is left.
    DropFront(usize),
    /// Splits bytes off and keeps them.
    KeepFront(usize),
    /// Splits bytes off and appends the rest again.
    Rejoin(usize),
    /// Appends bytes: own, or volatile.
    Append(Vec<u8>, bool),
    /// Appends a part of itself.
    AppendSelf(usize, usize),
    /// Goes on with a clone.
    Clone,
    Advance(usize),
    CopyToSlice(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let header = || prop::collection::vec(any::<u8>(), 0..40);
    let some = || prop_oneof![4 => 0usize..50, 2 => 0usize..1500, 1 => 0usize..9000];
    let bytes = prop_oneof![4 => 0usize..64, 1 => 0usize..4096];
    prop_oneof![
        4 => header().prop_map(Op::Push),
        3 => header().prop_map(Op::PushWith),
        4 => (0..=MAX_HEADER).prop_map(Op::Pop),
        2 => (some(), 0..=MAX_HEADER).prop_map(|(offset, len)| Op::Peek(offset, len)),
        2 => some().prop_map(Op::Skip),
        1 => some().prop_map(Op::Truncate),
        2 => some().prop_map(Op::DropFront),
        1 => some().prop_map(Op::KeepFront),
        2 => some().prop_map(Op::Rejoin),
        6 => (bytes, any::<u8>(), any::<bool>()).prop_map(|(len, first, volatile)| {
            Op::Append((0..len).map(|at| first.wrapping_add(at as u8)).collect(), volatile)
        }),
        1 => (some(), some()).prop_map(|(at, len)| Op::AppendSelf(at, len)),
        1 => Just(Op::Clone),
        2 => some().prop_map(Op::Advance),
        2 => some().prop_map(Op::CopyToSlice),
    ]
}

/// Own buffers of one pool, volatile ones of a hop.
struct Scene {
    pool: Pool,
    hop: Hop,
}

impl Scene {
    fn new() -> Self {
        Self { pool: region(), hop: Hop::new(&Path::default(), Quota::default()) }
    }

    /// A message of these bytes; `None` where no buffer is left.
    fn message(&mut self, bytes: &[u8], volatile: bool) -> Option<Message> {
        if volatile {
            self.hop.collect();
            let mut fbuf = self.hop.pool.alloc(bytes.len()).ok()?;
            fbuf.copy_from_slice(bytes);
            return Some(self.hop.hand_over(Part::Own(fbuf.freeze())).into());
        }
        let headroom = if bytes.len().is_multiple_of(2) { 32 } else { 0 };
        let mut rest = bytes;
        let fill = |room: &mut [u8]| {
            let (now, later) = rest.split_at(room.len());
            room.copy_from_slice(now);
            rest = later;
        };
        self.pool.message(headroom, bytes.len(), fill).ok()
    }

    /// Everything was dropped: every buffer is at home, and nothing was copied on the way.
    fn check_tidy(mut self) -> Result<(), TestCaseError> {
        self.hop.collect();
        prop_assert_eq!((self.pool.free(), self.hop.pool.free()), (TOTAL, TOTAL));
        prop_assert_eq!((self.hop.leases.lent(), self.hop.holdings.held()), (0, 0));
        let copied = (self.pool.copied(), self.hop.pool.copied(), self.hop.holdings.copied());
        prop_assert_eq!(copied, (0, 0, 0), "payload was copied");
        Ok(())
    }
}

/// One step on both; whether it was done.
fn step(scene: &mut Scene, message: &mut Message, model: &mut Vec<u8>, op: Op) -> TestCaseResult {
    match op {
        Op::Push(header) => {
            let room = message.headroom();
            match message.push(&header) {
                Ok(()) => {
                    prop_assert!(header.len() <= room);
                    model.splice(0..0, header);
                }
                Err(NoHeadroom) => prop_assert!(header.len() > room || room == 0),
            }
        }
        Op::PushWith(header) => {
            if message.push_with(&mut scene.pool, &header).is_ok() {
                model.splice(0..0, header);
            } else {
                prop_assert_eq!(scene.pool.free(), 0, "the smallest will do");
            }
        }
        Op::Pop(len) => {
            let mut header = vec![0; len];
            if message.pop(&mut header) == Err(ReadError::OutOfRange) {
                prop_assert!(len > model.len());
            } else {
                prop_assert_eq!(header, model.drain(..len).collect::<Vec<_>>());
            }
        }
        Op::Peek(offset, len) => {
            let mut bytes = vec![0; len];
            let there = model.get(offset..).and_then(|rest| rest.get(..len));
            prop_assert_eq!(message.peek(offset, &mut bytes).is_ok(), there.is_some());
            if let Some(there) = there {
                prop_assert_eq!(&bytes, there);
            }
        }
        Op::Skip(count) => {
            message.skip(count);
            model.drain(..count.min(model.len()));
        }
        Op::Truncate(len) => {
            message.truncate(len);
            model.truncate(len);
        }
        Op::DropFront(at) | Op::KeepFront(at) | Op::Rejoin(at) => {
            let Some(front) = message.split_to(at) else {
                prop_assert!(at > model.len());
                return Ok(());
            };
            let rest = model.split_off(at);
            agrees(&front, model)?;
            agrees(message, &rest)?;
            match op {
                Op::DropFront(_) => *model = rest,
                Op::KeepFront(_) => *message = front,
                _ => {
                    let tail = std::mem::replace(message, front);
                    message.append(tail);
                    model.extend(rest);
                }
            }
        }
        Op::Append(bytes, volatile) => {
            if let Some(tail) = scene.message(&bytes, volatile) {
                message.append(tail);
                model.extend(bytes);
            }
        }
        Op::AppendSelf(at, len) => {
            let mut tail = message.clone();
            tail.skip(at);
            tail.truncate(len);
            let copy: Vec<u8> = model.iter().skip(at).take(len).copied().collect();
            message.append(tail);
            model.extend(copy);
        }
        Op::Clone => *message = message.clone(),
        Op::Advance(count) if count <= model.len() => {
            message.advance(count);
            model.drain(..count);
        }
        Op::CopyToSlice(len) if len <= model.len() => {
            let mut bytes = vec![0; len];
            message.copy_to_slice(&mut bytes);
            prop_assert_eq!(bytes, model.drain(..len).collect::<Vec<_>>());
        }
        Op::Advance(_) | Op::CopyToSlice(_) => {}
    }
    Ok(())
}

/// Every way to read a message says that it has these bytes. None counts as a copy of payload.
fn agrees(message: &Message, bytes: &[u8]) -> TestCaseResult {
    prop_assert_eq!((message.len(), message.remaining()), (bytes.len(), bytes.len()));
    prop_assert_eq!(
        (message.is_empty(), message.has_remaining()),
        (bytes.is_empty(), !bytes.is_empty())
    );
    prop_assert_eq!(message.parts().iter().map(Part::len).sum::<usize>(), bytes.len());
    let mut chunks = Vec::new();
    message.for_each_chunk(|chunk| chunks.extend_from_slice(chunk)).expect("nothing was revoked");
    prop_assert!(chunks == bytes, "chunk by chunk");
    prop_assert!(bytes.starts_with(message.chunk()));
    prop_assert_eq!(message.chunk().is_empty(), bytes.is_empty());
    let mut slices = [IoSlice::new(&[]); 4];
    let filled = message.chunks_vectored(&mut slices);
    prop_assert_eq!(filled == 0, bytes.is_empty());
    let joined: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
    prop_assert!(bytes.starts_with(&joined), "the first slices");
    let io = message.io_slices();
    prop_assert_eq!(io.is_none(), message.is_volatile());
    if let Some(slices) = io {
        let joined: Vec<u8> = slices.flat_map(|slice| slice.to_vec()).collect();
        prop_assert!(joined == bytes, "slice by slice");
    }
    let mut begin = 0;
    for part in message.parts().iter().filter(|part| !part.is_empty()) {
        let end = begin + part.len();
        let own = matches!(part, Part::Own(_)).then(|| &bytes[begin..end]);
        prop_assert!(message.slice(begin..end) == own, "part by part");
        prop_assert!(message.slice(end - 1..end + 1).is_none(), "of two parts");
        begin = end;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn a_message_is_as_a_vector_would_be_and_copies_nothing(
        ops in prop::collection::vec(op(), 1..50),
    ) {
        let mut scene = Scene::new();
        let (mut message, mut model) = (Message::new(), Vec::new());
        for op in ops {
            step(&mut scene, &mut message, &mut model, op)?;
            // As long as a step can make it: many steps of doubling would take all day.
            if model.len() > 60_000 || message.parts().len() > 200 {
                message.truncate(100);
                model.truncate(100);
            }
            agrees(&message, &model)?;
        }
        drop(message);
        scene.check_tidy()?;
    }

    #[test]
    fn a_message_in_many_buffers_is_what_was_filled_in(len in 0usize..12_000, headroom in 0usize..64) {
        let mut pool = region();
        let mut next = 0u8;
        let filled = pool.message(headroom, len, |room| {
            for byte in room {
                *byte = next;
                next = next.wrapping_add(1);
            }
        });
        let Ok(mut message) = filled else {
            prop_assert!(len + headroom > 12_000, "there were three large ones");
            prop_assert_eq!(pool.free(), TOTAL, "nothing is taken");
            return Ok(());
        };
        prop_assert_eq!(message.headroom(), headroom);
        message.push(&vec![0xEE; headroom]).expect("there is room");
        message.skip(headroom);
        let expected: Vec<u8> = (0..len).map(|at| at as u8).collect();
        agrees(&message, &expected)?;
        drop(message);
        prop_assert_eq!((pool.free(), pool.copied()), (TOTAL, 0));
    }
}

#[test]
fn securing_copies_the_volatile_parts_once_and_counts_it() {
    let mut scene = Scene::new();
    let mut message = scene.message(&[1; 100], false).expect("a buffer is free");
    message.append(scene.message(&[2; 200], true).expect("a buffer is free"));
    message.append(scene.message(&[3; 300], true).expect("a buffer is free"));
    assert!(message.is_volatile() && message.io_slices().is_none());
    assert_eq!(message.secure(&mut scene.pool), Ok(500));
    assert!(!message.is_volatile());
    assert_eq!(scene.pool.copied(), 500);
    assert_eq!(message.secure(&mut scene.pool), Ok(0));
    scene.hop.collect();
    assert_eq!(scene.hop.leases.lent(), 0, "what was copied is given back");
    let expected = [vec![1; 100], vec![2; 200], vec![3; 300]].concat();
    agrees(&message, &expected).expect("the same bytes");
}

#[test]
fn a_copy_of_payload_is_counted_and_a_header_is_not() {
    let mut scene = Scene::new();
    let mut message = scene.message(&[2; 2000], true).expect("a buffer is free");
    message.pop(&mut [0; MAX_HEADER]).expect("it is as long");
    assert_eq!(scene.hop.holdings.copied(), 0);
    message.peek(0, &mut [0; MAX_HEADER + 1]).expect("it is as long");
    assert_eq!(scene.hop.holdings.copied(), MAX_HEADER as u64 + 1);
    message.to_vec().expect("nothing was revoked");
    assert_eq!(scene.hop.holdings.copied(), 2001);
}

#[test]
fn words_of_a_part_are_its_bytes_wherever_it_begins() {
    let mut scene = Scene::new();
    let bytes: Vec<u8> = (0..255).collect();
    let whole = scene.hop.lend_bytes(&bytes);
    for (start, end) in [(0, 255), (0, 8), (8, 16), (1, 255), (3, 4), (7, 7), (200, 255)] {
        let part = whole.slice(start..end).expect("within");
        let mut read = Vec::new();
        part.for_each_word(|word| read.extend(word.to_ne_bytes())).expect("nothing was revoked");
        assert!(read[end - start..].iter().all(|byte| *byte == 0), "filled up with zeros");
        assert!(read.len() < end - start + 8);
        assert_eq!(read[..end - start], bytes[start..end]);
    }
    assert_eq!(scene.hop.holdings.copied(), 0);
}

#[test]
#[should_panic(expected = "past the end")]
fn advancing_past_the_end_is_a_mistake_of_the_callers() {
    Message::new().advance(1);
}

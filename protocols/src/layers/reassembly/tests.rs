use fbufs::PoolOptions;
use proptest::prelude::*;

use super::*;
use crate::Pool;

const BOUNDS: Bounds = Bounds {
    datagrams: 4,
    fragments: 16,
    pieces: 24,
    parts: 320,
    bytes: 4096,
    longest: 2048,
    time: Duration::from_secs(30),
};

#[derive(Default)]
struct Counted(Vec<Reason>);

impl Count for Counted {
    fn count(&mut self, reason: Reason) {
        self.0.push(reason);
    }
}

struct World {
    reassembly: Reassembly<u8>,
    counted: Counted,
    pool: Pool,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let pool = Pool::new(PoolOptions::default()).expect("memory is left");
        let counted = Counted::default();
        Self { reassembly: Reassembly::new(BOUNDS), counted, pool, now: Instant(0) }
    }

    fn take(&mut self, key: u8, offset: usize, bytes: &[u8], more: bool) -> Result<bool, Reason> {
        self.whole(key, offset, bytes, more).map(|whole| whole.is_some())
    }

    fn whole(
        &mut self,
        key: u8,
        offset: usize,
        bytes: &[u8],
        more: bool,
    ) -> Result<Option<Vec<u8>>, Reason> {
        let message = self.pool.message(0, bytes.len(), |room| room.copy_from_slice(bytes));
        let message = message.expect("there is room");
        let place = Place { offset, more };
        let whole = self.reassembly.take(key, place, message, self.now, &mut self.counted)?;
        let (datagrams, held) = self.reassembly.holds();
        let unfinished = &self.reassembly.unfinished;
        let pieces: usize = unfinished.iter().map(|unfinished| unfinished.pieces.len()).sum();
        assert_eq!(pieces, self.reassembly.pieces);
        let parts: usize = unfinished.iter().map(|unfinished| unfinished.parts).sum();
        assert_eq!(parts, self.reassembly.parts);
        assert!(parts <= BOUNDS.parts);
        assert!(pieces <= BOUNDS.pieces);
        assert!(datagrams <= BOUNDS.datagrams && held <= BOUNDS.bytes);
        Ok(whole.map(|whole| whole.to_vec().expect("it is ours")))
    }
}

#[test]
fn overlaps_and_second_ends_discredit_the_whole_datagram_for_good() {
    for (offset, len, more) in [(8, 16, true), (0, 8, true), (4, 8, true), (16, 8, false)] {
        let mut world = World::new();
        assert_eq!(world.take(1, 0, &[1; 16], true), Ok(false));
        assert_eq!(world.take(1, 40, &[1; 3], false), Ok(false));
        let expected = Err(Reason::Overlap);
        assert_eq!(world.take(1, offset, &vec![2; len], more), expected, "{offset} {len}");
        assert_eq!(world.counted.0, [Reason::Overlap; 2]);
        assert_eq!(world.take(1, 16, &[1; 24], true), Err(Reason::Overlap));
        assert_eq!(world.reassembly.holds(), (1, 0));
    }
}

#[test]
fn what_lies_behind_the_end_is_refused() {
    let mut world = World::new();
    assert_eq!(world.take(1, 40, &[1; 8], true), Ok(false));
    assert_eq!(world.take(1, 16, &[1; 8], false), Err(Reason::Overlap));
}

#[test]
fn fragments_that_cannot_be_are_refused_and_nothing_is_held_for_them() {
    let mut world = World::new();
    assert_eq!(world.take(1, 0, &[], true), Err(Reason::Malformed));
    assert_eq!(world.take(1, 0, &[1; 7], true), Err(Reason::Malformed));
    assert_eq!(world.take(1, 2040, &[1; 16], true), Err(Reason::TooLarge));
    assert_eq!(world.reassembly.holds(), (0, 0));
}

#[test]
fn one_datagram_of_many_pieces_is_given_up() {
    let mut world = World::new();
    for piece in 0..BOUNDS.fragments {
        assert_eq!(world.take(1, piece * 16, &[1; 8], true), Ok(false));
    }
    assert_eq!(world.take(1, BOUNDS.fragments * 16, &[1; 8], true), Err(Reason::TooLarge));
    assert_eq!(world.reassembly.holds(), (1, 0));
}

#[test]
fn the_oldest_make_room_and_are_counted() {
    let mut world = World::new();
    for key in 0..10 {
        assert_eq!(world.take(key, 0, &[1; 8], true), Ok(false));
    }
    assert_eq!(world.counted.0, [Reason::Incomplete; 6]);
    assert_eq!(world.take(9, 8, &[1; 1], false), Ok(true), "the youngest are still there");
}

#[test]
fn time_ends_what_is_not_complete() {
    let mut world = World::new();
    assert_eq!(world.take(1, 0, &[1; 8], true), Ok(false));
    assert_eq!(world.reassembly.next_deadline(), Some(Instant(0) + BOUNDS.time));
    world.now = Instant(0) + BOUNDS.time;
    assert_eq!(world.take(1, 8, &[1; 8], false), Ok(false));
    assert_eq!(world.counted.0, [Reason::Incomplete]);
}

#[test]
fn many_small_pieces_make_the_oldest_go() {
    let mut world = World::new();
    for key in 0..2 {
        for piece in 0..12 {
            assert_eq!(world.take(key, piece * 16, &[1; 8], true), Ok(false));
        }
    }
    assert_eq!(world.take(3, 0, &[1; 8], true), Ok(false));
    assert_eq!(world.counted.0, [Reason::Incomplete; 12]);
}

#[test]
fn fragments_that_are_ropes_make_no_message_of_too_many_parts() {
    let mut world = World::new();
    let part = Message::from(world.pool.alloc(4).expect("a buffer is left"));
    let mut send = |key: u8, offset: usize, parts: usize, more: bool| {
        let mut rope = Message::new();
        (0..parts).for_each(|_| rope.append(part.clone()));
        let World { reassembly, counted, now, .. } = &mut world;
        let place = Place { offset, more };
        let whole = reassembly.take(key, place, rope, *now, counted);
        assert!(reassembly.parts <= BOUNDS.parts);
        whole.map(|whole| whole.map(|whole| whole.parts().len()))
    };
    assert_eq!(send(1, 0, 128, true), Ok(None));
    assert_eq!(send(1, 512, 128, false), Ok(Some(MAX_PARTS)));
    assert_eq!(send(2, 0, 128, true), Ok(None));
    assert_eq!(send(2, 512, 129, false), Err(Reason::TooLarge));
    assert_eq!(send(3, 0, 200, true), Ok(None));
    assert_eq!(send(4, 0, 200, true), Ok(None));
    assert_eq!(world.counted.0, [Reason::TooLarge, Reason::Incomplete], "the oldest made room");
    assert_eq!(world.reassembly.holds().0, 1);
}

proptest! {
    #[test]
    fn pieces_in_any_order_make_the_whole_or_nothing(
        bytes in prop::collection::vec(any::<u8>(), 1..600),
        cuts in prop::collection::vec(1usize..12, 1..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        lost in any::<Option<prop::sample::Index>>(),
    ) {
        let mut pieces = Vec::new();
        let (mut at, mut cuts) = (0, cuts.into_iter());
        while at < bytes.len() {
            let cut = cuts.next().map_or(bytes.len(), |cut| cut * 8).min(bytes.len() - at);
            pieces.push((at, &bytes[at..at + cut]));
            at += cut;
        }
        let last = pieces.last().map(|(at, _)| *at);
        let lost = lost.map(|lost| lost.index(pieces.len()));
        // First in an order of no sense, with copies; then all of them once more.
        let mut sent: Vec<usize> = order.iter().map(|index| index.index(pieces.len())).collect();
        sent.extend(0..pieces.len());
        let mut world = World::new();
        let mut came = None;
        for piece in sent {
            if lost == Some(piece) || came.is_some() {
                continue;
            }
            let (at, piece) = pieces[piece];
            match world.whole(1, at, piece, Some(at) != last) {
                Ok(whole) => came = whole,
                Err(reason) => prop_assert_eq!(reason, Reason::Duplicate),
            }
        }
        prop_assert_eq!(came, lost.is_none().then_some(bytes));
    }

    #[test]
    fn no_fragments_break_the_bounds(
        fragments in prop::collection::vec(
            (0u8..8, 0usize..300, 0usize..300, any::<bool>(), 0u64..5), 0..200),
    ) {
        let mut world = World::new();
        for (key, offset, len, more, later) in fragments {
            world.now = world.now + Duration::from_secs(later);
            // Whatever it answers, `whole` looks at what is held.
            let _ = world.whole(key, offset * 8, &vec![key; len], more);
        }
    }
}

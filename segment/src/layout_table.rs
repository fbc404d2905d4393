//! `docs/src/segment-layout.md` compared with the code, table by table, in both directions.

use std::os::fd::AsFd;

use crate::book::{bits, columns, cover_a_word, number, table};
use crate::counters::{CELLS, Counter};
use crate::free_queue::{CAPACITY, Returns};
use crate::geometry::{self, ARMED, COUNTERS, CPU, CREDIT, EPOCHS, FREE_QUEUE, Geometry};
use crate::geometry::{HEADER, OwnSegment, PeerSegment, SEND_QUEUE};
use crate::ring::{self, Cell, Producer};
use crate::sync::{AtomicU64, Ordering};
use crate::{Fault, Incarnation, memory};

fn pair(geometry: Geometry) -> (OwnSegment, PeerSegment) {
    let incarnation = Incarnation(7);
    let own = geometry.create(incarnation, false).expect("a segment");
    let peer = Geometry::attach(own.as_fd(), incarnation).expect("it is sound");
    (own, peer)
}

fn word(own: &OwnSegment, offset: usize) -> u64 {
    own.cells::<AtomicU64>(offset, 1)[0].load(Ordering::Acquire)
}

#[test]
fn the_control_pages_are_as_its_table_says() {
    let rows = table("The control pages", 0);
    let code = [
        ("HEADER", HEADER, Some(geometry::HEADER_BYTES)),
        ("ARMED", ARMED, Some(8)),
        ("CREDIT", CREDIT, Some(8)),
        ("CPU", CPU, Some(8)),
        ("COUNTERS", COUNTERS, Some(CELLS * 8)),
        ("FREE_QUEUE", FREE_QUEUE, Some(CAPACITY * 8)),
        ("EPOCHS", EPOCHS, Some(geometry::MAX_BUFFERS * 8)),
        ("SEND_QUEUE", SEND_QUEUE, None),
    ];
    // Every constant of the source that is an offset is among them.
    let source = include_str!("geometry.rs");
    let offsets = source.lines().filter_map(|line| line.strip_prefix("pub const "));
    let offsets: Vec<&str> = offsets
        .filter_map(|line| line.strip_suffix(';')?.split_once(": usize = "))
        .filter(|(_, value)| value.starts_with("0x") || *value == "0")
        .map(|(name, _)| name)
        .collect();
    assert_eq!(offsets, code.map(|(name, ..)| name), "the test lacks an offset");

    let found = code.map(|(name, offset, bytes)| {
        [format!("{offset:#x}"), bytes.map_or(String::new(), |b| b.to_string()), name.to_owned()]
    });
    assert_eq!(columns(&rows, [0, 1, 2]), found);
}

#[test]
fn what_one_side_polls_and_the_other_writes_shares_no_cache_line() {
    let lines = [ARMED, CREDIT, CPU, COUNTERS, FREE_QUEUE, EPOCHS, SEND_QUEUE];
    let lines = lines.map(|offset| offset / 64);
    assert!(lines.is_sorted_by(|a, b| a < b));
    assert!(lines.iter().all(|line| line * 64 >= geometry::HEADER_BYTES));
}

#[test]
fn the_parts_and_limits_of_a_segment_are_as_their_tables_say() {
    let parts = table("The parts of a segment", 0);
    assert_eq!(number(&parts[0][1]), HEADER);
    assert_eq!(number(&parts[0][2]), SEND_QUEUE);
    assert_eq!(number(&parts[1][1]), SEND_QUEUE);
    assert_eq!(parts.len(), 4);

    let mut geometry = Geometry { slots: 8, area_bytes: 64, ..Geometry::default() };
    geometry.classes = [geometry::Class::default(); geometry::MAX_CLASSES];
    geometry.classes[0] = geometry::Class { buffer_bytes: 64, buffers: 3 };
    geometry.classes[1] = geometry::Class { buffer_bytes: 8192, buffers: 1 };
    assert_eq!(geometry.area_offset(), SEND_QUEUE + 4096);
    assert_eq!(geometry.class_offset(0), geometry.area_offset() + 4096);
    assert_eq!(geometry.class_offset(1), geometry.class_offset(0) + 4096);
    assert_eq!(geometry.total_bytes(), geometry.class_offset(1) + 8192);
    assert_eq!(Geometry { huge_pages: true, ..geometry }.total_bytes(), 2 << 20);

    let limits = [
        ("layout version", geometry::VERSION as usize),
        ("slots, fewest (a region: 0)", *geometry::SLOTS.start() as usize),
        ("slots, most", *geometry::SLOTS.end() as usize),
        ("size classes of a pool", geometry::MAX_CLASSES),
        ("buffers of a pool, all classes", geometry::MAX_BUFFERS),
        ("bytes of a buffer, most", geometry::MAX_BUFFER_BYTES),
        ("bytes of a segment, most", memory::MAX_SEGMENT_BYTES),
        ("bytes of a slot", ring::SLOT_BYTES),
        ("payload bytes of a slot", ring::SLOT_PAYLOAD),
        ("payload bytes of a slot beside a descriptor", ring::SLOT_PAYLOAD - 16),
    ];
    let written = columns(&table("The parts of a segment", 1), [0, 1]);
    assert_eq!(written, limits.map(|(name, value)| [name.to_owned(), value.to_string()]));
}

#[test]
fn a_slots_first_word_is_as_its_table_says() {
    let rows = columns(&table("A slot's first word", 0), [0, 1]);
    cover_a_word(rows.iter().map(|[range, _]| range.as_str()));
    let (own, peer) = pair(Geometry { slots: 8, ..Geometry::default() });
    let field = |word, name: &str| {
        let [range, _] = rows.iter().find(|[_, field]| field == name).expect("it has a row");
        bits(range, word)
    };
    let first = word(&own, SEND_QUEUE);
    assert_eq!(field(first, "sequence"), u64::from(1u32.wrapping_sub(8)), "the lap before");

    let mut producer = Producer::attach(&own, &peer);
    let mut cell = Cell::new(0x1234);
    assert!(cell.append_descriptor([5, 6]) && cell.append(b"abc"));
    producer.try_push(&cell).expect("there is room");
    producer.try_push(&Cell::new(9)).expect("there is room");
    let words = [SEND_QUEUE, SEND_QUEUE + ring::SLOT_BYTES].map(|offset| word(&own, offset));
    let all: Vec<[u64; 2]> = rows.iter().map(|[_, name]| words.map(|w| field(w, name))).collect();
    assert_eq!(all, [[1, 2], [0x1234, 9], [1, 0], [19, 0]], "in the order of the table");
    let names: Vec<&str> = rows.iter().map(|[_, name]| name.as_str()).collect();
    assert_eq!(names, ["sequence", "tag", "descriptors", "length"]);
    assert_eq!([8, 16].map(|at| word(&own, SEND_QUEUE + at)), [5, 6], "descriptors come first");
    let mut marked = Cell::new(0);
    marked.append_descriptor([7, 8]);
    marked.mark(0x80);
    producer.try_push(&marked).expect("there is room");
    let third = word(&own, SEND_QUEUE + 2 * ring::SLOT_BYTES);
    assert_eq!(field(third, "descriptors"), 0x81, "MORE is bit 15 of the word");
}

#[test]
fn a_word_of_the_free_queue_is_as_its_table_says() {
    let rows = columns(&table("A word of the free queue", 0), [0, 1]);
    cover_a_word(rows.iter().map(|[range, _]| range.as_str()));
    let names: Vec<&str> = rows.iter().map(|[_, name]| name.as_str()).collect();
    assert_eq!(names, ["sequence", "left_behind", "lease", "generation"]);
    let (own, _) = pair(Geometry { slots: 8, ..Geometry::default() });
    let fields = |word| rows.iter().map(|[range, _]| bits(range, word)).collect::<Vec<_>>();
    let before = u64::from(1u16.wrapping_sub(CAPACITY as u16));
    assert_eq!(fields(word(&own, FREE_QUEUE)), [before, 0, 0, 0]);
    let returns = Returns::attach(&own);
    returns.push(0x1234, 0x89ab_cdef);
    returns.push(0x8001, 2);
    assert_eq!(fields(word(&own, FREE_QUEUE)), [1, 0, 0x1234, 0x89ab_cdef]);
    assert_eq!(fields(word(&own, FREE_QUEUE + 8)), [2, 1, 1, 2]);
}

#[test]
fn the_counters_are_as_their_tables_say() {
    let counters = columns(&table("Counters", 0), [0, 1]);
    let code = Counter::ALL.map(|(counter, name)| [(counter as usize).to_string(), name.into()]);
    assert_eq!(counters, code);
    let numbers: Vec<usize> = counters.iter().map(|[word, _]| number(word)).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len()), "a counter is missing in `ALL`");
    // `Counter` says of itself how many there are: those of its source.
    let source = include_str!("counters.rs");
    let variants = source.lines().skip_while(|line| *line != "pub enum Counter {");
    let variants = variants.take_while(|line| *line != "}").filter(|line| line.contains(" = "));
    assert_eq!(variants.count(), counters.len() + Counter::OF_RPC.len());

    let faults = columns(&table("Counters", 1), [0, 1]);
    let first = crate::counters::FIRST_FAULT;
    let code =
        Fault::ALL.map(|fault| [(first + fault as usize).to_string(), fault.name().to_owned()]);
    assert_eq!(faults, code);

    let of_rpc = columns(&table("Counters", 2), [0, 1]);
    let code = Counter::OF_RPC.map(|(counter, name)| [(counter as usize).to_string(), name.into()]);
    assert_eq!(of_rpc, code);
    let first = crate::counters::FIRST_OF_RPC;
    assert!(of_rpc.iter().map(|[word, _]| number(word)).eq(first..first + of_rpc.len()));
}

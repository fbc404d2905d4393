//! What holds for whatever a peer writes: every check of this crate, on arbitrary words and bytes.

use std::sync::Arc;

use proptest::prelude::*;

use crate::Fault;
use crate::control::{DecodeError, Frame, MAX_PRIVATE};
use crate::free_queue::{self, CAPACITY, Reclaims, Returns};
use crate::geometry::{Class, Geometry, HEADER_BYTES, MAX_BUFFER_BYTES, MAX_BUFFERS};
use crate::geometry::{MAX_CLASSES, SLOTS};
use crate::memory::{AttachError, MAX_SEGMENT_BYTES};
use crate::ring::{Cell, Consumer, Popped, Producer, PushRefusal, SLOT_PAYLOAD, Slot};
use crate::sync::{AtomicU64, Ordering};
use crate::view::View;

/// Anything, but often near something that means something.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..64,
        (0u64..40, 0u64..0x1_0000).prop_map(|(sequence, low)| sequence << 32 | low),
        (0u64..600, any::<u32>()).prop_map(|(sequence, low)| sequence << 48 | u64::from(low)),
        Just(u64::MAX),
    ]
}

fn class() -> impl Strategy<Value = Class> {
    let bytes = prop_oneof![any::<u32>(), (1u32..2000).prop_map(|lines| lines * 64), Just(0)];
    let buffers = prop_oneof![any::<u32>(), 0u32..300];
    (bytes, buffers).prop_map(|(buffer_bytes, buffers)| Class { buffer_bytes, buffers })
}

fn geometry() -> impl Strategy<Value = Geometry> {
    let slots = prop_oneof![any::<u32>(), (0u32..20).prop_map(|shift| 1 << shift), Just(0)];
    let area = prop_oneof![any::<u32>(), (0u32..100).prop_map(|lines| lines * 64), Just(0)];
    (slots, area, prop::array::uniform6(class()), any::<bool>()).prop_map(
        |(slots, area_bytes, mut classes, huge_pages)| {
            // Often in order, as a valid one's are.
            if slots % 2 == 0 {
                classes.sort_by_key(|class| (class.buffer_bytes == 0, class.buffer_bytes));
            }
            Geometry { slots, area_bytes, classes, huge_pages }
        },
    )
}

/// What a layout that was accepted may be relied on for.
fn is_sound(geometry: &Geometry) -> Result<(), TestCaseError> {
    if geometry.is_valid_region() {
        prop_assert_eq!((geometry.slots, geometry.area_bytes), (0, 0));
        prop_assert!(!geometry.is_valid(), "it is never both");
    } else {
        prop_assert!(SLOTS.contains(&geometry.slots) && geometry.slots.is_power_of_two());
    }
    prop_assert!(geometry.total_bytes() <= MAX_SEGMENT_BYTES);
    let mut end = geometry.area_offset() + geometry.area_bytes as usize;
    let mut buffers = 0;
    for (number, class) in geometry.classes.iter().enumerate() {
        prop_assert!(class.buffer_bytes as usize <= MAX_BUFFER_BYTES);
        prop_assert!(geometry.class_offset(number) >= end, "parts do not overlap");
        prop_assert_eq!(geometry.class_offset(number) % 4096, 0);
        end = geometry.class_offset(number) + class.buffer_bytes as usize * class.buffers as usize;
        buffers += class.buffers as usize;
    }
    prop_assert!(buffers <= MAX_BUFFERS, "the free queue holds them all");
    prop_assert!(end <= geometry.total_bytes(), "the last part ends within the segment");
    Ok(())
}

/// A cell that carries these bytes.
fn cell(tag: u16, bytes: &[u8]) -> Cell {
    let mut cell = Cell::new(tag);
    assert!(cell.append(bytes), "it fits");
    cell
}

/// Takes the next cell, if there is one.
fn try_pop(consumer: &mut Consumer) -> Result<Option<Cell>, Fault> {
    let mut cell = Cell::new(0);
    Ok((consumer.try_pop(&mut cell)? != Popped::Nothing).then_some(cell))
}

/// A header's bytes, as a peer could write them.
fn header(geometry: &Geometry, version: u32, total: u64) -> Vec<u8> {
    let mut bytes = crate::geometry::MAGIC.to_ne_bytes().to_vec();
    bytes.extend(version.to_ne_bytes());
    bytes.extend(geometry.slots.to_ne_bytes());
    bytes.extend(7u64.to_ne_bytes());
    bytes.extend(total.to_ne_bytes());
    bytes.extend(geometry.area_bytes.to_ne_bytes());
    bytes.extend(u32::from(geometry.huge_pages).to_ne_bytes());
    for class in geometry.classes {
        bytes.extend(class.buffer_bytes.to_ne_bytes());
        bytes.extend(class.buffers.to_ne_bytes());
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_header_of_any_bytes_is_refused_or_sound(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        len in any::<usize>(),
    ) {
        if let Ok(geometry) = Geometry::check_header(&bytes, len) {
            is_sound(&geometry)?;
        }
    }

    #[test]
    fn a_header_of_any_layout_is_refused_or_sound_and_of_its_segments_size(
        layout in geometry(),
        lies in prop::option::of((0usize..HEADER_BYTES, any::<u8>())),
        wrong in any::<bool>(),
    ) {
        // Only a layout that is in bounds has a size that can be computed.
        let len = if layout.is_valid() { layout.total_bytes() } else { 1 << 20 };
        let mut bytes = header(&layout, crate::geometry::VERSION, len as u64);
        if let Some((at, byte)) = lies {
            bytes[at] = byte;
        }
        let said = len + usize::from(wrong);
        match Geometry::check_header(&bytes, said) {
            Ok(accepted) => {
                is_sound(&accepted)?;
                prop_assert_eq!(accepted.total_bytes(), said);
            }
            Err(AttachError::WrongLayout) if lies.is_none() => prop_assert!(!layout.is_valid()),
            Err(error) if lies.is_none() => {
                prop_assert_eq!(error, AttachError::WrongSize);
                prop_assert!(wrong);
            }
            Err(_) => {}
        }
    }

    #[test]
    fn a_layout_that_calls_itself_valid_is_sound(layout in geometry()) {
        if layout.is_valid() || layout.is_valid_region() {
            is_sound(&layout)?;
        }
    }

    #[test]
    fn a_valid_layout_is_made_and_attached_as_it_is(
        shift in 3u32..9,
        area in 0u32..100,
        lines in prop::collection::btree_set(1u32..100, 0..MAX_CLASSES),
        buffers in 1u32..20,
    ) {
        use std::os::fd::AsFd;
        let mut layout = Geometry {
            slots: 1 << shift,
            area_bytes: area * 64,
            classes: Default::default(),
            huge_pages: false,
        };
        for (class, lines) in layout.classes.iter_mut().zip(lines) {
            *class = Class { buffer_bytes: lines * 64, buffers };
        }
        prop_assert!(layout.is_valid());
        let own = layout.create(crate::Incarnation(9), false).expect("it is valid");
        let peer = Geometry::attach(own.as_fd(), crate::Incarnation(9)).expect("it is honest");
        let as_region = Geometry::attach_region(own.as_fd()).err();
        prop_assert_eq!(as_region, Some(AttachError::WrongLayout));
        prop_assert_eq!(peer.geometry(), &layout);
        prop_assert_eq!(peer.area().len(), layout.area_bytes as usize);
        for (number, class) in layout.classes.iter().enumerate() {
            let bytes = class.buffer_bytes as usize * class.buffers as usize;
            let end = layout.class_offset(number) + bytes;
            prop_assert!(end <= peer.all().len(), "every class lies within what is mapped");
        }

        let region = Geometry::region(layout.classes, false);
        prop_assert!(region.is_valid_region());
        let own = region.create(crate::Incarnation(9), false).expect("it is valid");
        let peer = Geometry::attach_region(own.as_fd()).expect("it is honest");
        prop_assert_eq!(peer.geometry(), &region);
        let as_segment = Geometry::attach(own.as_fd(), crate::Incarnation(9)).err();
        prop_assert_eq!(as_segment, Some(AttachError::WrongLayout));
    }

    #[test]
    fn a_frame_of_any_bytes_is_refused_or_bounded(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        prop_assert!(Frame::decode(&bytes).is_err(), "24 bytes are not guessed");
    }

    #[test]
    fn a_frame_of_any_fields_is_refused_by_the_right_name(
        kind in 0u16..8,
        version in prop_oneof![Just(1u16), any::<u16>()],
        value in any::<u64>(),
        claimed in prop_oneof![0u32..200, any::<u32>()],
        actual in 0usize..200,
    ) {
        let mut bytes = b"UNET".to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(version.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes.extend(5u32.to_ne_bytes());
        bytes.extend(claimed.to_ne_bytes());
        bytes.resize(bytes.len() + actual, 0xAB);
        let fits = actual <= MAX_PRIVATE;
        let good = (1..=4).contains(&kind) && claimed as usize == actual;
        match Frame::decode(&bytes) {
            Ok(frame) => {
                prop_assert!(fits && good && version == 1);
                prop_assert_eq!((frame.value, frame.flags), (value, 5));
                prop_assert_eq!(frame.private(), &vec![0xAB; actual][..]);
            }
            Err(DecodeError::Version(theirs)) => {
                prop_assert!(fits && theirs == version && version != 1);
            }
            Err(DecodeError::Malformed) => prop_assert!(!fits || (version == 1 && !good)),
        }
    }

    #[test]
    fn a_slot_of_any_words_is_nothing_a_fault_or_a_cell_within_its_slot(
        honest in 0usize..20,
        scribbled in word(),
        payload in prop::array::uniform7(any::<u64>()),
    ) {
        let slots = Slot::on_heap(8);
        let credit = Arc::new(vec![AtomicU64::new(0)]);
        let mut producer = Producer::new(View::heap(&slots), View::heap(&credit));
        let mut consumer = Consumer::new(View::heap(&slots), View::heap(&credit));
        for number in 0..honest as u64 {
            prop_assert_eq!(producer.try_push(&cell(3, &number.to_ne_bytes())), Ok(()));
            let taken = try_pop(&mut consumer).expect("it is honest").expect("it was sent");
            prop_assert_eq!((taken.tag(), taken.bytes()), (3, &number.to_ne_bytes()[..]));
        }
        slots[honest % 8].scribble(scribbled, payload);
        let sequence = (scribbled >> 32) as u32;
        let (next, before) = (honest as u32 + 1, (honest as u32 + 1).wrapping_sub(8));
        let len = scribbled as u8 as usize;
        let ready = consumer.is_ready();
        match try_pop(&mut consumer) {
            Ok(None) => {
                prop_assert_eq!(sequence, before);
                prop_assert!(!ready);
            }
            Ok(Some(cell)) => {
                prop_assert!(sequence == next && len <= SLOT_PAYLOAD && ready);
                prop_assert_eq!(cell.bytes().len(), len);
                prop_assert_eq!(cell.tag(), (scribbled >> 16) as u16);
                prop_assert_eq!(cell.descriptors(), (scribbled >> 8) as u8);
                let used = len.div_ceil(8);
                prop_assert_eq!(&cell.words()[..used], &payload[..used]);
            }
            Err(fault) => {
                let long = sequence == next;
                prop_assert_eq!(fault, if long { Fault::SlotLength } else { Fault::SlotSequence });
                prop_assert!(!long || len > SLOT_PAYLOAD);
                prop_assert!(sequence != before && ready);
            }
        }
    }

    #[test]
    fn a_credit_of_any_value_is_a_fault_or_room_for_what_was_consumed(
        credits in prop::collection::vec(prop_oneof![0u64..64, any::<u64>()], 1..20),
    ) {
        let slots = Slot::on_heap(8);
        let credit = Arc::new(vec![AtomicU64::new(0)]);
        let mut producer = Producer::new(View::heap(&slots), View::heap(&credit));
        let (mut sent, mut known) = (0u64, 0u64);
        for said in credits {
            // Full by what is known, so that the word is read.
            while sent < known + 8 {
                prop_assert_eq!(producer.try_push(&Cell::default()), Ok(()));
                sent += 1;
            }
            credit[0].store(said, Ordering::Relaxed);
            let outcome = producer.try_push(&Cell::default());
            if said < known || said > sent {
                prop_assert_eq!(outcome, Err(PushRefusal::Fault(Fault::Credit)));
                return Ok(());
            }
            known = said;
            if said + 8 == sent {
                prop_assert_eq!(outcome, Err(PushRefusal::Full));
            } else {
                prop_assert_eq!(outcome, Ok(()));
                sent += 1;
            }
        }
        prop_assert_eq!(producer.sent(), sent);
    }

    #[test]
    fn a_ring_carries_any_cells_in_order_through_any_number_of_laps(
        cells in prop::collection::vec(
            (any::<u16>(), prop::collection::vec(any::<u8>(), 0..=SLOT_PAYLOAD)),
            0..100,
        ),
        greed in prop::collection::vec(0usize..10, 1..50),
    ) {
        let slots = Slot::on_heap(8);
        let credit = Arc::new(vec![AtomicU64::new(0)]);
        let mut producer = Producer::new(View::heap(&slots), View::heap(&credit));
        let mut consumer = Consumer::new(View::heap(&slots), View::heap(&credit));
        let (mut sent, mut received) = (0, 0);
        let mut turns = greed.iter().cycle();
        while received < cells.len() {
            while sent < cells.len() {
                let (tag, bytes) = &cells[sent];
                if producer.try_push(&cell(*tag, bytes)) == Err(PushRefusal::Full) {
                    prop_assert!(sent - received > 8 - 2, "full but for the credit's delay");
                    break;
                }
                sent += 1;
            }
            prop_assert!(sent - received <= 8);
            for _ in 0..*turns.next().expect("it repeats") + 1 {
                let taken = try_pop(&mut consumer).expect("it is honest");
                let Some(cell) = taken else { break };
                let (tag, bytes) = &cells[received];
                prop_assert_eq!((cell.tag(), cell.bytes()), (*tag, &bytes[..]));
                received += 1;
            }
        }
        prop_assert!(matches!(try_pop(&mut consumer), Ok(None)));
    }

    #[test]
    fn a_free_queue_of_any_words_is_nothing_a_fault_or_a_return(
        honest in 0usize..600,
        scribbled in word(),
    ) {
        let words = free_queue::on_heap();
        let returns = Returns::new(View::heap(&words));
        let mut reclaims = Reclaims::new(View::heap(&words));
        for number in 0..honest {
            returns.push(number as u16, number as u32);
            prop_assert_eq!(reclaims.try_pop(), Ok(Some((number as u16, number as u32))));
        }
        words[honest % CAPACITY].store(scribbled, Ordering::Relaxed);
        let sequence = (scribbled >> 48) as u16;
        let next = honest as u16 + 1;
        let expected = if sequence == next {
            Ok(Some(((scribbled >> 32) as u16, scribbled as u32)))
        } else if sequence == next.wrapping_sub(CAPACITY as u16) {
            Ok(None)
        } else {
            Err(Fault::FreeSequence)
        };
        prop_assert_eq!(reclaims.try_pop(), expected);
    }
}

//! The format as its chapter has it, and what is refused.

use std::mem::offset_of;

use proptest::prelude::*;

use super::*;
use crate::handshake::book::{columns, compare_fields, number, table_of};

const PAGE: &str = include_str!("../../../docs/src/wire-format.md");

fn data() -> Fields {
    Fields {
        kind: Kind::Data,
        tag: 0x1234,
        channel: 7,
        incarnation: 0x0123_4567_89ab_cdef,
        sequence: 42,
        inline: 0,
        checksum: Checksum::Crc32c,
    }
}

fn message(fields: Fields, body: &[u8]) -> Vec<u8> {
    let mut bytes = fields.to_header(body.len()).as_bytes().to_vec();
    bytes.extend_from_slice(body);
    seal(&mut bytes);
    bytes
}

#[test]
fn the_header_is_as_its_table_says() {
    let fields = [
        ("magic", offset_of!(Header, magic), 1),
        ("version and kind", offset_of!(Header, version_kind), 1),
        ("tag", offset_of!(Header, tag), 2),
        ("channel", offset_of!(Header, channel), 4),
        ("incarnation", offset_of!(Header, incarnation), 8),
        ("sequence", offset_of!(Header, sequence), 8),
        ("length", offset_of!(Header, length), 2),
        ("inline", offset_of!(Header, inline), 1),
        ("policy", offset_of!(Header, policy), 1),
        ("checksum", offset_of!(Header, checksum), 4),
    ];
    compare_fields(&table_of(PAGE, "The header", 0), &fields, HEADER_BYTES);
    assert_eq!(offset_of!(Header, checksum), CHECKSUM_AT.start);
    assert_eq!(offset_of!(Header, policy), 27);
}

#[test]
fn the_kinds_are_as_their_table_says() {
    let found = Kind::ALL.map(|kind| [(kind as u8).to_string(), format!("{kind:?}")]);
    assert_eq!(columns(&table_of(PAGE, "The kinds", 0), [0, 1]), found);
}

#[test]
fn the_vectors_of_the_page_are_what_is_sent_and_what_is_understood() {
    let rows = table_of(PAGE, "Test vectors", 0);
    assert!(rows.len() >= 5);
    for row in rows {
        let [_, kind, tag, channel, incarnation, sequence, inline, checksum, body, bytes] =
            std::array::from_fn(|column| row[column].replace(' ', ""));
        let fields = Fields {
            kind: *Kind::ALL.iter().find(|known| format!("{known:?}") == kind).expect("a kind"),
            tag: number(&tag) as u16,
            channel: number(&channel) as u32,
            incarnation: number(&incarnation) as u64,
            sequence: number(&sequence) as u64,
            inline: number(&inline) as u8,
            checksum: if checksum == "None" { Checksum::None } else { Checksum::Crc32c },
        };
        let hex = |text: &str| -> Vec<u8> {
            let digits: Vec<_> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            digits.chunks(2).map(|pair| byte(pair).expect("hexadecimal")).collect()
        };
        let (body, bytes) = (hex(&body), hex(&bytes));
        assert_eq!(message(fields, &body), bytes, "{row:?}");
        let (read, range) = open(&bytes).expect("it is valid");
        assert_eq!((read, &bytes[range]), (fields, &body[..]));
    }
}

#[test]
fn each_thing_that_is_wrong_has_its_name() {
    let good = message(data(), b"hello");
    let spoilt = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        open(&bytes).unwrap_err()
    };
    assert_eq!(spoilt(0, 0x56), WireError::Magic);
    assert_eq!(spoilt(1, 0x21), WireError::Version(2));
    assert_eq!(spoilt(1, 0x10), WireError::Kind);
    assert_eq!(spoilt(1, 0x19), WireError::Kind);
    assert_eq!(spoilt(24, 4), WireError::Length);
    assert_eq!(spoilt(25, 1), WireError::Length);
    assert_eq!(spoilt(26, 6), WireError::Inline);
    // The bit that says that there is a checksum is not lost unnoticed.
    assert_eq!(spoilt(27, 0), WireError::Checksum);
    assert_eq!(spoilt(27, 2), WireError::Policy);
    assert_eq!(spoilt(27, 0x11), WireError::Policy);
    for at in (2..24).chain(28..37) {
        assert_eq!(spoilt(at, good[at] ^ 0x40), WireError::Checksum, "byte {at}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(open(&longer), Err(WireError::Length));
    for len in 0..good.len() {
        let expected = if len < HEADER_BYTES { WireError::Short } else { WireError::Length };
        assert_eq!(open(&good[..len]), Err(expected));
    }
    let many = message(Fields { inline: 57, ..data() }, &[0; 100]);
    assert_eq!(open(&many), Err(WireError::Inline));
}

#[test]
fn a_body_in_pieces_has_the_checksum_of_the_whole() {
    let whole = message(data(), b"hello, world");
    let mut first = whole[..36].to_vec();
    first[CHECKSUM_AT].fill(0);
    let rest = [&whole[36..40], &whole[40..]];
    seal_pieces(&mut first, rest.into_iter());
    assert_eq!(first, whole[..36]);
    assert_eq!(open_pieces(&first, whole.len(), rest.into_iter()), Ok(data()));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_what_is_accepted_reads_as_it_was_sent(
        mut bytes in prop::collection::vec(any::<u8>(), 0..80),
        ours in any::<bool>(),
    ) {
        if ours && bytes.len() >= HEADER_BYTES {
            let body = bytes.len() - HEADER_BYTES;
            (bytes[0], bytes[1], bytes[27]) = (MAGIC, 0x11 + bytes[1] % 8, 0);
            bytes[CHECKSUM_AT].fill(0);
            bytes[24..26].copy_from_slice(&(body as u16).to_le_bytes());
        }
        let before = bytes.clone();
        if let Ok((fields, body)) = open(&bytes) {
            let again = message(fields, &bytes[body]);
            prop_assert_eq!(&again[..28], &before[..28]);
            prop_assert_eq!(&again[HEADER_BYTES..], &before[HEADER_BYTES..]);
        }
    }
}

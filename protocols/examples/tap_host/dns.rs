//! Just enough of DNS (RFC 1035) to be asked by `dig`: one question, one answer, one name.

use std::net::{Ipv4Addr, Ipv6Addr};

use protocols::{Message, Pool};

/// The one name that is known, as it stands in a question.
const NAME: &[u8] = b"\x04host\x07example\x00";
const IPV4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

const HEADER: usize = 12;
/// The longest name, with its type and class.
const QUESTION: usize = 255 + 4;
const TYPE_A: [u8; 4] = [0, 1, 0, 1];
const TYPE_AAAA: [u8; 4] = [0, 28, 0, 1];

/// The answer to a query, or `None` if it is none: then silence is right.
pub fn answer(query: &Message, pool: &mut Pool, headroom: usize) -> Option<Message> {
    let mut bytes = [0; HEADER + QUESTION];
    let len = query.len().min(bytes.len());
    query.peek(0, &mut bytes[..len]).ok()?;
    let (header, rest) = bytes[..len].split_at_checked(HEADER)?;
    // A query (QR and OPCODE zero) with one question.
    if header[2] & 0xf8 != 0 || header[4..6] != [0, 1] {
        return None;
    }
    let (name, kind) = split_question(rest)?;
    let known = name.eq_ignore_ascii_case(NAME);
    let address: &[u8] = match kind {
        TYPE_A if known => &IPV4.octets(),
        TYPE_AAAA if known => &IPV6.octets(),
        _ => &[],
    };
    let mut said = Vec::with_capacity(512);
    said.extend(&header[..2]);
    // An answer, by an authority, as recursive as was asked for; the name does not exist if it is
    // not ours.
    said.extend([0x84 | header[2] & 1, if known { 0 } else { 3 }]);
    said.extend([0, 1, 0, u8::from(!address.is_empty()), 0, 0, 0, 0]);
    said.extend(name);
    said.extend(kind);
    if !address.is_empty() {
        // The name as a pointer to the question, type and class, a minute to live.
        said.extend([0xc0, HEADER as u8]);
        said.extend(kind);
        said.extend([0, 0, 0, 60, 0, address.len() as u8]);
        said.extend(address);
    }
    let mut rest = said.as_slice();
    pool.message(headroom, said.len(), |room| {
        let (first, behind) = rest.split_at(room.len());
        room.copy_from_slice(first);
        rest = behind;
    })
    .ok()
}

/// The name of a question, and its type and class. `None` if it is longer than a name can be, or is
/// compressed, which nothing in a question has reason to be.
fn split_question(bytes: &[u8]) -> Option<(&[u8], [u8; 4])> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => break,
            label @ 1..=63 => at += 1 + usize::from(label),
            _ => return None,
        }
    }
    let (name, rest) = bytes.split_at_checked(at + 1)?;
    Some((name, *rest.first_chunk()?))
}

//! The tables of calls in `docs/src/segment-layout.md` compared with the code.

use std::mem::offset_of;

use super::*;
use crate::a_stack::{A_STACKS, Layout};

#[path = "../../segment/src/book.rs"]
mod book;

/// The `pub const NAME: TYPE = VALUE;` of a module of the source, with their values.
fn constants(module: &str) -> Vec<[String; 2]> {
    let source = include_str!("wire.rs");
    let head = format!("pub(crate) mod {module} {{");
    let lines = source.lines().skip_while(|line| *line != head).take_while(|line| *line != "}");
    let constants = lines.filter_map(|line| line.trim().strip_prefix("pub const "));
    constants
        .map(|line| {
            let (name, rest) = line.split_once(": ").expect("a constant has a type");
            let (_, value) = rest.split_once(" = ").expect("a constant has a value");
            let value = book::number(value.trim_end_matches(';'));
            [value.to_string(), name.to_owned()]
        })
        .collect()
}

#[test]
fn a_call_word_is_as_its_table_says() {
    let fields = [
        ("number", offset_of!(CallWord, number), 4),
        ("a_stack", offset_of!(CallWord, a_stack), 2),
        ("flags", offset_of!(CallWord, flags), 2),
    ];
    let rows = book::table("Calls", 0);
    book::compare_fields(&rows, &fields, CALL_WORD);
    assert!(rows[2][3].starts_with(&format!("{IN_A_STACK}: ")));
}

#[test]
fn the_statuses_of_a_reply_are_as_their_table_says() {
    let rows = book::columns(&book::table("Calls", 1), [0, 1]);
    assert_eq!(rows, constants("status"));
    for [number, name] in rows {
        let tag = book::number(&number) as u16;
        let certain = ![status::EXECUTED, status::FAILED, status::RESULTS_TOO_LARGE].contains(&tag);
        assert_eq!(refusal(tag).is_some(), certain, "{name}");
    }
}

#[test]
fn a_request_to_bind_is_as_its_table_says() {
    let fields = [
        ("magic", offset_of!(BindRequest, magic), 8),
        ("layout", offset_of!(BindRequest, layout), 8),
        ("version", offset_of!(BindRequest, version), 4),
        ("name_len", offset_of!(BindRequest, name_len), 4),
        ("name", offset_of!(BindRequest, name), MAX_INTERFACE_NAME),
    ];
    let rows = book::table("A request to bind", 0);
    book::compare_fields(&rows, &fields, size_of::<BindRequest>());
    assert_eq!(MAGIC.to_ne_bytes(), *b"LRPCBIND");
}

#[test]
fn the_codes_of_a_refusal_to_bind_are_as_their_table_says() {
    let rows = book::columns(&book::table("A request to bind", 1), [0, 1]);
    assert_eq!(rows, constants("bind_code"));
}

#[test]
fn a_stacks_are_laid_out_as_the_page_says() {
    assert_eq!(A_STACKS, 8);
    let shape = |arguments, results| Shape {
        name: "P",
        arguments: ("A", arguments, 8),
        results: ("R", results, 8),
    };
    let bytes = |shapes: &[Shape]| Layout::of(shapes).area_bytes();
    assert_eq!(bytes(&[shape(32, 32)]), 0);
    assert_eq!(bytes(&[shape(33, 0)]), 8 * 64);
    assert_eq!(bytes(&[shape(8, 65)]), 8 * 128);
    assert_eq!(bytes(&[shape(64, 0), shape(0, 200)]), 8 * 64 + 8 * 256);
}

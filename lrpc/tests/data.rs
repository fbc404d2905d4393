//! What travels: sizes at the bounds between slot and A-stack, values that are none, names and errors.

mod support;

use lrpc::{
    BindError, BindOptions, Binding, ExportError, ExportOptions, Interface, Outcome, Reason, Reply,
    Server,
};
use support::{address, beside, bind_beside, bind_options, export};
use unet::{Address, AllocError, Class, Geometry, ListenError, Wait};
use zerocopy::IntoBytes;

/// Declares an interface with a procedure for each size, which gives back what it got, reversed.
macro_rules! sizes {
    ($(($procedure:ident, $size:literal)),+ $(,)?) => {
        lrpc::interface! {
            /// Bytes of every size.
            Sizes = "sizes", version 1 {
                $( $procedure([u8; $size]) -> [u8; $size]; )+
            }
        }

        fn serving(server: Server<Sizes>) -> Server<Sizes> {
            server $( .on::<$procedure>(|call, mut bytes| {
                if let Some(bulk) = call.take_bulk() {
                    let mut reply = call.alloc(bulk.len()).map_err(|_| 1u16)?;
                    assert!(bulk.copy_to(0, &mut reply).is_ok(), "it is as long");
                    reply.reverse();
                    call.reply_with(reply.freeze());
                }
                bytes.reverse();
                Ok(bytes)
            }) )+
        }

        fn every_size(mut with: impl FnMut(usize, &dyn Fn(&Binding<Sizes>, &Server<Sizes>, u8))) {
            $( with($size, &|binding, server, seed| {
                let bytes: [u8; $size] = std::array::from_fn(|at| (at as u8) ^ seed);
                let mut reversed = bytes;
                reversed.reverse();
                let outcome = binding.call_serving::<$procedure, _>(&bytes, server);
                assert!(outcome == Outcome::Executed(reversed), "{} bytes", $size);
            }); )+
        }

        fn every_size_with_bulk(binding: &Binding<Sizes>, len: usize) {
            $({
                let bytes: [u8; $size] = std::array::from_fn(|at| at as u8);
                let mut reversed = bytes;
                reversed.reverse();
                let mut bulk = binding.alloc(len).expect("a buffer is free");
                bulk.fill(9);
                if let Some(first) = bulk.first_mut() {
                    *first = 1;
                }
                let mut back = bulk.to_vec();
                back.reverse();
                let outcome = binding.call_bulk::<$procedure>(&bytes, Some(bulk.freeze()));
                let Outcome::Executed(Reply { results, bulk: Some(bulk) }) = outcome else {
                    panic!("{} bytes and a buffer of {len}: {outcome:?}", $size);
                };
                assert!(results == reversed, "{} bytes and a buffer of {len}", $size);
                assert_eq!(bulk.to_vec().expect("nothing was revoked"), back, "{} bytes and a buffer of {len}", $size);
            })+
        }
    };
}

sizes!(
    (B0, 0),
    (B1, 1),
    (B7, 7),
    (B8, 8),
    (B9, 9),
    (B31, 31),
    (B32, 32),
    (B33, 33),
    (B39, 39),
    (B40, 40),
    (B41, 41),
    (B47, 47),
    (B48, 48),
    (B49, 49),
    (B55, 55),
    (B56, 56),
    (B57, 57),
    (B63, 63),
    (B64, 64),
    (B65, 65),
    (B4096, 4096),
    (B65535, 65_535),
    (B65536, 65_536),
);

/// Values of 64 KiB stand on the stack several times on their way, in a program that is not optimised
/// some forty times.
fn with_a_large_stack(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let large = std::thread::Builder::new().stack_size(64 << 20);
        let thread = large.spawn_scoped(scope, test).expect("there is space for a stack");
        thread.join().expect("no panic");
    });
}

#[test]
fn arguments_and_results_of_every_size_come_through() {
    with_a_large_stack(come_through);
}

fn come_through() {
    let address = address("sizes");
    let server = serving(export(&address, Wait::Adaptive));
    let binding = bind_beside(&server, &address, Wait::Adaptive);
    for round in 0..10 {
        every_size(|_, call| call(&binding, &server, round));
    }
    assert_eq!(server.served(), 230);
}

#[test]
fn arguments_and_results_of_every_size_come_through_beside_a_buffer() {
    with_a_large_stack(come_through_beside_a_buffer);
}

fn come_through_beside_a_buffer() {
    let address = address("sizes-bulk");
    let server = serving(export(&address, Wait::Adaptive));
    let binding = bind_beside(&server, &address, Wait::Adaptive);
    let binding = std::thread::scope(|scope| {
        let client =
            std::thread::Builder::new().stack_size(64 << 20).spawn_scoped(scope, move || {
                for len in [0, 1, 4095, 4096, 4097, 65_536] {
                    every_size_with_bulk(&binding, len);
                }
                binding
            });
        let client = client.expect("there is space for a stack");
        while !client.is_finished() {
            server.serve_timeout(std::time::Duration::from_millis(1));
        }
        client.join().expect("no panic")
    });
    let (free, lent, total) = binding.buffers();
    assert_eq!((free, lent), (total, 0));
    let asked = binding.alloc(65_537).expect_err("there is none as large");
    assert_eq!(asked, AllocError::TooLarge { asked: 65_537, largest: 65_536 });
}

#[test]
fn a_buffer_of_another_binding_is_refused_and_freed() {
    let address = address("foreign");
    let server = serving(export(&address, Wait::Adaptive));
    let [one, two] = [0, 1].map(|_| bind_beside::<Sizes>(&server, &address, Wait::Adaptive));
    let foreign = one.alloc(100).expect("a buffer is free").freeze();
    let outcome = two.call_bulk::<B8>(&[0; 8], Some(foreign));
    assert!(matches!(outcome, Outcome::Refused(Reason::ForeignBuffer)));
    let (free, lent, total) = one.buffers();
    assert_eq!((free, lent), (total, 0));
    assert_eq!(two.call_serving::<B1, _>(&[5], &server), Outcome::Executed([5]));
    assert_eq!(server.served(), 1, "the refused call never came");
}

mod values {
    #![allow(missing_docs)] // They mean nothing.

    use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

    /// Not every byte is one.
    #[derive(
        Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    #[repr(u8)]
    pub enum Colour {
        Red = 1,
        Green = 2,
        Blue = 200,
    }

    /// Of several kinds, with the alignment of its largest.
    #[derive(
        Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    #[repr(C)]
    pub struct Paint {
        pub litres: u64,
        pub thousandths: u32,
        pub colour: Colour,
        pub glossy: bool,
        pub code: [u8; 2],
    }
}
use values::{Colour, Paint};

mod typed {
    use super::{Colour, Paint};
    lrpc::interface! {
        /// Values of types of which not every pattern of bits is one.
        pub Shop = "shop", version 1 {
            /// The next colour.
            Next(Colour) -> Colour;
            /// Mixes.
            Mix([Paint; 2]) -> Paint;
            /// Character by character.
            Upper([char; 20]) -> [char; 20];
            /// Nothing for something.
            Discard(Paint) -> ();
            /// Something for nothing.
            Sample(()) -> Paint;
        }
    }
}
use typed::{Discard, Mix, Next, Sample, Shop, Upper};

const PAINT: Paint =
    Paint { litres: 3, thousandths: 500, colour: Colour::Blue, glossy: true, code: *b"xy" };

#[test]
fn enums_booleans_characters_and_structs_arrive_as_they_are() {
    let address = address("typed");
    let server = export::<Shop>(&address, Wait::Adaptive)
        .on::<Next>(|_, colour| {
            Ok(match colour {
                Colour::Red => Colour::Green,
                Colour::Green => Colour::Blue,
                Colour::Blue => Colour::Red,
            })
        })
        .on::<Mix>(|_, [a, b]| Ok(Paint { litres: a.litres + b.litres, ..a }))
        .on::<Upper>(|_, text| Ok(text.map(|c| c.to_ascii_uppercase())))
        .on::<Discard>(|_, paint| if paint == PAINT { Ok(()) } else { Err(1) })
        .on::<Sample>(|_, ()| Ok(PAINT));
    let binding = bind_beside::<Shop>(&server, &address, Wait::Adaptive);
    for (from, to) in
        [(Colour::Red, Colour::Green), (Colour::Green, Colour::Blue), (Colour::Blue, Colour::Red)]
    {
        assert_eq!(binding.call_serving::<Next, _>(&from, &server), Outcome::Executed(to));
    }
    let mixed = Paint { litres: 6, ..PAINT };
    let outcome = binding.call_serving::<Mix, _>(&[PAINT, PAINT], &server);
    assert_eq!(outcome, Outcome::Executed(mixed));
    let outcome = binding.call_serving::<Upper, _>(&['é'; 20], &server);
    assert_eq!(outcome, Outcome::Executed(['é'; 20]));
    let outcome = binding.call_serving::<Upper, _>(&['a'; 20], &server);
    assert_eq!(outcome, Outcome::Executed(['A'; 20]));
    assert_eq!(binding.call_serving::<Discard, _>(&PAINT, &server), Outcome::Executed(()));
    assert_eq!(binding.call_serving::<Sample, _>(&(), &server), Outcome::Executed(PAINT));
}

#[test]
fn bytes_that_are_no_value_never_reach_a_handler() {
    use support::raw::{self, BAD_ARGUMENTS, EXECUTED, IN_A_STACK, Word, message};
    let address = address("no-value");
    let server = export::<Shop>(&address, Wait::Adaptive)
        .on::<Next>(|_, colour| Ok(colour))
        .on::<Mix>(|_, [a, _]| Ok(a))
        .on::<Upper>(|_, text| Ok(text));
    let mut raw = beside(&server, || raw::connect(&address, raw::request::<Shop>(), 8 * 256))
        .expect("it was accepted");
    let mut say = |tag: u16, word: Word, bytes: &[u8], area: &[u8]| {
        raw.area_mut()[..area.len()].copy_from_slice(area);
        raw::send(&mut raw, tag, &message(word, bytes));
        support::serve_all(&server);
        raw.try_recv().expect("it is open").expect("it replied").tag()
    };
    for byte in 0..=255u8 {
        let good = [1, 2, 200].contains(&byte);
        let expected = if good { EXECUTED } else { BAD_ARGUMENTS };
        assert_eq!(say(0, Word::new(1, 0, 0), &[byte], &[]), expected, "{byte}");
    }
    // Mix.
    let mut paints = [PAINT, PAINT].as_bytes().to_vec();
    assert_eq!(paints.len(), 32);
    assert_eq!(say(1, Word::new(1, 8, 0), &paints, &[]), EXECUTED);
    for (at, byte) in [(12, 0), (12, 3), (13, 2), (28, 255), (29, 7)] {
        let before = std::mem::replace(&mut paints[at], byte);
        assert_eq!(say(1, Word::new(1, 8, 0), &paints, &[]), BAD_ARGUMENTS, "{byte} at {at}");
        paints[at] = before;
    }
    // Upper: no surrogates, nothing beyond the last plane; in the first A-stack there is.
    for (character, expected) in [
        (0x41, EXECUTED),
        (0xD7FF, EXECUTED),
        (0xD800, BAD_ARGUMENTS),
        (0xDFFF, BAD_ARGUMENTS),
        (0xE000, EXECUTED),
        (0x10_FFFF, EXECUTED),
        (0x11_0000, BAD_ARGUMENTS),
        (u32::MAX, BAD_ARGUMENTS),
    ] {
        let mut text = [0x41u32; 20];
        text[19] = character;
        let word = Word::new(1, 16, IN_A_STACK);
        assert_eq!(say(2, word, &[], text.as_bytes()), expected, "{character:x}");
    }
}

mod renamed {
    lrpc::interface! { pub Original = "original", version 1 { Do([u8; 8]) -> u64; } }
}
mod argument_type {
    lrpc::interface! { pub Original = "original", version 1 { Act([i8; 8]) -> u64; } }
}
mod result_size {
    lrpc::interface! { pub Original = "original", version 1 { Act([u8; 8]) -> u32; } }
}
mod one_more {
    lrpc::interface! {
        pub Original = "original", version 1 { Act([u8; 8]) -> u64; More(()) -> (); }
    }
}
mod swapped {
    lrpc::interface! {
        pub Original = "original", version 1 { More(()) -> (); Act([u8; 8]) -> u64; }
    }
}
mod newer {
    lrpc::interface! { pub Original = "original", version 2 { Act([u8; 8]) -> u64; } }
}
mod newer_and_other {
    lrpc::interface! { pub Original = "original", version 2 { Do(()) -> u64; } }
}
mod original {
    lrpc::interface! { pub Original = "original", version 1 { Act([u8; 8]) -> u64; } }
}
mod namesake {
    lrpc::interface! { pub Copy = "original", version 1 { Act([u8; 8]) -> u64; } }
}
mod longer_name {
    lrpc::interface! { pub Originals = "originals", version 1 { Act([u8; 8]) -> u64; } }
}
mod longest_name {
    lrpc::interface! {
        pub Original =
            "sixty-four-bytes-sixty-four-bytes-sixty-four-bytes-sixty-four-by", version 1
        { Act([u8; 8]) -> u64; }
    }
}

#[test]
fn each_difference_between_two_interfaces_is_a_distinct_refusal() {
    let address = address("differences");
    let server =
        export::<original::Original>(&address, Wait::Adaptive).on::<original::Act>(|_, _| Ok(1));
    fn refused<I: Interface>(
        server: &Server<original::Original>,
        address: &Address,
    ) -> Option<BindError> {
        beside(server, || Binding::<I>::bind(address, BindOptions::default()).err())
    }
    let layout = Some(BindError::LayoutMismatch);
    assert_eq!(refused::<renamed::Original>(&server, &address), layout);
    assert_eq!(refused::<argument_type::Original>(&server, &address), layout);
    assert_eq!(refused::<result_size::Original>(&server, &address), layout);
    assert_eq!(refused::<one_more::Original>(&server, &address), layout);
    assert_eq!(refused::<swapped::Original>(&server, &address), layout);
    let version = Some(BindError::VersionMismatch);
    assert_eq!(refused::<newer::Original>(&server, &address), version);
    assert_eq!(refused::<newer_and_other::Original>(&server, &address), version);
    let unknown = Some(BindError::UnknownInterface);
    assert_eq!(refused::<longer_name::Originals>(&server, &address), unknown);
    assert_eq!(refused::<longest_name::Original>(&server, &address), unknown);
    // What the type is called in the program is nobody else's business.
    assert_eq!(refused::<namesake::Copy>(&server, &address), None);
    support::serve_all(&server);
    assert_eq!(server.bindings(), 0);
}

#[test]
fn the_longest_name_works() {
    use longest_name::{Act, Original};
    assert_eq!(Original::NAME.len(), 64);
    let address = address("longest");
    let server = export::<Original>(&address, Wait::Adaptive).on::<Act>(|_, _| Ok(64));
    let binding = bind_beside::<Original>(&server, &address, Wait::Adaptive);
    assert_eq!(binding.call_serving::<Act, _>(&[0; 8], &server), Outcome::Executed(64));
}

#[test]
fn one_interface_can_be_exported_at_two_addresses_and_not_twice_at_one() {
    use original::{Act, Original};
    let [first, second] = [address("first"), address("second")];
    let one = export::<Original>(&first, Wait::Adaptive).on::<Act>(|_, _| Ok(1));
    let two = export::<Original>(&second, Wait::Adaptive).on::<Act>(|_, _| Ok(2));
    let taken = Server::<Original>::export(&first, ExportOptions::default()).err();
    let Some(ExportError::Listen(ListenError::Bind(error))) = taken else {
        panic!("the name is taken: {taken:?}");
    };
    assert_eq!(error, segment::control::BindError::NameTaken);
    // Another interface cannot have the name either.
    let taken = Server::<newer::Original>::export(&first, ExportOptions::default()).err();
    assert_eq!(taken, Some(ExportError::Listen(ListenError::Bind(error))));
    let to_one = bind_beside::<Original>(&one, &first, Wait::Adaptive);
    let to_two = bind_beside::<Original>(&two, &second, Wait::Adaptive);
    assert_eq!(to_one.call_serving::<Act, _>(&[0; 8], &one), Outcome::Executed(1));
    assert_eq!(to_two.call_serving::<Act, _>(&[0; 8], &two), Outcome::Executed(2));
    // A name is free as soon as its server is gone.
    drop(one);
    let again = export::<Original>(&first, Wait::Adaptive).on::<Act>(|_, _| Ok(3));
    let to_again = bind_beside::<Original>(&again, &first, Wait::Adaptive);
    assert_eq!(to_again.call_serving::<Act, _>(&[0; 8], &again), Outcome::Executed(3));
    assert!(to_one.call::<Act>(&[0; 8]).executed().is_err());
}

#[test]
fn a_binding_to_nobody_says_so() {
    let nobody = Binding::<Shop>::bind(&address("nobody"), BindOptions::default());
    let error = nobody.expect_err("nobody is there");
    assert_eq!(error, BindError::Connect(unet::ConnectError::NobodyListens));
}

#[test]
fn a_server_that_does_not_answer_a_binding_in_time_is_given_up() {
    let address = address("silent");
    let server = export::<Shop>(&address, Wait::Adaptive);
    let options =
        BindOptions { timeout: std::time::Duration::from_millis(20), ..BindOptions::default() };
    let error = Binding::<Shop>::bind(&address, options).expect_err("nobody serves");
    assert_eq!(error, BindError::Connect(unet::ConnectError::TimedOut));
    // It asks nobody any more when the server gets to it.
    support::serve_all(&server);
    assert_eq!(server.bindings(), 0);
    let binding = bind_beside::<Shop>(&server, &address, Wait::Adaptive);
    let outcome = binding.call_serving::<Sample, _>(&(), &server);
    assert_eq!(outcome, Outcome::Refused(Reason::NotServed));
}

#[test]
fn a_geometry_out_of_bounds_is_refused_on_either_side() {
    let mut bad = Geometry { slots: 7, ..support::small() };
    bad.classes[0] = Class { buffer_bytes: 100, buffers: 1 };
    let options = ExportOptions { geometry: bad, ..ExportOptions::default() };
    let refused = Server::<Shop>::export(&address("geometry"), options).err();
    assert_eq!(refused, Some(ExportError::Listen(ListenError::Geometry)));
    let address = address("geometry");
    let server = export::<Shop>(&address, Wait::Adaptive);
    let options = BindOptions { geometry: bad, ..bind_options(Wait::Adaptive) };
    let refused = beside(&server, || Binding::<Shop>::bind(&address, options).err());
    let size = segment::memory::CreateError::Size;
    assert_eq!(refused, Some(BindError::Connect(unet::ConnectError::Create(size))));
}

#[test]
fn an_interface_too_large_for_a_segment_is_refused_on_either_side() {
    lrpc::interface! {
        /// Its A-stacks take 8 times what is here, and more than 32 bits count.
        Huge = "huge", version 1 { Swallow([u8; 600_000_000]) -> (); }
    }
    let address = address("huge");
    let refused = Server::<Huge>::export(&address, ExportOptions::default()).err();
    assert_eq!(refused, Some(ExportError::Listen(ListenError::Geometry)));
    let server = export::<Shop>(&address, Wait::Adaptive);
    let refused = beside(&server, || Binding::<Huge>::bind(&address, BindOptions::default()).err());
    let size = segment::memory::CreateError::Size;
    assert_eq!(refused, Some(BindError::Connect(unet::ConnectError::Create(size))));
}

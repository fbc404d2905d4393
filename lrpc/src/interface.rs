//! What a server offers: procedures with plain-data arguments and results.

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// Values that can be written to and read from shared memory as they are: no pointers, no padding,
/// and a check for types of which not every bit pattern is a value. Derive the traits of `zerocopy`.
pub trait PlainData: TryFromBytes + IntoBytes + Immutable + KnownLayout + Sized + 'static {}

impl<T: TryFromBytes + IntoBytes + Immutable + KnownLayout + Sized + 'static> PlainData for T {}

/// A set of procedures under a name and a version. Written by [`crate::interface!`].
pub trait Interface: 'static {
    /// Up to 64 bytes by which server and client mean the same thing.
    const NAME: &'static str;
    /// Must be equal on both sides.
    const VERSION: u32;
    /// The procedures, by index.
    const PROCEDURES: &'static [Shape];
    /// A hash over all of it; must be equal on both sides.
    const LAYOUT: u64 = layout_hash(Self::NAME, Self::VERSION, Self::PROCEDURES);
}

/// One procedure of an interface. Written by [`crate::interface!`].
pub trait Procedure: 'static {
    /// The interface it belongs to.
    type Interface: Interface;
    /// What it is called with.
    type Arguments: PlainData;
    /// What it returns.
    type Results: PlainData;
    /// Its place in [`Interface::PROCEDURES`].
    const INDEX: u16;
}

/// What a procedure looks like in memory.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Its name.
    pub name: &'static str,
    /// The arguments' type as written, size and alignment.
    pub arguments: (&'static str, usize, usize),
    /// The results' type as written, size and alignment.
    pub results: (&'static str, usize, usize),
}

/// The hash of an interface's layout: FNV-1a over names, sizes and alignments.
///
/// It catches an interface that was changed on one side; it is no protection against a peer that
/// lies, which needs none: whatever it sends is checked.
pub const fn layout_hash(name: &str, version: u32, procedures: &[Shape]) -> u64 {
    let mut hash = hash_text(0xcbf2_9ce4_8422_2325, name);
    hash = hash_number(hash, version as usize);
    let mut at = 0;
    while at < procedures.len() {
        let shape = &procedures[at];
        hash = hash_text(hash, shape.name);
        hash = hash_type(hash, shape.arguments);
        hash = hash_type(hash, shape.results);
        at += 1;
    }
    hash
}

const fn hash_type(hash: u64, (name, size, align): (&str, usize, usize)) -> u64 {
    hash_number(hash_number(hash_text(hash, name), size), align)
}

const fn hash_text(mut hash: u64, text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        hash = hash_byte(hash, bytes[at]);
        at += 1;
    }
    // Names end somewhere, so that "ab", "c" is not "a", "bc".
    hash_byte(hash, 0xff)
}

const fn hash_number(mut hash: u64, number: usize) -> u64 {
    let bytes = (number as u64).to_le_bytes();
    let mut at = 0;
    while at < bytes.len() {
        hash = hash_byte(hash, bytes[at]);
        at += 1;
    }
    hash
}

const fn hash_byte(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3)
}

/// Declares an interface: a type for it, and one for each procedure.
///
/// Arguments and results are one plain-data type each ([`PlainData`]); several arguments are an array
/// or a struct. They are passed by value: what is larger than some KiB is better sent as a buffer. See
/// the crate's first page for an example.
///
/// A name of more than 64 bytes does not compile where the interface is exported or bound to:
///
/// ```compile_fail,E0080
/// lrpc::interface! {
///     Long = "sixty-five-bytes-sixty-five-bytes-sixty-five-bytes-sixty-five-byt", version 1 {
///         Null(()) -> ();
///     }
/// }
/// let address = "shm:long".parse().unwrap();
/// let _ = lrpc::Binding::<Long>::bind(&address, lrpc::BindOptions::default());
/// ```
///
/// Nor does a type with padding, or with pointers, whose bytes would mean nothing on the other side:
///
/// ```compile_fail,E0277
/// lrpc::interface! { Pointers = "pointers", version 1 { Follow(&'static str) -> (); } }
/// ```
#[macro_export]
macro_rules! interface {
    (
        $(#[$doc:meta])*
        $vis:vis $interface:ident = $name:literal, version $version:literal {
            $(
                $(#[$procedure_doc:meta])*
                $procedure:ident($arguments:ty) -> $results:ty;
            )+
        }
    ) => {
        $(#[$doc])*
        $vis struct $interface;

        impl $crate::Interface for $interface {
            const NAME: &'static str = $name;
            const VERSION: u32 = $version;
            const PROCEDURES: &'static [$crate::Shape] = &[$(
                $crate::Shape {
                    name: stringify!($procedure),
                    arguments: (
                        stringify!($arguments),
                        ::core::mem::size_of::<$arguments>(),
                        ::core::mem::align_of::<$arguments>(),
                    ),
                    results: (
                        stringify!($results),
                        ::core::mem::size_of::<$results>(),
                        ::core::mem::align_of::<$results>(),
                    ),
                },
            )+];
        }

        $crate::interface!(@procedures $vis $interface 0, $(
            $(#[$procedure_doc])* $procedure($arguments) -> $results;
        )+);
    };
    (@procedures $vis:vis $interface:ident $index:expr,) => {};
    (
        @procedures $vis:vis $interface:ident $index:expr,
        $(#[$doc:meta])* $procedure:ident($arguments:ty) -> $results:ty;
        $($rest:tt)*
    ) => {
        $(#[$doc])*
        $vis struct $procedure;

        impl $crate::Procedure for $procedure {
            type Interface = $interface;
            type Arguments = $arguments;
            type Results = $results;
            const INDEX: u16 = $index;
        }

        $crate::interface!(@procedures $vis $interface $index + 1, $($rest)*);
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { name: "Add", arguments: ("u64", 8, 8), results: ("u64", 8, 8) };

    #[test]
    fn every_change_of_an_interface_changes_its_hash() {
        let hash = layout_hash("adder", 1, &[SHAPE]);
        let renamed = Shape { name: "Sub", ..SHAPE };
        let wider = Shape { arguments: ("u64", 16, 8), ..SHAPE };
        let other_type = Shape { results: ("i64", 8, 8), ..SHAPE };
        for changed in [
            layout_hash("subber", 1, &[SHAPE]),
            layout_hash("adder", 2, &[SHAPE]),
            layout_hash("adder", 1, &[SHAPE, SHAPE]),
            layout_hash("adder", 1, &[renamed]),
            layout_hash("adder", 1, &[wider]),
            layout_hash("adder", 1, &[other_type]),
        ] {
            assert_ne!(changed, hash);
        }
    }
}

//! Encoding by postcard, and decoding of what a stranger sent.
//!
//! postcard checks every length against the bytes that are there; a [`Limited`] deserializer around it
//! adds what it leaves to others: how deep values nest, so that no stack overflows, and how many
//! elements there are in all, so that a length of things without bytes is not counted to its end.

use std::cell::Cell;
use std::fmt;

use lrpc::Reason;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, Serialize};

/// How deep encoded values nest at most: structs, enums, options, sequences and maps, one in another.
pub const MAX_DEPTH: usize = 64;
/// Elements and fields that a message has at most: some for its own sake, and so many for each byte.
const ELEMENTS: usize = 1024;
const ELEMENTS_PER_BYTE: usize = 16;

/// Encodes a value: how many bytes of `to` it takes, or `None` if there are not as many.
///
/// # Errors
/// [`Reason::BadArguments`] if the value's own `Serialize` refuses.
#[inline]
pub(crate) fn encode<T: Serialize>(value: &T, to: &mut [u8]) -> Result<Option<usize>, Reason> {
    match postcard::to_slice(value, to) {
        Ok(used) => Ok(Some(used.len())),
        Err(postcard::Error::SerializeBufferFull) => Ok(None),
        Err(_) => Err(Reason::BadArguments),
    }
}

/// How many bytes a value takes.
///
/// # Errors
/// As [`encode`].
pub(crate) fn encoded_len<T: Serialize>(value: &T) -> Result<usize, Reason> {
    let size = postcard::ser_flavors::Size::default();
    postcard::serialize_with_flavor(value, size).map_err(|_| Reason::BadArguments)
}

/// The value that these bytes are, all of them. `None` if they are none, or exceed a limit.
#[inline]
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let elements = bytes.len().saturating_mul(ELEMENTS_PER_BYTE).saturating_add(ELEMENTS);
    let limits = Limits { depth: Cell::new(MAX_DEPTH), elements: Cell::new(elements) };
    let mut postcard = postcard::Deserializer::from_bytes(bytes);
    let value = T::deserialize(Limited { inner: &mut postcard, limits: &limits }).ok()?;
    postcard.finalize().ok()?.is_empty().then_some(value)
}

/// What one message may still use.
struct Limits {
    depth: Cell<usize>,
    elements: Cell<usize>,
}

impl Limits {
    #[inline(always)]
    fn deeper<T, E: Error>(&self, inside: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let depth = self.depth.get().checked_sub(1).ok_or_else(too_much)?;
        self.depth.set(depth);
        let value = inside();
        self.depth.set(depth + 1);
        value
    }

    #[inline(always)]
    fn one_more<E: Error>(&self) -> Result<(), E> {
        self.elements.set(self.elements.get().checked_sub(1).ok_or_else(too_much)?);
        Ok(())
    }
}

#[cold]
fn too_much<E: Error>() -> E {
    E::custom("too deep, or too many elements")
}

/// A deserializer, or what serde passes around with one, under limits.
struct Limited<'l, T> {
    inner: T,
    limits: &'l Limits,
}

impl<'l, T> Limited<'l, T> {
    #[inline(always)]
    fn around<U>(&self, inner: U) -> Limited<'l, U> {
        Limited { inner, limits: self.limits }
    }
}

macro_rules! forward {
    ($($method:ident)*) => {$(
        #[inline(always)]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.around(visitor);
            self.inner.$method(visitor)
        }
    )*};
}

macro_rules! forward_deeper {
    ($($method:ident($($name:ident: $type:ty),*))*) => {$(
        #[inline(always)]
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.around(visitor);
            self.limits.deeper(|| self.inner.$method($($name,)* visitor))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Limited<'_, D> {
    type Error = D::Error;

    forward! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32
        deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit
        deserialize_identifier deserialize_ignored_any
    }

    forward_deeper! {
        deserialize_option()
        deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str)
        deserialize_seq()
        deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_map()
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident($type:ty))*) => {$(
        #[inline(always)]
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

macro_rules! visit_limited {
    ($($method:ident($access:ident))*) => {$(
        #[inline(always)]
        fn $method<A: $access<'de>>(self, access: A) -> Result<V::Value, A::Error> {
            let access = self.around(access);
            self.inner.$method(access)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Limited<'_, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(formatter)
    }

    visit! {
        visit_bool(bool) visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128)
        visit_u8(u8) visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128) visit_f32(f32)
        visit_f64(f64) visit_char(char) visit_str(&str) visit_borrowed_str(&'de str)
        visit_string(String) visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8])
        visit_byte_buf(Vec<u8>)
    }

    #[inline(always)]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    #[inline(always)]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    visit_limited! {
        visit_some(Deserializer) visit_newtype_struct(Deserializer) visit_seq(SeqAccess)
        visit_map(MapAccess) visit_enum(EnumAccess)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Limited<'_, S> {
    type Value = S::Value;

    #[inline(always)]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let deserializer = self.around(deserializer);
        self.inner.deserialize(deserializer)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Limited<'_, A> {
    type Error = A::Error;

    #[inline(always)]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.limits.one_more()?;
        let seed = self.around(seed);
        self.inner.next_element_seed(seed)
    }

    #[inline(always)]
    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint().map(|hint| hint.min(self.limits.elements.get()))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Limited<'_, A> {
    type Error = A::Error;

    #[inline(always)]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.limits.one_more()?;
        let seed = self.around(seed);
        self.inner.next_key_seed(seed)
    }

    #[inline(always)]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.around(seed);
        self.inner.next_value_seed(seed)
    }

    #[inline(always)]
    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint().map(|hint| hint.min(self.limits.elements.get()))
    }
}

impl<'de, 'l, A: EnumAccess<'de>> EnumAccess<'de> for Limited<'l, A> {
    type Error = A::Error;
    type Variant = Limited<'l, A::Variant>;

    #[inline(always)]
    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let (seed, limits) = (self.around(seed), self.limits);
        let (value, inner) = self.inner.variant_seed(seed)?;
        Ok((value, Limited { inner, limits }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Limited<'_, A> {
    type Error = A::Error;

    #[inline(always)]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline(always)]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.around(seed);
        self.inner.newtype_variant_seed(seed)
    }

    #[inline(always)]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.around(visitor);
        self.inner.tuple_variant(len, visitor)
    }

    #[inline(always)]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.around(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
        let mut bytes = vec![0; encoded_len(value).expect("it has a length")];
        let used = encode(value, &mut bytes).expect("it is encoded").expect("it fits");
        assert_eq!(used, bytes.len());
        bytes
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Tree {
        Leaf,
        Branch(Box<Tree>, Option<Vec<Tree>>),
    }

    #[test]
    fn values_of_every_kind_come_back() {
        type Many<'a> = (&'a str, Vec<(u64, String)>, Option<[bool; 3]>, char, f64, (), i128);
        let many: Many<'_> =
            ("é", vec![(1, "a".into()), (u64::MAX, "".into())], Some([true; 3]), 'ß', 0.5, (), -1);
        assert_eq!(decode(&encoded(&many)), Some(many));
        let map: std::collections::BTreeMap<u8, Tree> = [
            (1, Tree::Leaf),
            (2, Tree::Branch(Box::new(Tree::Leaf), Some(vec![Tree::Leaf, Tree::Leaf]))),
        ]
        .into();
        assert_eq!(decode(&encoded(&map)), Some(map));
    }

    #[test]
    fn less_and_more_than_a_value_are_none() {
        let bytes = encoded(&("key", 300u64));
        for len in 0..bytes.len() {
            assert_eq!(decode::<(&str, u64)>(&bytes[..len]), None, "{len}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(decode::<(&str, u64)>(&longer), None);
        assert_eq!(decode::<&str>(&[2, 0xff, 0xfe]), None, "no text");
        assert_eq!(decode::<bool>(&[2]), None);
        assert_eq!(decode::<Vec<u64>>(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]), None, "no such length");
    }

    #[test]
    fn nesting_without_end_does_not_overflow_the_stack() {
        // Each byte is one more branch.
        assert_eq!(decode::<Tree>(&vec![1; 4 << 20]), None);
    }

    #[test]
    fn a_length_of_nothings_is_not_counted_to_its_end() {
        let length = encoded(&u64::MAX);
        assert_eq!(decode::<Vec<()>>(&length), None);
        let some = vec![(); 1000];
        assert_eq!(decode::<Vec<()>>(&encoded(&some)), Some(some));
    }
}

//! How a buffer is named in a message.

/// Names a part of a buffer: two words in a slot.
///
/// | word | bits 63..48 | 47..32 | 31..0 |
/// |---|---|---|---|
/// | 0 | zero | index | generation |
/// | 1 | offset (63..32) | | length |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The buffer's number within its pool, over all classes.
    pub index: u16,
    /// How often the buffer has been handed over and come back.
    pub generation: u32,
    /// Where the payload begins in the buffer.
    pub offset: u32,
    /// How many bytes the payload has.
    pub len: u32,
}

impl Descriptor {
    /// The bytes a descriptor takes in a slot.
    pub const BYTES: usize = 16;

    /// As it stands in a slot.
    #[inline]
    pub fn to_words(self) -> [u64; 2] {
        [
            u64::from(self.index) << 32 | u64::from(self.generation),
            u64::from(self.offset) << 32 | u64::from(self.len),
        ]
    }

    /// From what stood in a slot: any two words are a descriptor, whether it is good is checked by
    /// [`crate::PeerPool::accept`].
    #[inline]
    pub fn from_words(words: [u64; 2]) -> Self {
        Self {
            index: (words[0] >> 32) as u16,
            generation: words[0] as u32,
            offset: (words[1] >> 32) as u32,
            len: words[1] as u32,
        }
    }
}

#[cfg(test)]
#[path = "../../segment/src/book.rs"]
mod book;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_as_its_table_says() {
        let rows = book::columns(&book::table("A descriptor", 0), [0, 1, 2]);
        for word in ["0", "1"] {
            let bits = rows.iter().filter(|[of, ..]| of == word);
            book::cover_a_word(bits.map(|[_, range, _]| range.as_str()));
        }
        let descriptor = Descriptor {
            index: 0x1234,
            generation: 0x89ab_cdef,
            offset: 0x7654_3210,
            len: 0xfedc_ba98,
        };
        let words = descriptor.to_words();
        let fields = rows.iter().map(|[word, range, name]| {
            (name.as_str(), book::bits(range, words[book::number(word)]))
        });
        let code = [
            ("zero", 0),
            ("index", u64::from(descriptor.index)),
            ("generation", u64::from(descriptor.generation)),
            ("offset", u64::from(descriptor.offset)),
            ("length", u64::from(descriptor.len)),
        ];
        assert_eq!(fields.collect::<Vec<_>>(), code);
        assert_eq!(Descriptor::from_words(words), descriptor);
        assert_eq!(Descriptor::from_words([words[0] | 0xffff << 48, words[1]]), descriptor);
    }
}

//! How a buffer is named in a message.

/// Names a part of a buffer, and the lease under which the receiver holds it: two words in a slot.
///
/// | word | bits |
/// |---|---|
/// | 0 | lease (63..56), index (55..40), generation (39..16), epoch (15..0) |
/// | 1 | offset (63..32), length (31..0) |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Which of the sender's leases to this receiver: it is given back by this number.
    pub lease: u8,
    /// The buffer's number, counted over all regions of the path up to the sender.
    pub index: u16,
    /// The number of this hand-off among those of the channel: 24 bits.
    pub generation: u32,
    /// How often the originator had revoked the buffer.
    pub epoch: u16,
    /// Where the payload begins in the buffer.
    pub offset: u32,
    /// How many bytes the payload has.
    pub len: u32,
}

/// The bits of a generation.
pub(crate) const GENERATION: u32 = 0x00ff_ffff;

impl Descriptor {
    /// The bytes a descriptor takes in a slot.
    pub const BYTES: usize = 16;

    /// As it stands in a slot.
    #[inline(always)]
    pub fn to_words(self) -> [u64; 2] {
        [
            u64::from(self.lease) << 56
                | u64::from(self.index) << 40
                | u64::from(self.generation & GENERATION) << 16
                | u64::from(self.epoch),
            u64::from(self.offset) << 32 | u64::from(self.len),
        ]
    }

    /// From what stood in a slot: any two words are a descriptor, whether it is good is checked by
    /// [`crate::Holdings::accept`].
    #[inline(always)]
    pub fn from_words(words: [u64; 2]) -> Self {
        Self {
            lease: (words[0] >> 56) as u8,
            index: (words[0] >> 40) as u16,
            generation: (words[0] >> 16) as u32 & GENERATION,
            epoch: words[0] as u16,
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
            lease: 0x56,
            index: 0x1234,
            generation: 0x00ab_cdef,
            epoch: 0x9876,
            offset: 0x7654_3210,
            len: 0xfedc_ba98,
        };
        let words = descriptor.to_words();
        let fields = rows.iter().map(|[word, range, name]| {
            (name.as_str(), book::bits(range, words[book::number(word)]))
        });
        let code = [
            ("lease", u64::from(descriptor.lease)),
            ("index", u64::from(descriptor.index)),
            ("generation", u64::from(descriptor.generation)),
            ("epoch", u64::from(descriptor.epoch)),
            ("offset", u64::from(descriptor.offset)),
            ("length", u64::from(descriptor.len)),
        ];
        assert_eq!(fields.collect::<Vec<_>>(), code);
        assert_eq!(Descriptor::from_words(words), descriptor);
    }
}

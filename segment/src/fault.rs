//! What a peer can get wrong, as far as this process can see.

/// A check that a peer's data failed. The queue it came through is poisoned: closed once, counted
/// once, its owner told which check it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
#[repr(u8)]
pub enum Fault {
    /// A slot's sequence is neither the next one nor the one of the lap before.
    #[error("a slot's sequence word is neither the next one nor the previous lap's")]
    SlotSequence,
    /// A slot says that it carries more bytes than it has.
    #[error("a slot claims more bytes than fit into it")]
    SlotLength,
    /// A slot counts more buffer descriptors than fit into it, or none where a message goes on, or
    /// has not the bytes for them; or a message has more of them than one may have.
    #[error("a slot or a message counts buffer descriptors that it cannot have")]
    DescriptorCount,
    /// A descriptor names a buffer that does not exist.
    #[error("a descriptor names a buffer outside the pool")]
    BufferIndex,
    /// A descriptor's offset and length leave its buffer; of the largest class, the class. Or a message
    /// is longer than one may be.
    #[error("a descriptor's range leaves its buffer")]
    BufferRange,
    /// A descriptor's generation is not the current one.
    #[error("a descriptor has a stale generation")]
    BufferGeneration,
    /// A buffer was handed over while this process still holds it.
    #[error("a buffer was handed over twice")]
    BufferHeld,
    /// The consumer says that it consumed what was never sent, or takes back what it consumed.
    #[error("the credit index is outside what was sent")]
    Credit,
    /// The free queue's next word is neither empty nor the next return.
    #[error("the free queue's sequence is neither the next one nor the previous lap's")]
    FreeSequence,
    /// A buffer came back that is not lent.
    #[error("a buffer came back that was not handed over")]
    FreeNotLent,
    /// A buffer came back with another generation than it was lent with.
    #[error("a buffer came back with a stale generation")]
    FreeGeneration,
    /// A control message that is not one, or not now.
    #[error("an unexpected or malformed control message")]
    Control,
    /// A doorbell rang although this side was not asleep.
    #[error("a doorbell rang that nobody armed")]
    Doorbell,
    /// A message that the layer above could not make sense of.
    #[error("a message that breaks the protocol of the layer above")]
    Protocol,
}

impl Fault {
    /// Every fault, in the order of its counter.
    pub const ALL: [Fault; 14] = [
        Fault::SlotSequence,
        Fault::SlotLength,
        Fault::DescriptorCount,
        Fault::BufferIndex,
        Fault::BufferRange,
        Fault::BufferGeneration,
        Fault::BufferHeld,
        Fault::Credit,
        Fault::FreeSequence,
        Fault::FreeNotLent,
        Fault::FreeGeneration,
        Fault::Control,
        Fault::Doorbell,
        Fault::Protocol,
    ];

    /// The check's name, as the counters page and logs show it.
    pub const fn name(self) -> &'static str {
        match self {
            Fault::SlotSequence => "slot-sequence",
            Fault::SlotLength => "slot-length",
            Fault::DescriptorCount => "descriptor-count",
            Fault::BufferIndex => "buffer-index",
            Fault::BufferRange => "buffer-range",
            Fault::BufferGeneration => "buffer-generation",
            Fault::BufferHeld => "buffer-held",
            Fault::Credit => "credit",
            Fault::FreeSequence => "free-sequence",
            Fault::FreeNotLent => "free-not-lent",
            Fault::FreeGeneration => "free-generation",
            Fault::Control => "control",
            Fault::Doorbell => "doorbell",
            Fault::Protocol => "protocol",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_stands_at_its_own_number() {
        for (number, fault) in Fault::ALL.iter().enumerate() {
            assert_eq!(*fault as usize, number, "{}", fault.name());
        }
    }
}

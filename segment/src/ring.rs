//! The single-producer single-consumer ring of 64-byte slots.
//!
//! ```text
//!   producer's segment (the consumer maps it read-only)        consumer's segment
//!   ┌──────┬──────┬──────┬──────┬──────┬──────┐                ┌────────┐
//!   │ slot │ slot │ slot │ slot │ slot │ slot │                │ credit │
//!   └──────┴──────┴──▲───┴──────┴──▲───┴──────┘                └───▲────┘
//!            consumer polls    producer writes            consumed so far, published
//!            its next slot     its next slot              every quarter of a lap
//! ```
//!
//! A message that fits into a slot costs one cache line one way and nothing else: the consumer polls
//! the sequence in the slot itself, and credit moves once a quarter lap. Each side keeps its
//! position in private memory, so neither can be moved by the other.
//!
//! A slot's first word holds, from the top: the sequence (32 bits, position + 1), the tag of the
//! layer above (16), the number of buffer descriptors (8), the number of payload bytes (8). It is
//! loaded once; everything is decided on that copy.
//!
//! # Invariants
//!
//! 1. Indices into the slots are masked with `slots - 1`, a private copy; the view has that many.

use crate::Fault;
use crate::geometry::{CREDIT, OwnSegment, PeerSegment, SEND_QUEUE};
use crate::sync::{AtomicU64, Ordering};
use crate::view::{Cells, View};

/// The size of a slot: a cache line.
pub const SLOT_BYTES: usize = 64;
/// The words of payload in a slot.
pub const SLOT_WORDS: usize = 7;
/// The bytes of payload in a slot.
pub const SLOT_PAYLOAD: usize = SLOT_WORDS * 8;

/// A slot in shared memory.
#[cfg_attr(not(loom), repr(C, align(64)))]
pub(crate) struct Slot {
    word: AtomicU64,
    payload: [AtomicU64; SLOT_WORDS],
}

// SAFETY: `repr(C)`, eight `AtomicU64` and nothing else.
unsafe impl Cells for Slot {}

impl Slot {
    /// Copies the payload beyond its first word, which its producer may be writing.
    ///
    /// In assembly, so that the read is no access the compiler knows of, and in pieces of 16 bytes.
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    #[inline(always)]
    fn copy_rest(&self, cell: &mut Cell) {
        // SAFETY: reads the last 48 of the 64 bytes of the slot and writes the last 48 of the 64 of
        // the cell, both aligned to 16; SSE2 is part of x86-64.
        unsafe {
            core::arch::asm!(
                "movdqa {a}, [{from} + 16]",
                "movdqa {b}, [{from} + 32]",
                "movdqa {c}, [{from} + 48]",
                "movdqa [{to} + 16], {a}",
                "movdqa [{to} + 32], {b}",
                "movdqa [{to} + 48], {c}",
                from = in(reg) std::ptr::from_ref(self),
                to = in(reg) std::ptr::from_mut(cell),
                a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _,
                options(nostack, preserves_flags)
            );
        }
    }

    /// Copies the payload beyond its first word, which its producer may be writing.
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    #[inline(always)]
    fn copy_rest(&self, cell: &mut Cell) {
        for (to, shared) in cell.words.iter_mut().zip(&self.payload).skip(1) {
            *to = shared.load(Ordering::Relaxed);
        }
    }
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot>() == SLOT_BYTES && align_of::<Slot>() == SLOT_BYTES);

/// What a slot carries, in private memory: its first word, and the payload.
///
/// Laid out as the slot is. It is received in place and not moved: what is stored in small pieces and
/// loaded in a larger one, as moves are, waits until the stores have reached the cache.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
pub struct Cell {
    word: u64,
    words: [u64; SLOT_WORDS],
}

impl Cell {
    /// An empty cell with a number for the layer above.
    #[inline(always)]
    pub fn new(tag: u16) -> Self {
        Self { word: u64::from(tag) << 16, words: [0; SLOT_WORDS] }
    }

    /// The number of the layer above.
    #[inline(always)]
    pub fn tag(&self) -> u16 {
        (self.word >> 16) as u16
    }

    /// How many buffer descriptors the payload begins with.
    #[inline(always)]
    pub fn descriptors(&self) -> u8 {
        (self.word >> 8) as u8
    }

    /// How many bytes of payload count.
    #[inline(always)]
    pub fn len(&self) -> usize {
        usize::from(self.word as u8)
    }

    /// Whether none do.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The words of the payload; those beyond [`Cell::len`] mean nothing.
    #[inline(always)]
    pub fn words(&self) -> &[u64; SLOT_WORDS] {
        &self.words
    }

    /// Appends a descriptor, which must come before other bytes. `false` if it does not fit.
    #[inline(always)]
    pub fn append_descriptor(&mut self, words: [u64; 2]) -> bool {
        let appended = self.append(zerocopy::IntoBytes::as_bytes(&words));
        self.word += u64::from(appended) << 8;
        appended
    }

    /// Says that the descriptors of the message go on in the next slot.
    #[inline]
    pub fn mark(&mut self, bit: u8) {
        self.word |= u64::from(bit) << 8;
    }

    /// Appends bytes. `false`, and nothing appended, if they do not fit.
    #[inline(always)]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let start = self.len();
        if bytes.len() > SLOT_PAYLOAD - start {
            return false;
        }
        if bytes.len() == 8 && start.is_multiple_of(8) {
            let mut word = [0u8; 8];
            word.copy_from_slice(bytes);
            self.words[start / 8] = u64::from_ne_bytes(word);
        } else {
            let payload = zerocopy::IntoBytes::as_mut_bytes(&mut self.words);
            payload[start..start + bytes.len()].copy_from_slice(bytes);
        }
        self.word += bytes.len() as u64;
        true
    }

    /// The payload.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        &zerocopy::IntoBytes::as_bytes(&self.words)[..self.len().min(SLOT_PAYLOAD)]
    }
}

/// Why a slot was not taken. Neither is a failure of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushRefusal {
    /// The consumer has not freed a slot yet.
    Full,
    /// The consumer's credit makes no sense.
    Fault(Fault),
}

fn sequence(position: u64) -> u32 {
    (position as u32).wrapping_add(1)
}

/// Makes slots empty, before their descriptor leaves the process.
pub(crate) fn clear(slots: &[Slot]) {
    for (index, slot) in slots.iter().enumerate() {
        // The sequence of the lap before the first, so that "empty" looks alike on every lap.
        let before = sequence(index as u64).wrapping_sub(slots.len() as u32);
        slot.word.store(u64::from(before) << 32, Ordering::Relaxed);
    }
}

/// The sending end: the only writer of the slots.
pub struct Producer {
    slots: View<Slot>,
    credit: View<AtomicU64>,
    mask: usize,
    next: u64,
    limit: u64,
}

impl Producer {
    /// Takes the sending end of `own`, whose consumer is `peer`.
    pub fn attach(own: &OwnSegment, peer: &PeerSegment) -> Self {
        let slots = own.geometry().slots as usize;
        Self::new(own.cells(SEND_QUEUE, slots), peer.cells(CREDIT, 1))
    }

    pub(crate) fn new(slots: View<Slot>, credit: View<AtomicU64>) -> Self {
        assert!(slots.len().is_power_of_two(), "a ring has a power of two of slots");
        let capacity = slots.len();
        Self { slots, credit, mask: capacity - 1, next: 0, limit: capacity as u64 }
    }

    /// Publishes a cell in the next slot.
    ///
    /// # Errors
    /// [`PushRefusal`]; the cell was not sent.
    ///
    /// # Cost
    /// One cache line written, no fence on x86-64. One line read once a quarter lap or more.
    #[inline(always)]
    pub fn try_push(&mut self, cell: &Cell) -> Result<(), PushRefusal> {
        if self.next == self.limit {
            self.refresh_limit()?;
        }
        // The point of no return: nothing below can fail.
        // SAFETY: masked by the number of slots (invariant 1).
        let slot = unsafe { self.slots.get_unchecked(self.next as usize & self.mask) };
        for (shared, word) in slot.payload.iter().zip(cell.words).take(cell.len().div_ceil(8)) {
            shared.store(word, Ordering::Relaxed);
        }
        let word = u64::from(sequence(self.next)) << 32 | cell.word;
        // PAIRS: ring.publish with `Consumer::try_pop`.
        slot.word.store(word, Ordering::Release);
        self.next += 1;
        Ok(())
    }

    /// Asks for the next slot's cache line, to be written soon: the answer to what was just received.
    #[inline(always)]
    pub fn anticipate(&self) {
        #[cfg(all(target_arch = "x86_64", not(loom)))]
        // SAFETY: masked by the number of slots (invariant 1); a prefetch changes nothing.
        unsafe {
            let slot = self.slots.get_unchecked(self.next as usize & self.mask);
            core::arch::asm!(
                "prefetchw [{slot}]",
                slot = in(reg) std::ptr::from_ref(slot),
                options(nostack, preserves_flags, readonly)
            );
        }
    }

    /// Whether a push would find a slot; looks at the credit if it must.
    ///
    /// # Errors
    /// [`PushRefusal`], as the push would.
    #[inline]
    pub fn has_room(&mut self) -> Result<(), PushRefusal> {
        if self.next == self.limit { self.refresh_limit() } else { Ok(()) }
    }

    #[cold]
    fn refresh_limit(&mut self) -> Result<(), PushRefusal> {
        // PAIRS: ring.credit with `Consumer::publish_credit`.
        let consumed = self.credit[0].load(Ordering::Acquire);
        let capacity = self.slots.len() as u64;
        let known = self.limit - capacity;
        if consumed < known || consumed > self.next {
            return Err(PushRefusal::Fault(Fault::Credit));
        }
        self.limit = consumed + capacity;
        if self.next == self.limit { Err(PushRefusal::Full) } else { Ok(()) }
    }

    /// Whether `count` pushes would find slots; looks at the credit if it must.
    ///
    /// # Errors
    /// [`PushRefusal`], as the last of the pushes would.
    pub fn has_room_for(&mut self, count: usize) -> Result<(), PushRefusal> {
        if self.limit - self.next >= count as u64 {
            return Ok(());
        }
        self.refresh_limit()?;
        if self.limit - self.next >= count as u64 { Ok(()) } else { Err(PushRefusal::Full) }
    }

    /// For how many pushes at once there is room again for sure, once the consumer has taken everything:
    /// it may not have published the credit for the last quarter.
    pub fn largest_room(&self) -> usize {
        self.slots.len() - Consumer::step(&self.slots) as usize + 1
    }

    /// How many cells were published.
    pub fn sent(&self) -> u64 {
        self.next
    }
}

/// What a look into the ring found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Popped {
    /// Nothing new.
    Nothing,
    /// A cell.
    Cell,
    /// A cell; and credit was published, so that a sleeping producer may have to be woken.
    CellAndCredit,
}

/// The receiving end: reads the slots, writes the credit.
pub struct Consumer {
    slots: View<Slot>,
    credit: View<AtomicU64>,
    mask: usize,
    next: u64,
    publish_at: u64,
}

impl Consumer {
    /// Takes the receiving end of `peer`, whose credit is kept in `own`.
    pub fn attach(own: &OwnSegment, peer: &PeerSegment) -> Self {
        let slots = peer.geometry().slots as usize;
        Self::new(peer.cells(SEND_QUEUE, slots), own.cells(CREDIT, 1))
    }

    pub(crate) fn new(slots: View<Slot>, credit: View<AtomicU64>) -> Self {
        assert!(slots.len().is_power_of_two(), "a ring has a power of two of slots");
        let mask = slots.len() - 1;
        let publish_at = Self::step(&slots);
        Self { slots, credit, mask, next: 0, publish_at }
    }

    /// Credit is published in steps of a quarter lap, so that a producer that waits for room is not
    /// woken for a crumb.
    fn step(slots: &[Slot]) -> u64 {
        (slots.len() as u64 / 4).max(1)
    }

    /// Takes the next cell into `cell`, if it is there. After a [`Fault`] the ring is of no more
    /// use.
    ///
    /// # Errors
    /// The [`Fault`] that the producer committed.
    ///
    /// # Cost
    /// One cache line read; a store once a quarter lap.
    #[inline(always)]
    pub fn try_pop(&mut self, cell: &mut Cell) -> Result<Popped, Fault> {
        // SAFETY: masked by the number of slots (invariant 1).
        let slot = unsafe { self.slots.get_unchecked(self.next as usize & self.mask) };
        // PAIRS: ring.publish with `Producer::try_push`. The only load of this word.
        let word = slot.word.load(Ordering::Acquire);
        if (word >> 32) as u32 != sequence(self.next) {
            return self.nothing_new((word >> 32) as u32);
        }
        let len = usize::from(word as u8);
        if len > 8 {
            if len > SLOT_PAYLOAD {
                return Err(Fault::SlotLength);
            }
            slot.copy_rest(cell);
        }
        cell.word = word & 0xffff_ffff;
        cell.words[0] = slot.payload[0].load(Ordering::Relaxed);
        self.next += 1;
        if self.next == self.publish_at {
            self.publish_credit();
            return Ok(Popped::CellAndCredit);
        }
        Ok(Popped::Cell)
    }

    #[inline(always)]
    fn nothing_new(&self, found: u32) -> Result<Popped, Fault> {
        let before = sequence(self.next).wrapping_sub(self.slots.len() as u32);
        if found == before { Ok(Popped::Nothing) } else { Err(Fault::SlotSequence) }
    }

    /// Whether a cell, or nonsense, is there to be taken.
    #[inline(always)]
    pub fn is_ready(&self) -> bool {
        // SAFETY: masked by the number of slots (invariant 1).
        let slot = unsafe { self.slots.get_unchecked(self.next as usize & self.mask) };
        let found = (slot.word.load(Ordering::Relaxed) >> 32) as u32;
        found != sequence(self.next).wrapping_sub(self.slots.len() as u32)
    }

    #[inline]
    fn publish_credit(&mut self) {
        // PAIRS: ring.credit with `Producer::refresh_limit`.
        self.credit[0].store(self.next, Ordering::Release);
        self.publish_at = self.next + Self::step(&self.slots);
    }

    /// How many slots there are.
    pub fn capacity(&self) -> u64 {
        self.slots.len() as u64
    }

    /// How many cells were taken.
    pub fn received(&self) -> u64 {
        self.next
    }
}

#[cfg(any(test, loom))]
impl Slot {
    /// Empty slots on the heap, for models and tests.
    pub(crate) fn on_heap(count: usize) -> std::sync::Arc<Vec<Self>> {
        let word = |_| AtomicU64::new(0);
        let slot = |_| Self { word: AtomicU64::new(0), payload: std::array::from_fn(word) };
        let slots: Vec<Self> = (0..count).map(slot).collect();
        clear(&slots);
        std::sync::Arc::new(slots)
    }

    /// Writes what it says, which need not be true.
    #[cfg(not(loom))]
    pub(crate) fn scribble(&self, word: u64, payload: [u64; SLOT_WORDS]) {
        for (shared, value) in self.payload.iter().zip(payload) {
            shared.store(value, Ordering::Relaxed);
        }
        self.word.store(word, Ordering::Release);
    }
}

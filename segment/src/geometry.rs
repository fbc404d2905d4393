//! The layout of a channel's segment: what each side writes for the other to read.
//!
//! One segment a side. The control page and the send queue stand at fixed offsets; the area and
//! the pool follow, as long as the header says. The header is written once, before the descriptor
//! leaves the process; the receiver reads it once, by `pread`, into a private copy, checks that, and
//! never looks at it again. The table in `docs/src/segment-layout.md` is compared with this file by
//! a test.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::pread;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::memory::{AttachError, Backing, CreateError, MAX_SEGMENT_BYTES, OwnBytes};
use crate::memory::{OwnMemory, PeerBytes, PeerMemory, sealed_len};
use crate::view::{Cells, View};
use crate::{Incarnation, free_queue, ring};

/// The first word of every segment: `UNETSEG` and a zero.
pub const MAGIC: u64 = u64::from_le_bytes(*b"UNETSEG\0");
/// The version of this layout. Another version is refused, not converted.
pub const VERSION: u32 = 2;

/// Where the header is.
pub const HEADER: usize = 0;
/// Where this side says that it sleeps: one word.
pub const ARMED: usize = 0x100;
/// Where this side says how many slots of the other's send queue it has consumed: one word.
pub const CREDIT: usize = 0x180;
/// Where this side says on which CPU it last waited: one word, a hint.
pub const CPU: usize = 0x200;
/// Where this side counts refusals and drops: [`crate::counters::CELLS`] words.
pub const COUNTERS: usize = 0x400;
/// Where this side gives buffers back: the free queue.
pub const FREE_QUEUE: usize = 0x800;
/// Where this side says how often it revoked each of its buffers: one word a buffer.
pub const EPOCHS: usize = 0x1000;
/// Where the send queue begins; the control pages end.
pub const SEND_QUEUE: usize = 0x2000;

/// How many size classes a pool has at most.
pub const MAX_CLASSES: usize = 6;
/// How many buffers all classes of a pool have together at most.
pub const MAX_BUFFERS: usize = 256;
/// The largest buffer.
pub const MAX_BUFFER_BYTES: usize = 16 << 20;
/// The fewest and the most slots of a send queue.
pub const SLOTS: std::ops::RangeInclusive<u32> = 8..=65_536;

const _: () = assert!(FREE_QUEUE + free_queue::CAPACITY * 8 == EPOCHS);
const _: () = assert!(EPOCHS + MAX_BUFFERS * 8 <= SEND_QUEUE);
const _: () = assert!(COUNTERS + crate::counters::CELLS * 8 <= FREE_QUEUE);
const _: () = assert!(HEADER_BYTES <= ARMED);

/// One size class of a pool.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Class {
    /// Bytes of a buffer: a multiple of 64, at most [`MAX_BUFFER_BYTES`].
    pub buffer_bytes: u32,
    /// How many buffers; a class of none is left out.
    pub buffers: u32,
}

/// What a segment consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Slots of the send queue: a power of two within [`SLOTS`]; 0 in a region, which is a segment of
    /// buffers alone.
    pub slots: u32,
    /// Bytes of the area, which belongs to the layer above (LRPC keeps its A-stacks there).
    pub area_bytes: u32,
    /// The pool's classes in ascending size; unused ones are all zero and stand last.
    pub classes: [Class; MAX_CLASSES],
    /// Round the segment up to 2 MiB pages.
    pub huge_pages: bool,
}

/// A pool's classes where none are chosen: from 2 KiB to 4 MiB. Larger messages take several buffers.
pub const DEFAULT_CLASSES: [Class; MAX_CLASSES] = [
    Class { buffer_bytes: 2 << 10, buffers: 64 },
    Class { buffer_bytes: 4 << 10, buffers: 32 },
    Class { buffer_bytes: 16 << 10, buffers: 16 },
    Class { buffer_bytes: 64 << 10, buffers: 16 },
    Class { buffer_bytes: 1 << 20, buffers: 8 },
    Class { buffer_bytes: 4 << 20, buffers: 8 },
];

impl Default for Geometry {
    fn default() -> Self {
        Self { slots: 128, area_bytes: 0, classes: DEFAULT_CLASSES, huge_pages: false }
    }
}

/// A segment of this process, laid out.
#[derive(Debug)]
pub struct OwnSegment {
    geometry: Geometry,
    memory: OwnMemory,
}

/// A peer's segment, verified and mapped for reading.
#[derive(Debug)]
pub struct PeerSegment {
    geometry: Geometry,
    memory: PeerMemory,
}

impl OwnSegment {
    /// Its layout.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The area, the first time; `None` after that, and once a class was taken.
    pub fn take_area(&mut self) -> Option<OwnBytes> {
        self.memory.carve(self.geometry.area_offset(), self.geometry.area_bytes as usize)
    }

    /// The bytes of a class, once; classes are taken in ascending order.
    pub fn take_class(&mut self, class: usize) -> Option<OwnBytes> {
        let Class { buffer_bytes, buffers } = *self.geometry.classes.get(class)?;
        let len = buffer_bytes as usize * buffers as usize;
        self.memory.carve(self.geometry.class_offset(class), len)
    }

    /// Control words or slots. Only this crate's queues ask, each for its own range.
    pub(crate) fn cells<T: Cells>(&self, offset: usize, count: usize) -> View<T> {
        self.memory.cells(offset, count).expect("a valid geometry lies within its segment")
    }
}

impl AsFd for OwnSegment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

impl PeerSegment {
    /// Its layout, in a private and checked copy.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// All bytes, which offsets of [`Geometry::class_offset`] are in.
    pub fn all(&self) -> PeerBytes {
        self.bytes(0, self.geometry.total_bytes())
    }

    /// The area.
    pub fn area(&self) -> PeerBytes {
        self.bytes(self.geometry.area_offset(), self.geometry.area_bytes as usize)
    }

    fn bytes(&self, offset: usize, len: usize) -> PeerBytes {
        self.memory.bytes(offset, len).expect("a checked geometry lies within its segment")
    }

    /// Control words or slots, to be read.
    pub(crate) fn cells<T: Cells>(&self, offset: usize, count: usize) -> View<T> {
        self.memory.cells(offset, count).expect("a checked geometry lies within its segment")
    }
}

/// The first bytes of a segment.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: u64,
    version: u32,
    slots: u32,
    incarnation: u64,
    total_bytes: u64,
    area_bytes: u32,
    huge_pages: u32,
    classes: [Class; MAX_CLASSES],
}

/// The bytes of the header.
pub(crate) const HEADER_BYTES: usize = size_of::<Header>();
const _: () = assert!(HEADER_BYTES == 88);

impl Geometry {
    /// Whether every number is within its bounds, for a channel's segment.
    pub fn is_valid(&self) -> bool {
        SLOTS.contains(&self.slots) && self.slots.is_power_of_two() && self.has_valid_parts()
    }

    /// Whether it is a segment of buffers alone, with every number within its bounds.
    pub fn is_valid_region(&self) -> bool {
        self.slots == 0 && self.area_bytes == 0 && self.has_valid_parts()
    }

    fn has_valid_parts(&self) -> bool {
        let mut buffers = 0usize;
        let mut smaller = 0;
        let mut ended = false;
        for class in self.classes {
            if class == Class::default() {
                ended = true;
                continue;
            }
            let bytes = class.buffer_bytes as usize;
            let in_order = !ended && bytes > smaller && class.buffers > 0;
            if !in_order || !bytes.is_multiple_of(64) || bytes > MAX_BUFFER_BYTES {
                return false;
            }
            smaller = bytes;
            buffers = buffers.saturating_add(class.buffers as usize);
        }
        self.area_bytes.is_multiple_of(64)
            && buffers <= MAX_BUFFERS
            && self.total_bytes() <= MAX_SEGMENT_BYTES
    }

    /// A segment of buffers alone: what a pool on a path lives in.
    pub fn region(classes: [Class; MAX_CLASSES], huge_pages: bool) -> Self {
        Self { slots: 0, area_bytes: 0, classes, huge_pages }
    }

    /// Where the area begins.
    pub fn area_offset(&self) -> usize {
        SEND_QUEUE + (self.slots as usize * ring::SLOT_BYTES).next_multiple_of(4096)
    }

    /// Where each class begins: at a page, and in huge pages at one of them if its buffers consist of
    /// whole ones, so that each can be protected by itself.
    pub fn class_offset(&self, class: usize) -> usize {
        let area_end = self.area_offset() + (self.area_bytes as usize).next_multiple_of(4096);
        let end = self.classes[..class].iter().fold(area_end, |at, class| {
            self.align(at, class) + class.buffer_bytes as usize * class.buffers as usize
        });
        self.classes.get(class).map_or(end, |class| self.align(end, class))
    }

    fn align(&self, offset: usize, class: &Class) -> usize {
        let page = self.backing(false).page_bytes();
        let whole = (class.buffer_bytes as usize).is_multiple_of(page) && class.buffers > 0;
        offset.next_multiple_of(if whole { page } else { 4096 })
    }

    /// The size of the whole segment.
    pub fn total_bytes(&self) -> usize {
        self.class_offset(MAX_CLASSES).next_multiple_of(self.backing(false).page_bytes())
    }

    /// The largest buffer of the pool; zero without a pool.
    pub fn largest_buffer(&self) -> usize {
        self.classes.iter().map(|class| class.buffer_bytes as usize).max().unwrap_or(0)
    }

    fn backing(&self, locked: bool) -> Backing {
        Backing { huge_pages: self.huge_pages, locked }
    }

    /// Makes a segment of this layout, with its header written and its queues empty.
    ///
    /// # Errors
    /// [`CreateError::Size`] if the geometry is not valid; else what the kernel lacks.
    ///
    /// # Cost
    /// Four system calls, five if locked.
    pub fn create(
        &self,
        incarnation: Incarnation,
        locked: bool,
    ) -> Result<OwnSegment, CreateError> {
        if !self.is_valid() && !self.is_valid_region() {
            return Err(CreateError::Size);
        }
        // A tool looks for counters in what begins with `unet-`; a region has none.
        let name = if self.is_valid() { "unet-segment" } else { "fbufs-region" };
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            slots: self.slots,
            incarnation: incarnation.0,
            total_bytes: self.total_bytes() as u64,
            area_bytes: self.area_bytes,
            huge_pages: u32::from(self.huge_pages),
            classes: self.classes,
        };
        let mut memory = OwnMemory::create(name, self.total_bytes(), self.backing(locked))?;
        let mut page = memory.carve(HEADER, size_of::<Header>()).ok_or(CreateError::Size)?;
        page.copy_from_slice(header.as_bytes());
        let segment = OwnSegment { geometry: *self, memory };
        ring::clear(&segment.cells(SEND_QUEUE, self.slots as usize));
        free_queue::clear(&segment.cells(FREE_QUEUE, free_queue::CAPACITY));
        Ok(segment)
    }

    /// Verifies a peer's segment and maps it for reading.
    ///
    /// # Errors
    /// [`AttachError`] names the check that failed; nothing is mapped then.
    ///
    /// # Cost
    /// Six system calls and one copy of the header.
    pub fn attach(
        fd: BorrowedFd<'_>,
        incarnation: Incarnation,
    ) -> Result<PeerSegment, AttachError> {
        let len = sealed_len(fd)?;
        let header = Self::read(fd)?;
        Self::map(fd, len, Self::check(&header, len, incarnation, Self::is_valid)?)
    }

    /// As [`Geometry::attach`], for a segment of buffers alone, whose incarnation nobody named.
    ///
    /// # Errors
    /// As [`Geometry::attach`].
    ///
    /// # Cost
    /// As [`Geometry::attach`].
    pub fn attach_region(fd: BorrowedFd<'_>) -> Result<PeerSegment, AttachError> {
        let len = sealed_len(fd)?;
        let header = Self::read(fd)?;
        let any = Incarnation(header.incarnation);
        Self::map(fd, len, Self::check(&header, len, any, Self::is_valid_region)?)
    }

    fn read(fd: BorrowedFd<'_>) -> Result<Header, AttachError> {
        let mut bytes = [0u8; size_of::<Header>()];
        let got = pread(fd, &mut bytes, HEADER as u64).map_err(AttachError::Kernel)?;
        if got != bytes.len() {
            return Err(AttachError::WrongMagic);
        }
        Header::read_from_bytes(&bytes).map_err(|_| AttachError::WrongMagic)
    }

    fn map(fd: BorrowedFd<'_>, len: usize, geometry: Self) -> Result<PeerSegment, AttachError> {
        Ok(PeerSegment { geometry, memory: PeerMemory::map(fd, len)? })
    }

    fn check(
        header: &Header,
        len: usize,
        incarnation: Incarnation,
        is_valid: fn(&Self) -> bool,
    ) -> Result<Self, AttachError> {
        if header.magic != MAGIC {
            return Err(AttachError::WrongMagic);
        }
        if header.version != VERSION {
            return Err(AttachError::WrongVersion(header.version));
        }
        if header.incarnation != incarnation.0 {
            return Err(AttachError::WrongIncarnation);
        }
        let geometry = Self {
            slots: header.slots,
            area_bytes: header.area_bytes,
            classes: header.classes,
            huge_pages: header.huge_pages == 1,
        };
        if header.huge_pages > 1 || !is_valid(&geometry) {
            return Err(AttachError::WrongLayout);
        }
        if geometry.total_bytes() != len || header.total_bytes != len as u64 {
            return Err(AttachError::WrongSize);
        }
        Ok(geometry)
    }

    /// Checks a header's bytes as [`Geometry::attach`] does, without a segment: for fuzzing.
    ///
    /// # Errors
    /// As [`Geometry::attach`].
    pub fn check_header(bytes: &[u8], len: usize) -> Result<Self, AttachError> {
        let (header, _) = Header::read_from_prefix(bytes).map_err(|_| AttachError::WrongMagic)?;
        Self::check(&header, len, Incarnation(header.incarnation), Self::is_valid)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::mem::offset_of;

    use super::*;
    use crate::book::{compare_fields, table};

    #[test]
    fn the_header_is_as_its_table_says() {
        let fields = [
            ("magic", offset_of!(Header, magic), size_of::<u64>()),
            ("version", offset_of!(Header, version), size_of::<u32>()),
            ("slots", offset_of!(Header, slots), size_of::<u32>()),
            ("incarnation", offset_of!(Header, incarnation), size_of::<u64>()),
            ("total_bytes", offset_of!(Header, total_bytes), size_of::<u64>()),
            ("area_bytes", offset_of!(Header, area_bytes), size_of::<u32>()),
            ("huge_pages", offset_of!(Header, huge_pages), size_of::<u32>()),
            ("classes", offset_of!(Header, classes), size_of::<[Class; MAX_CLASSES]>()),
        ];
        compare_fields(&table("The header", 0), &fields, HEADER_BYTES);
        assert_eq!((offset_of!(Class, buffer_bytes), offset_of!(Class, buffers)), (0, 4));
        assert_eq!(MAGIC.to_ne_bytes(), *b"UNETSEG\0");
    }
}

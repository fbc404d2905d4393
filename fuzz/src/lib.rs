//! What the fuzz targets share. Each target is a file in `fuzz_targets/` with a `[[bin]]` entry in
//! `Cargo.toml`; inputs worth starting from are committed in `seeds/TARGET/`.

pub mod network;

use std::os::fd::{AsFd, OwnedFd};

use segment::Incarnation;
use segment::geometry::{Class, Geometry, OwnSegment, PeerSegment};

/// A small layout: two sizes, seven buffers.
pub fn geometry() -> Geometry {
    let mut geometry = Geometry { slots: 8, area_bytes: 0, ..Geometry::default() };
    geometry.classes = Default::default();
    geometry.classes[0] = Class { buffer_bytes: 64, buffers: 4 };
    geometry.classes[1] = Class { buffer_bytes: 4096, buffers: 3 };
    geometry
}

/// How many buffers the layout has.
pub const BUFFERS: usize = 7;

/// A segment, and how the other side maps it.
pub fn segment() -> (OwnSegment, PeerSegment) {
    let incarnation = Incarnation(7);
    let own = geometry().create(incarnation, false).expect("memory is left");
    let peer = Geometry::attach(own.as_fd(), incarnation).expect("it is honest");
    (own, peer)
}

/// A graph of this description, with a few small buffers.
pub fn graph(text: &str) -> protocols::Graph {
    let mut options = fbufs::PoolOptions::default();
    options.classes = Default::default();
    options.classes[0] = Class { buffer_bytes: 512, buffers: 64 };
    let pool = fbufs::Pool::new(options).expect("memory is left");
    let description = text.parse().expect("it is a description");
    let (kinds, limits) = (protocols::Kinds::standard(), protocols::Limits::default());
    protocols::Graph::with_seed(&description, &kinds, pool, limits, 0).expect("it is a graph")
}

/// A region of the same classes, as its owner offers it.
pub fn region() -> OwnedFd {
    let region = Geometry::region(geometry().classes, false);
    let own = region.create(Incarnation(8), false).expect("memory is left");
    own.as_fd().try_clone_to_owned().expect("a descriptor is left")
}

/// Takes integers off the fuzzer's bytes, from the front; zeros when they are used up.
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    /// Whether any are left.
    pub fn more(&self) -> bool {
        !self.0.is_empty()
    }

    /// The next bytes.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let len = N.min(self.0.len());
        taken[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        taken
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    /// The next word.
    pub fn word(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(u16::from_le_bytes(self.take())) % bound
    }
}

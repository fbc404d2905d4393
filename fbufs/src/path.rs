//! A path: the ordered domains that messages visit, each with a region that it alone writes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use segment::epochs::PeerEpochs;
use segment::geometry::{Geometry, MAX_CLASSES, PeerSegment};
use segment::memory::{AttachError, PeerBytes};

use crate::Pool;
use crate::pool::Region;

/// How many domains with a region of their own a path has at most.
pub const MAX_REGIONS: usize = 7;

/// Why a path could not be extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The pool is part of a channel's segment, or a device's.
    #[error("a channel's or a device's own pool cannot be part of a path: use `Pool::new`")]
    InSegment,
    /// The path has as many regions as it may have.
    #[error("a path has at most {MAX_REGIONS} regions")]
    TooLong,
}

/// Where a buffer lies within a region.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Which of the regions that the sender may name.
    pub region: u8,
    /// The buffer's number within the region.
    pub index: u16,
    /// Its first byte in the region's memory.
    pub start: u32,
    /// From there to the end of the buffer, or of the longest run that begins with it.
    pub bytes: u32,
}

/// Another domain's region, mapped read-only.
pub(crate) struct PeerRegion {
    fd: Option<OwnedFd>,
    pub bytes: PeerBytes,
    pub epochs: PeerEpochs,
    geometry: Geometry,
    /// Payload bytes that this library copied out of it in this process.
    pub copied: AtomicU64,
}

impl PeerRegion {
    /// The pool of a peer's segment.
    pub fn of_segment(peer: &PeerSegment) -> Arc<Self> {
        Arc::new(Self::new(peer, None))
    }

    fn new(peer: &PeerSegment, fd: Option<OwnedFd>) -> Self {
        Self {
            fd,
            bytes: peer.all(),
            epochs: PeerEpochs::attach(peer),
            geometry: *peer.geometry(),
            copied: AtomicU64::new(0),
        }
    }

    /// Its buffers in order, as the `region`th of a list of regions. Those of the largest class can be
    /// handed over in runs.
    pub fn places(&self, region: usize) -> impl Iterator<Item = Place> + '_ {
        let largest = self.geometry.classes.iter().rposition(|class| class.buffers > 0);
        let classes = (0..MAX_CLASSES).flat_map(move |number| {
            let start = self.geometry.class_offset(number) as u32;
            let class = self.geometry.classes[number];
            let bytes = class.buffer_bytes;
            (0..class.buffers).map(move |at| {
                let run = if largest == Some(number) { class.buffers - at } else { 1 };
                (start + at * bytes, run * bytes)
            })
        });
        classes.enumerate().map(move |(index, (start, bytes))| Place {
            region: region as u8,
            index: index as u16,
            start,
            bytes,
        })
    }

    pub fn buffers(&self) -> usize {
        self.geometry.classes.iter().map(|class| class.buffers as usize).sum()
    }
}

/// One domain's region, as one process sees it.
#[derive(Clone)]
pub(crate) enum Hop {
    Own(Arc<Region>),
    Peer(Arc<PeerRegion>),
}

impl Hop {
    pub fn buffers(&self) -> usize {
        match self {
            Self::Own(region) => region.buffers,
            Self::Peer(region) => region.buffers(),
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Own(region) => region.segment.as_ref().map(AsFd::as_fd),
            Self::Peer(region) => region.fd.as_ref().map(AsFd::as_fd),
        }
    }
}

/// The regions of the domains that a message may come from, in the order in which it visits them.
///
/// The first domain makes a path of its own pool. It offers it with the connection to the second,
/// which extends it by its own and offers that to the third. So every region is mapped in every later
/// domain before the first message, and each domain verifies the seals for itself.
///
/// After Druschel and Peterson, *Fbufs* (SOSP 1993), section 3.1.
#[derive(Clone, Default)]
pub struct Path {
    pub(crate) hops: Vec<Hop>,
}

impl Path {
    /// The path that begins in the domain of this pool.
    ///
    /// # Errors
    /// [`PathError::InSegment`].
    pub fn of(pool: &Pool) -> Result<Self, PathError> {
        Self::default().then(pool)
    }

    /// The path as it goes on through the domain of this pool.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn then(&self, pool: &Pool) -> Result<Self, PathError> {
        if pool.region().segment.is_none() {
            return Err(PathError::InSegment);
        }
        if self.hops.len() == MAX_REGIONS {
            return Err(PathError::TooLong);
        }
        let mut path = self.clone();
        path.hops.push(Hop::Own(pool.region().clone()));
        Ok(path)
    }

    /// How many domains have a region on it.
    pub fn regions(&self) -> usize {
        self.hops.len()
    }

    /// The descriptors of its regions, to be passed on to the next domain.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.hops.iter().filter_map(Hop::fd)
    }

    /// Verifies and maps the regions of the domains before this one.
    ///
    /// # Errors
    /// [`AttachError`] names the check that failed; [`AttachError::WrongLayout`] also if there are
    /// more than [`MAX_REGIONS`].
    ///
    /// # Cost
    /// Six system calls a region.
    pub fn attach(descriptors: Vec<OwnedFd>) -> Result<Self, AttachError> {
        if descriptors.len() > MAX_REGIONS {
            return Err(AttachError::WrongLayout);
        }
        let map = |fd: OwnedFd| {
            let peer = Geometry::attach_region(fd.as_fd())?;
            Ok(Hop::Peer(Arc::new(PeerRegion::new(&peer, Some(fd)))))
        };
        Ok(Self { hops: descriptors.into_iter().map(map).collect::<Result<_, _>>()? })
    }

    /// How many bytes of payload this library copied out of its regions in this process.
    pub fn copied(&self) -> u64 {
        let copied = |hop: &Hop| match hop {
            Hop::Own(_) => 0,
            Hop::Peer(region) => region.copied.load(Ordering::Relaxed),
        };
        self.hops.iter().map(copied).sum()
    }
}

impl std::fmt::Debug for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut list = f.debug_list();
        for hop in &self.hops {
            let whose = if matches!(hop, Hop::Own(_)) { "own" } else { "peer" };
            list.entry(&format_args!("{whose}: {} buffers", hop.buffers()));
        }
        list.finish()
    }
}

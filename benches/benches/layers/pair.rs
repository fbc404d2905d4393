//! Two segments in one process, joined as two processes join theirs.

use std::os::fd::AsFd;

use segment::Incarnation;
use segment::geometry::{Geometry, OwnSegment, PeerSegment};

/// One side: its own segment, and the other's, mapped for reading.
pub struct Side {
    /// Written by this side.
    pub own: OwnSegment,
    /// Written by the other.
    pub peer: PeerSegment,
}

/// Makes both sides with the default geometry.
pub fn sides() -> (Side, Side) {
    let geometry = Geometry::default();
    let make = || {
        let incarnation = Incarnation::draw().expect("the kernel has random bytes");
        let own = geometry.create(incarnation, false).expect("there is memory for a segment");
        (own, incarnation)
    };
    let (first, first_incarnation) = make();
    let (second, second_incarnation) = make();
    let attach = |other: &OwnSegment, incarnation| {
        Geometry::attach(other.as_fd(), incarnation).expect("the segment was just made")
    };
    let of_second = attach(&second, second_incarnation);
    let of_first = attach(&first, first_incarnation);
    (Side { own: first, peer: of_second }, Side { own: second, peer: of_first })
}

//! Which of the nodes below is which version of IP.

use crate::Lower;

/// The places of the two versions below a layer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Families {
    version4: usize,
    version6: usize,
}

impl Families {
    /// By their kinds; where other layers stand between, version 4 is the first and version 6 the
    /// last.
    pub(super) fn of(lowers: &[Lower]) -> Self {
        let place = |kind: &str| lowers.iter().position(|lower| lower.kind == kind);
        Self {
            version4: place("ipv4").unwrap_or(0),
            version6: place("ipv6").unwrap_or(lowers.len().saturating_sub(1)),
        }
    }

    pub(super) fn lower(self, version6: bool) -> usize {
        if version6 { self.version6 } else { self.version4 }
    }

    /// All of them, without repetition.
    pub(super) fn places(self) -> impl Iterator<Item = usize> {
        let other = (self.version6 != self.version4).then_some(self.version6);
        std::iter::once(self.version4).chain(other)
    }
}

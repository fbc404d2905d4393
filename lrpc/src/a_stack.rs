//! A-stacks: where arguments and results stand that do not fit into a slot.
//!
//! Each procedure has [`A_STACKS`] of them, numbered through the interface; the number also names a
//! call under way. An A-stack has two halves of equal size, one in the area of either side's
//! segment: arguments stand in the client's, results in the server's. Both sides work out the same
//! layout from the interface; no offset ever crosses.

use unet::Channel;

use crate::PlainData;
use crate::interface::Shape;
use crate::wire::needs_a_stack;

/// How many calls of one procedure can be under way on a binding.
pub const A_STACKS: usize = 8;

/// Where the A-stacks of an interface are.
pub(crate) struct Layout {
    /// By procedure: where its first A-stack begins, and how many bytes each has.
    procedures: Box<[(usize, usize)]>,
    area_bytes: usize,
}

impl Layout {
    pub fn of(procedures: &[Shape]) -> Self {
        let mut area_bytes = 0;
        let place = |shape: &Shape| {
            let bytes =
                if needs_a_stack(shape) { shape.arguments.1.max(shape.results.1) } else { 0 };
            let stride = bytes.next_multiple_of(64);
            let first = area_bytes;
            area_bytes = stride.saturating_mul(A_STACKS).saturating_add(area_bytes);
            (first, stride)
        };
        let procedures = procedures.iter().map(place).collect();
        Self { procedures, area_bytes }
    }

    /// How large both areas must be. More than 32 bits count is more than any segment has: then this
    /// is a size that no geometry takes.
    pub fn area_bytes(&self) -> u32 {
        u32::try_from(self.area_bytes).unwrap_or(u32::MAX)
    }

    /// Where a procedure's A-stack is. `None` if the number is not one of the procedure's.
    #[inline]
    fn offset(&self, procedure: u16, a_stack: u16, bytes: usize) -> Option<usize> {
        let (first, stride) = *self.procedures.get(usize::from(procedure))?;
        let nth = usize::from(a_stack).checked_sub(usize::from(procedure) * A_STACKS)?;
        (nth < A_STACKS && bytes <= stride).then(|| first + nth * stride)
    }

    /// Writes a value into this side's half. `None` if it does not fit there.
    pub fn write<T: PlainData>(
        &self,
        channel: &mut Channel,
        procedure: u16,
        a_stack: u16,
        value: &T,
    ) -> Option<()> {
        let offset = self.offset(procedure, a_stack, size_of::<T>())?;
        let place = channel.area_mut().get_mut(offset..offset + size_of::<T>())?;
        value.write_to(place).ok()
    }

    /// Copies the peer's half, once, into `scratch`. `None` if the number is none of the procedure's,
    /// or the peer's area is too small.
    pub fn read<'a>(
        &self,
        channel: &Channel,
        procedure: u16,
        a_stack: u16,
        bytes: usize,
        scratch: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        let offset = self.offset(procedure, a_stack, bytes)?;
        let copy = scratch.get_mut(..bytes)?;
        channel.peer_area()?.copy_to(offset, copy).then_some(copy)
    }
}

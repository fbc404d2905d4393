//! Buffers of this process's own.

use fbufs::{Pool, PoolOptions};
use unet::{AllocError, FbufMut};

use crate::protocol::MAX_MESSAGE;

/// Buffers for bulk that no channel's buffers take: a pool, and another when all of it is in use. The memory of
/// a pool goes with the last of its buffers.
#[derive(Default)]
pub(super) struct Buffers(Option<Pool>);

impl Buffers {
    /// Takes a buffer of up to the longest message.
    ///
    /// # Errors
    /// [`AllocError`]: longer, or the kernel has no memory.
    ///
    /// # Cost
    /// As [`Pool::alloc`]; where a pool is made, four system calls.
    pub fn alloc(&mut self, len: usize) -> Result<FbufMut, AllocError> {
        if len > MAX_MESSAGE {
            return Err(AllocError::TooLarge { asked: len, largest: MAX_MESSAGE });
        }
        if let Some(buffer) = self.0.as_mut().and_then(|pool| take(pool, len)) {
            return Ok(buffer);
        }
        let mut options = PoolOptions::default();
        if let Some(largest) = options.classes.last_mut() {
            // The longest message is adjacent ones of these. Pages that nobody writes take no memory.
            largest.buffers =
                largest.buffers.max(MAX_MESSAGE.div_ceil(largest.buffer_bytes as usize) as u32);
        }
        let pool = Pool::new(options).map_err(|_| AllocError::Exhausted)?;
        take(self.0.insert(pool), len).ok_or(AllocError::Exhausted)
    }
}

fn take(pool: &mut Pool, len: usize) -> Option<FbufMut> {
    if len > pool.largest() { pool.alloc_adjacent(len) } else { pool.alloc(len).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_another_buffer_up_to_the_longest() {
        let mut buffers = Buffers::default();
        let kept: Vec<FbufMut> = [0, 1, 5 << 20, MAX_MESSAGE, MAX_MESSAGE]
            .into_iter()
            .map(|len| {
                let buffer = buffers.alloc(len).expect("there is memory");
                assert_eq!(buffer.len(), len);
                buffer
            })
            .collect();
        assert_eq!(kept.len(), 5);
        let largest = MAX_MESSAGE;
        let refused = AllocError::TooLarge { asked: largest + 1, largest };
        assert_eq!(buffers.alloc(largest + 1).err(), Some(refused));
    }
}

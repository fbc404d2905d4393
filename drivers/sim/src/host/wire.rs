//! What stands before a payload on its way between processes.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | `USIM` |
//! | 4..8 | the version, 1, little-endian |
//! | 8..16 | when it is due: nanoseconds of the monotonic clock, little-endian |

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub(super) const HEADER: usize = 16;
const MAGIC: [u8; 8] = [b'U', b'S', b'I', b'M', 1, 0, 0, 0];

/// What time it is, for all processes of the host.
pub(super) fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

pub(super) fn header(due: Duration) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(&(due.as_nanos() as u64).to_le_bytes());
    header
}

/// When a packet is due; `None` if it has no header of ours.
pub(super) fn due(bytes: &[u8]) -> Option<Duration> {
    let due = bytes.strip_prefix(&MAGIC)?.first_chunk::<8>()?;
    Some(Duration::from_nanos(u64::from_le_bytes(*due)))
}

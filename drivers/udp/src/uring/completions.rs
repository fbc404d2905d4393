//! What the kernel's completions mean. Their word is checked against the tables of what it was given.

use std::collections::VecDeque;

use io_uring::cqueue;
use rustix::io::Errno;
use unet::device::{Count, Outgoing, Piece, Received};

use super::provided::Provided;
use super::sends::Outcome;
use crate::name::Name;
use crate::port::Port;

/// Of what the kernel writes before the name: four words, lengths of name, control data and payload, and
/// flags.
pub(crate) const HEADER: usize = 16;

/// Reads what arrived out of the buffer that the kernel names, if it had one of that name. An error where
/// nothing was received.
#[inline(always)]
pub(crate) fn arrival(
    entry: &cqueue::Entry,
    port: &mut Port,
    provided: &mut Provided,
) -> Result<Option<Received>, Errno> {
    let buffer = cqueue::buffer_select(entry.flags()).and_then(|place| provided.take(place));
    let Ok(written) = usize::try_from(entry.result()) else {
        // Given back by being dropped, if there is one.
        return Err(Errno::from_raw_os_error(-entry.result()));
    };
    let Some(mut buffer) = buffer else {
        port.counted.add(Count::Fault, 1);
        return Ok(None);
    };
    let payload = HEADER + Name::len_of(port.local.is_ipv6());
    if written < payload || !buffer.set_range(0..payload) {
        port.discard(buffer, Count::Fault);
        return Ok(None);
    }
    let flags = u32::from_ne_bytes([buffer[12], buffer[13], buffer[14], buffer[15]]);
    if flags & libc::MSG_TRUNC as u32 != 0 {
        port.discard(buffer, Count::Truncated);
        return Ok(None);
    }
    let from = Name::read(&buffer[HEADER..]);
    if written > buffer.capacity() {
        port.discard(buffer, Count::Fault);
        return Ok(None);
    }
    Ok(port.hand_over(buffer, payload..written, &from))
}

/// Counts what came of a send, and puts it back before the queue, if there is one, where it is to be
/// tried again.
pub(crate) fn settle(port: &mut Port, outcome: Outcome, queue: Option<&mut VecDeque<Outgoing>>) {
    let Outcome { to, bytes, answer, fbuf } = outcome;
    if answer >= 0 {
        port.counted.add(Count::Sent, 1);
        port.counted.add(Count::SentBytes, bytes as u64);
    } else {
        let errno = Errno::from_raw_os_error(-answer);
        // The one before it in its chain was refused.
        let stays = errno == Errno::CANCELED || port.stays(to, errno);
        match (stays, queue, fbuf) {
            (true, Some(queue), Some(bytes)) => {
                queue.push_front(Outgoing { to, piece: Piece::whole(bytes) });
                return;
            }
            (true, _, _) => port.counted.add(Count::Failed, 1),
            (false, _, _) => {}
        }
        return;
    }
    if let Some(fbuf) = fbuf {
        port.pool.recycle(fbuf);
    }
}

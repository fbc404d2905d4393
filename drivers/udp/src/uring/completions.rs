//! What the kernel's completions mean. Their word is checked against the tables of what it was given.

use std::collections::VecDeque;
use std::net::SocketAddr;

use io_uring::cqueue;
use rustix::io::Errno;
use unet::device::{Count, Outgoing, Piece, Received};

use super::provided::Provided;
use super::sends::Outcome;
use crate::favoured::Side;
use crate::name::Name;
use crate::port::Port;

/// Of what the kernel writes before the name: four words, lengths of name, control data and payload, and
/// flags.
pub(crate) const HEADER: usize = 16;

/// Reads what arrived out of the buffer that the kernel names, if it had one of that name; before the payload
/// stands who sent it, unless that is known. An error where nothing was received.
#[inline(always)]
pub(crate) fn arrival(
    result: i32,
    flags: u32,
    sole: Option<SocketAddr>,
    port: &mut Port,
    provided: &mut Provided,
) -> Result<Option<Received>, Errno> {
    let buffer = cqueue::buffer_select(flags).and_then(|place| provided.take(place));
    let Ok(written) = usize::try_from(result) else {
        // Given back by being dropped, if there is one.
        return Err(Errno::from_raw_os_error(-result));
    };
    if sole.is_some() {
        // For an empty datagram without its sender's name the kernel takes no buffer.
        let buffer = if written == 0 { buffer.or_else(|| port.free_buffer()) } else { buffer };
        let Some(buffer) = buffer else {
            port.counted.add(if written == 0 { Count::NoBuffer } else { Count::Fault }, 1);
            return Ok(None);
        };
        return Ok(port.hand_over(buffer, 0..written, sole));
    }
    let Some(mut buffer) = buffer else {
        port.counted.add(Count::Fault, 1);
        return Ok(None);
    };
    let payload = HEADER + Name::len_of(port.local.is_ipv6());
    if written < payload || !buffer.set_range(0..payload) {
        port.discard(buffer, Count::Fault);
        return Ok(None);
    }
    let told = u32::from_ne_bytes([buffer[12], buffer[13], buffer[14], buffer[15]]);
    if told & libc::MSG_TRUNC as u32 != 0 {
        port.discard(buffer, Count::Truncated);
        return Ok(None);
    }
    let from = Name::read(&buffer[HEADER..]);
    if written > buffer.capacity() {
        port.discard(buffer, Count::Fault);
        return Ok(None);
    }
    Ok(port.hand_over(buffer, payload..written, from.address()))
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
        // The one before it in its chain was refused; or it is about one that was sent before.
        let entry = port.destinations.get(to);
        let by = entry.map_or(Side::Open, |entry| port.way(entry).0);
        let stays =
            errno == Errno::CANCELED || port.is_retried(to, errno) || port.stays(to, by, errno);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UdpOptions;

    /// That a buffer was used, and which one.
    fn of_buffer(place: u32) -> u32 {
        1 | place << 16
    }

    #[test]
    fn what_the_kernel_cannot_have_written_is_a_fault() {
        let options = UdpOptions { buffers: 8, buffer_bytes: 256, ..UdpOptions::default() };
        let mut port = Port::open("127.0.0.1:0".parse().unwrap(), &options, false).unwrap();
        let mut provided = Provided::new(4).unwrap();
        let mut faults = 0;
        let cases = [
            ("no buffer", 40, 0, true),
            ("a buffer that it does not have", 40, of_buffer(9), true),
            ("no room for the header", 15, of_buffer(0), true),
            ("no room for the name", 31, of_buffer(0), true),
            ("longer than the buffer", 257, of_buffer(0), true),
            ("as long as can be", i32::MAX, of_buffer(0), true),
            ("a sender without a family", 40, of_buffer(0), true),
            ("a sender", 40, of_buffer(0), false),
        ];
        for (what, result, flags, is_fault) in cases {
            let mut buffer = port.free_buffer().unwrap();
            buffer.fill(0);
            if !is_fault {
                buffer[HEADER..HEADER + 2].copy_from_slice(&2_u16.to_ne_bytes());
            }
            provided.give(buffer);
            let received = arrival(result, flags, None, &mut port, &mut provided).unwrap();
            faults += u64::from(is_fault);
            assert_eq!(received.is_none(), is_fault, "{what}");
            assert_eq!(port.counted[Count::Fault], faults, "{what}");
            if let Some(received) = received {
                assert_eq!(received.piece.bytes.len(), 40 - HEADER - 16);
            }
            // Whatever was not taken, it gives back here.
            (0..4).for_each(|place| drop(provided.take(place)));
            assert_eq!(port.pool.free(), 8, "{what}");
        }
    }
}

//! A head and the bulk beside it, as bytes.

use unet::{AllocError, FbufMut, Message, Part, ReadError};

use super::buffers::Buffers;
use crate::endpoint::{Bytes, Content};

/// Bytes of the head's length.
const LENGTH: usize = 4;

/// What travels for a head and the bulk before it. Where `alloc` has a buffer of the channel's for the head, the
/// bulk stays in its own; else all is copied.
///
/// # Errors
/// [`ReadError`]: a part of the bulk was taken back by its originator.
pub(super) fn join(
    mut bulk: Message,
    head: &[u8],
    alloc: impl FnOnce(usize) -> Option<Result<FbufMut, AllocError>>,
) -> Result<Content, ReadError> {
    let length = (head.len() as u32).to_le_bytes();
    let fits = |bytes: usize| bytes <= unet::MAX_INLINE - crate::wire::HEADER_BYTES;
    let buffer =
        if fits(bulk.len() + head.len() + LENGTH) { None } else { alloc(head.len() + LENGTH) };
    if let Some(Ok(mut buffer)) = buffer {
        // What was taken back is refused now, rather than when it is to be sent.
        bulk.parts().iter().try_for_each(readable)?;
        buffer[..head.len()].copy_from_slice(head);
        buffer[head.len()..].copy_from_slice(&length);
        bulk.append(buffer.freeze().into());
        return Ok(bulk.into());
    }
    let mut bytes = vec![0; bulk.len()];
    bulk.peek(0, &mut bytes)?;
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(&length);
    Ok(bytes.into())
}

/// Whether a part has not been taken back.
fn readable(part: &Part) -> Result<(), ReadError> {
    match part {
        Part::Peer(lent) => lent.copy_to(0, &mut [0][..lent.len().min(1)]),
        Part::Own(_) => Ok(()),
    }
}

/// Why bytes are no head and bulk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSplit {
    /// They are shorter than they say, or were taken back.
    Malformed,
    /// There is no memory for the bulk.
    NoBuffer,
}

/// The head, copied to `head`, and the bulk: in the buffers of the sender's that it came in, where that is a
/// process of this host, else copied.
pub(super) fn split(
    bytes: Bytes<'_>,
    head: &mut Vec<u8>,
    buffers: &mut Buffers,
) -> Result<Message, NotSplit> {
    let malformed = |_: ReadError| NotSplit::Malformed;
    let mut length = [0; LENGTH];
    let rest = bytes.len().checked_sub(LENGTH).ok_or(NotSplit::Malformed)?;
    bytes.copy_to(rest, &mut length).map_err(malformed)?;
    let length = u32::from_le_bytes(length) as usize;
    let bulk = rest.checked_sub(length).ok_or(NotSplit::Malformed)?;
    head.clear();
    head.resize(length, 0);
    bytes.copy_to(bulk, head).map_err(malformed)?;
    if bulk == 0 {
        return Ok(Message::new());
    }
    if let Some(mut message) = bytes.shared() {
        message.truncate(bulk);
        return Ok(message);
    }
    let mut buffer = buffers.alloc(bulk).map_err(|_| NotSplit::NoBuffer)?;
    bytes.copy_to(0, &mut buffer).map_err(malformed)?;
    Ok(buffer.freeze().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(bulk: &[u8], head: &[u8]) -> Vec<u8> {
        let mut buffer = Buffers::default().alloc(bulk.len()).expect("memory");
        buffer.copy_from_slice(bulk);
        let content = join(buffer.freeze().into(), head, |_| None).expect("readable");
        content.as_slice().expect("in one piece").to_vec()
    }

    #[test]
    fn a_head_and_its_bulk_come_apart_again() {
        for (bulk, head) in
            [(&b""[..], &b""[..]), (b"", b"head"), (b"bulk", b""), (&[7; 5000], &[9; 300])]
        {
            let (bytes, mut found) = (joined(bulk, head), Vec::new());
            let message = split(Bytes::from(&bytes[..]), &mut found, &mut Buffers::default());
            assert_eq!(message.expect("well-formed").to_vec().expect("private"), bulk);
            assert_eq!(found, head);
        }
    }

    #[test]
    fn what_is_shorter_than_it_says_is_neither() {
        let bytes = joined(b"bulk", b"head");
        let split =
            |bytes: &[u8]| split(Bytes::from(bytes), &mut Vec::new(), &mut Buffers::default());
        for short in [&bytes[..0], &bytes[..3], &[9, 0, 0, 0], &[1, 2, 3, 255, 255, 255, 255]] {
            assert_eq!(split(short).err(), Some(NotSplit::Malformed), "{short:?}");
        }
    }
}

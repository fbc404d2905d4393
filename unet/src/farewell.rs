//! Why a side closes a channel of this host, said to the peer where a hang-up alone would say too little: an
//! agent passes on what befell the way behind it.

use segment::control::{Frame, Kind};

use crate::channel::CloseReason;
use crate::device::DeviceError;

/// The first number: below stand the reasons of refusals.
const FIRST: u64 = 64;

/// What a farewell can say, in the order of the numbers.
const REASONS: [CloseReason; 5] = [
    CloseReason::Forbidden,
    CloseReason::PeerDied,
    CloseReason::PeerSilent,
    CloseReason::PeerRestarted,
    CloseReason::DeviceFailed(DeviceError::Gone),
];

/// The frame that says so; `None` where the hang-up says it all.
pub(crate) fn to_frame(reason: CloseReason) -> Option<Frame> {
    let same =
        |other: &CloseReason| std::mem::discriminant(other) == std::mem::discriminant(&reason);
    let number = REASONS.iter().position(same)?;
    Some(Frame::bare(Kind::Refusal, FIRST + number as u64))
}

/// What a frame says; `None` if it is no farewell.
pub(crate) fn from_frame(frame: &Frame) -> Option<CloseReason> {
    let number = frame.value.checked_sub(FIRST)?;
    let is_one = frame.kind == Kind::Refusal && frame.flags == 0 && frame.private().is_empty();
    REASONS.get(usize::try_from(number).ok()?).copied().filter(|_| is_one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::book;

    #[test]
    fn farewells_are_as_their_table_says_and_no_refusal_is_one() {
        let found = REASONS.map(|reason| {
            let frame = to_frame(reason).expect("it is one");
            assert_eq!(from_frame(&frame), Some(reason));
            let name = format!("{reason:?}");
            [frame.value.to_string(), name.split('(').next().unwrap_or_default().to_owned()]
        });
        assert_eq!(book::columns(&book::table("A control message", 3), [0, 1]), found);
        for value in (0..FIRST).chain(FIRST + REASONS.len() as u64..1000) {
            assert_eq!(from_frame(&Frame::bare(Kind::Refusal, value)), None);
        }
        assert_eq!(to_frame(CloseReason::PeerClosed), None);
    }
}

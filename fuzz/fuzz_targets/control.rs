//! Any bytes on the control socket: no frame, or one whose parts are those bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segment::control::{DecodeError, Frame, MAX_PRIVATE, VERSION};

fuzz_target!(|bytes: &[u8]| {
    let as_it_is = Frame::decode(bytes);
    check(bytes, as_it_is);
    // Behind a good head, so that the fuzzer need not guess it.
    if let Some((kind, rest)) = bytes.split_first() {
        let mut framed = b"UNET".to_vec();
        framed.extend([*kind % 8, 0]);
        framed.extend(VERSION.to_le_bytes());
        framed.extend(rest);
        check(&framed, Frame::decode(&framed));
    }
});

fn check(bytes: &[u8], outcome: Result<Frame, DecodeError>) {
    match outcome {
        Ok(frame) => {
            assert!(frame.private().len() <= MAX_PRIVATE);
            assert_eq!(frame.private(), &bytes[24..]);
            assert_eq!(frame.value.to_le_bytes(), bytes[8..16]);
            assert_eq!(frame.flags.to_le_bytes(), bytes[16..20]);
            assert_eq!((frame.kind as u16).to_le_bytes(), bytes[4..6]);
        }
        Err(DecodeError::Version(version)) => assert_eq!(version.to_le_bytes(), bytes[6..8]),
        Err(DecodeError::Malformed) => {}
    }
}

//! Any bytes as a segment's header: refused, or a layout that lies within its segment.
#![no_main]

use fuzz::Bytes;
use libfuzzer_sys::fuzz_target;
use segment::geometry::{Geometry, MAGIC, MAX_BUFFER_BYTES, MAX_BUFFERS, SLOTS, VERSION};
use segment::memory::MAX_SEGMENT_BYTES;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Bytes(bytes);
    let len = input.word() as usize;
    check(input.0, len);
    // Behind a good magic and version, and of the size that it says itself.
    let mut header = MAGIC.to_ne_bytes().to_vec();
    header.extend(VERSION.to_ne_bytes());
    header.extend(input.0);
    header.resize(88, 0);
    check(&header, len);
    let said = u64::from_ne_bytes(header[24..32].try_into().expect("eight bytes"));
    check(&header, said as usize);
});

fn check(header: &[u8], len: usize) {
    let Ok(geometry) = Geometry::check_header(header, len) else { return };
    assert!(geometry.is_valid());
    assert_eq!(geometry.total_bytes(), len);
    assert!(len <= MAX_SEGMENT_BYTES);
    assert!(SLOTS.contains(&geometry.slots) && geometry.slots.is_power_of_two());
    let mut end = geometry.area_offset() + geometry.area_bytes as usize;
    let mut buffers = 0;
    for (number, class) in geometry.classes.iter().enumerate() {
        assert!(geometry.class_offset(number) >= end);
        assert!(class.buffer_bytes as usize <= MAX_BUFFER_BYTES);
        end = geometry.class_offset(number) + class.buffer_bytes as usize * class.buffers as usize;
        buffers += class.buffers as usize;
    }
    assert!(end <= len && buffers <= MAX_BUFFERS);
}

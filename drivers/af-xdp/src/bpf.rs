//! bpf(2): maps, programs and links, as descriptors.
//!
//! # Invariants
//!
//! 1. Each command is given the structure that the kernel's `union bpf_attr` has for it, with its size;
//!    bytes beyond are zero by the kernel's rule.
//! 2. Every address in such a structure is of memory that lives, and is of the size that the command
//!    reads or writes there, until the call returns; the kernel keeps none.
//! 3. A descriptor that a command returns is new and nobody else's.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::instructions::Instruction;

const MAP_CREATE: i32 = 0;
const MAP_UPDATE: i32 = 2;
const MAP_DELETE: i32 = 3;
const PROGRAM_LOAD: i32 = 5;
const PROGRAM_BY_ID: i32 = 13;
const OBJECT_INFO: i32 = 15;
const LINK_CREATE: i32 = 28;

const PROGRAM_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const HAS_FRAGS: u32 = 1 << 5;

/// Bytes of the verifier's log that are kept.
const LOG_BYTES: usize = 16 << 10;
/// Bytes of an object's name.
pub const NAME_BYTES: usize = 16;

/// What a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum MapKind {
    /// From a word to a word.
    Hash = 1,
    /// From a queue to its AF_XDP socket.
    Sockets = 17,
}

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
    inner: u32,
    node: u32,
    name: [u8; NAME_BYTES],
}

#[repr(C)]
struct MapElement {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    version: u32,
    flags: u32,
    name: [u8; NAME_BYTES],
    interface: u32,
    attach: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach: u32,
    flags: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

#[repr(C)]
struct ObjectInfo {
    descriptor: u32,
    bytes: u32,
    info: u64,
}

/// The beginning of the kernel's `struct bpf_prog_info`, as far as the name.
#[repr(C)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    lengths: [u32; 2],
    dumps: [u64; 2],
    load_time: u64,
    user: u32,
    maps: u32,
    map_ids: u64,
    name: [u8; NAME_BYTES],
}

/// Why a program was not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The kernel's answer.
    pub errno: Errno,
    /// What the verifier said, in its own words; empty where it was not asked.
    pub log: String,
}

/// # Safety
/// Of `attribute`: invariants 1 and 2.
unsafe fn call<T>(command: i32, attribute: &mut T) -> Result<i32, Errno> {
    let attribute = std::ptr::from_mut(attribute).cast::<c_void>();
    // SAFETY: by the caller's word (invariants 1 and 2).
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attribute, size_of::<T>()) };
    if result < 0 { Err(last_error()) } else { Ok(result as i32) }
}

/// # Safety
/// Of `attribute`: invariants 1 and 2, and the command returns a descriptor.
unsafe fn call_for_descriptor<T>(command: i32, attribute: &mut T) -> Result<OwnedFd, Errno> {
    // SAFETY: by the caller's word.
    let descriptor = unsafe { call(command, attribute)? };
    // SAFETY: invariant 3. The kernel sets close-on-exec on all that bpf(2) makes.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

pub(crate) fn last_error() -> Errno {
    let number = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(number.unwrap_or(libc::EIO))
}

fn address<T>(of: &T) -> u64 {
    std::ptr::from_ref(of) as u64
}

fn raw(descriptor: impl AsFd) -> u32 {
    descriptor.as_fd().as_raw_fd() as u32
}

/// Pads a name; what is too long is cut.
fn name(text: &str) -> [u8; NAME_BYTES] {
    let mut name = [0; NAME_BYTES];
    name.iter_mut().take(NAME_BYTES - 1).zip(text.bytes()).for_each(|(to, from)| *to = from);
    name
}

/// Makes a map with words as keys and values.
///
/// # Errors
/// The kernel's.
pub(crate) fn create_map(kind: MapKind, entries: u32, called: &str) -> Result<OwnedFd, Errno> {
    let mut attribute = MapCreate {
        kind: kind as u32,
        key_bytes: 4,
        value_bytes: 4,
        entries,
        flags: 0,
        inner: 0,
        node: 0,
        name: name(called),
    };
    // SAFETY: the structure of this command, without addresses (invariant 1).
    unsafe { call_for_descriptor(MAP_CREATE, &mut attribute) }
}

/// Sets an element of a map.
///
/// # Errors
/// The kernel's.
pub(crate) fn set(map: BorrowedFd<'_>, key: u32, value: u32) -> Result<(), Errno> {
    let (key, value) = (&key, &value);
    let mut attribute = MapElement {
        map: raw(map),
        padding: 0,
        key: address(key),
        value: address(value),
        flags: 0,
    };
    // SAFETY: two words, as long as those of the maps of `create_map` (invariants 1 and 2).
    unsafe { call(MAP_UPDATE, &mut attribute) }.map(|_| ())
}

/// Removes an element of a map.
///
/// # Errors
/// The kernel's.
pub(crate) fn remove(map: BorrowedFd<'_>, key: u32) -> Result<(), Errno> {
    let key = &key;
    let mut attribute =
        MapElement { map: raw(map), padding: 0, key: address(key), value: 0, flags: 0 };
    // SAFETY: as above; no value is read.
    unsafe { call(MAP_DELETE, &mut attribute) }.map(|_| ())
}

/// Loads an XDP program. If the kernel refuses it, it is asked again for the verifier's reasons.
///
/// # Errors
/// [`Rejected`].
pub fn load_xdp(program: &[Instruction], called: &str, frags: bool) -> Result<OwnedFd, Rejected> {
    let license = c"Dual MIT/GPL";
    let mut attribute = ProgramLoad {
        kind: PROGRAM_TYPE_XDP,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_bytes: 0,
        log: 0,
        version: 0,
        flags: if frags { HAS_FRAGS } else { 0 },
        name: name(called),
        interface: 0,
        attach: ATTACH_XDP,
    };
    // SAFETY: so many instructions, and a string that ends with a zero (invariants 1 and 2).
    let errno = match unsafe { call_for_descriptor(PROGRAM_LOAD, &mut attribute) } {
        Ok(descriptor) => return Ok(descriptor),
        Err(errno) => errno,
    };
    // The verifier's own refusals have reasons; a missing capability has none.
    if errno == Errno::PERM {
        return Err(Rejected { errno, log: String::new() });
    }
    let mut log = vec![0u8; LOG_BYTES];
    attribute.log_level = 1;
    attribute.log_bytes = LOG_BYTES as u32;
    attribute.log = log.as_mut_ptr() as u64;
    // SAFETY: as above, and the log is as long as is said.
    match unsafe { call_for_descriptor(PROGRAM_LOAD, &mut attribute) } {
        Ok(descriptor) => Ok(descriptor),
        Err(errno) => {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(LOG_BYTES);
            Err(Rejected { errno, log: String::from_utf8_lossy(&log[..end]).into_owned() })
        }
    }
}

/// Attaches an XDP program to an interface, until the descriptor is closed.
///
/// # Errors
/// The kernel's.
pub fn link_xdp(program: BorrowedFd<'_>, interface: u32, flags: u32) -> Result<OwnedFd, Errno> {
    let mut attribute = LinkCreate { program: raw(program), interface, attach: ATTACH_XDP, flags };
    // SAFETY: the structure of this command, without addresses (invariant 1).
    unsafe { call_for_descriptor(LINK_CREATE, &mut attribute) }
}

/// The name of a loaded program, by its number.
///
/// # Errors
/// The kernel's: this needs privilege.
pub fn program_name(id: u32) -> Result<[u8; NAME_BYTES], Errno> {
    let mut by_id = ById { id, next: 0, flags: 0 };
    // SAFETY: the structure of this command, without addresses (invariant 1).
    let program = unsafe { call_for_descriptor(PROGRAM_BY_ID, &mut by_id)? };
    let mut info = ProgramInfo {
        kind: 0,
        id: 0,
        tag: [0; 8],
        lengths: [0; 2],
        dumps: [0; 2],
        load_time: 0,
        user: 0,
        maps: 0,
        map_ids: 0,
        name: [0; NAME_BYTES],
    };
    let mut attribute = ObjectInfo {
        descriptor: raw(&program),
        bytes: size_of::<ProgramInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: the kernel writes no more than the bytes that it is told are there, and follows no
    // address in it, since all lengths there are zero (invariants 1 and 2).
    unsafe { call(OBJECT_INFO, &mut attribute)? };
    Ok(info.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_and_end_with_a_zero() {
        assert_eq!(&name("unet")[..5], b"unet\0");
        assert_eq!(name("a-name-that-is-longer")[15], 0);
    }

    #[test]
    fn structures_are_as_long_as_the_kernels() {
        assert_eq!((size_of::<MapCreate>(), size_of::<MapElement>()), (44, 32));
        assert_eq!((size_of::<ProgramLoad>(), size_of::<LinkCreate>()), (72, 16));
        assert_eq!(std::mem::offset_of!(ProgramInfo, name), 64);
    }
}

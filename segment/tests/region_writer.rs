//! A region on a path has one writer: a store through the mapping that another domain attached, by the
//! address that this library mapped it at, ends the process that tries it.

// Loom has no kernel.
#![cfg(not(loom))]

use std::os::fd::AsFd;

use segment::Incarnation;
use segment::geometry::{Class, Geometry, MAGIC, MAX_CLASSES};

/// Where this process has mapped a file to be read only.
fn read_only_mapping(inode: u64) -> Option<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs is mounted");
    maps.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (range, access) = (fields.next()?, fields.next()?);
        let is_it = access == "r--s" && fields.nth(2)?.parse() == Ok(inode);
        let (start, _) = range.split_once('-')?;
        is_it.then(|| usize::from_str_radix(start, 16).expect("an address"))
    })
}

/// The signal that ends a forked process which runs `body`; 0 if it ends by itself.
fn signal_of(body: impl FnOnce()) -> i32 {
    // SAFETY: the child runs `body`, which accesses memory only (no allocation, no lock), and exits
    // without running anything of the test harness.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "a process is left");
    if child == 0 {
        body();
        // SAFETY: it ends this process at once.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: it is this process's child, and the pointer is to a local.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 }
}

#[test]
fn a_store_through_an_attached_region_kills_who_tries_it_and_changes_nothing() {
    let mut classes = [Class::default(); MAX_CLASSES];
    classes[0] = Class { buffer_bytes: 4096, buffers: 4 };
    let geometry = Geometry::region(classes, false);
    let mut own = geometry
        .create(Incarnation::draw().expect("random numbers"), false)
        .expect("memory for a region");
    own.take_class(0).expect("once").fill(7);
    let attached = Geometry::attach_region(own.as_fd()).expect("it is sealed");
    let inode = rustix::fs::fstat(own.as_fd()).expect("it is open").st_ino;
    let base = read_only_mapping(inode).expect("it is mapped to be read") as *mut u64;
    let buffer = base.wrapping_add(geometry.class_offset(0) / 8);
    let read = move |at: *mut u64| {
        // SAFETY: both are aligned words of the mapping, which nobody writes any more.
        unsafe { at.read_volatile() }
    };
    for word in [base, buffer] {
        let before = read(word);
        assert_eq!(signal_of(|| _ = read(word)), 0, "it may be read");
        let signal = signal_of(|| {
            // SAFETY: as above, as far as reading goes; the store is the crime, and ends the process.
            unsafe { word.write_volatile(!before) };
        });
        assert_eq!(signal, libc::SIGSEGV);
        assert_eq!(read(word), before);
    }
    assert_eq!((read(base), read(buffer)), (MAGIC, 0x0707_0707_0707_0707));
    drop(attached);
}

//! Every shared page has one writer, by the kernel's word: who receives a segment cannot write to it,
//! and cannot make it writable, by any way there is. And why a doorbell is not an eventfd.

// Loom has no kernel.
#![cfg(not(loom))]

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, OFlags, SealFlags};
use rustix::fs::{fallocate, fcntl_add_seals, fcntl_getfl, fcntl_setfl, ftruncate};
use rustix::io::{Errno, pread, pwrite};
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mprotect, munmap};
use segment::Incarnation;
use segment::control::{Frame, Kind, Listener, Received, Sent, Socket};
use segment::geometry::{Class, Geometry, MAGIC, MAX_CLASSES, OwnSegment};

fn segment() -> OwnSegment {
    let mut classes = [Class::default(); MAX_CLASSES];
    classes[0] = Class { buffer_bytes: 4096, buffers: 4 };
    let geometry = Geometry { slots: 8, area_bytes: 4096, classes, huge_pages: false };
    geometry.create(Incarnation::draw().expect("random numbers"), false).expect("memory")
}

fn sockets(name: &str) -> (Socket, Socket) {
    let name = format!("one-writer-{name}-{}", std::process::id());
    let listener = Listener::bind(&name).expect("the name is free");
    let near = Socket::connect(&name).expect("it listens");
    (near, listener.accept().expect("a descriptor").expect("one connects"))
}

/// Passes a segment's descriptor as a handshake does.
fn received(own: &OwnSegment, name: &str) -> OwnedFd {
    let (near, far) = sockets(name);
    assert_eq!(near.send(&Frame::bare(Kind::Hello, 1), &[own.as_fd()]), Sent::Yes);
    match far.receive() {
        Received::Frame(_, mut fds) if fds.len() == 1 => fds.remove(0),
        other => panic!("a frame with a descriptor was sent: {other:?}"),
    }
}

/// A mapping of the first page.
fn map(fd: BorrowedFd<'_>, prot: ProtFlags) -> Result<*mut c_void, Errno> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    unsafe { mmap(null_mut(), 4096, prot, MapFlags::SHARED, fd, 0) }
}

/// Runs `body` in a forked process and says how that stands after a while, as waitpid(2) does;
/// `None` if it still runs. It is gone afterwards.
fn in_a_child(patience: Duration, body: impl FnOnce()) -> Option<i32> {
    // SAFETY: the child runs `body`, which makes system calls and memory accesses only (no
    // allocation, no lock), and exits without running anything of the test harness.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "a process is left");
    if child == 0 {
        body();
        // SAFETY: it ends this process at once.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    let deadline = Instant::now() + patience;
    loop {
        // SAFETY: the child was just made, and the pointer is to a local.
        let ended = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        if ended == child {
            return Some(status);
        }
        if Instant::now() >= deadline {
            // SAFETY: it is this process's child, which has not been waited for.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, &raw mut status, 0);
            }
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_received_segment_cannot_be_mapped_writable() {
    let own = segment();
    let fd = received(&own, "map");
    let refused = map(fd.as_fd(), ProtFlags::READ | ProtFlags::WRITE);
    assert_eq!(refused.err(), Some(Errno::PERM));
    assert_eq!(map(fd.as_fd(), ProtFlags::WRITE).err(), Some(Errno::PERM));
    // Nor when it is opened anew, with all the rights of its user.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let anew = std::fs::OpenOptions::new().read(true).write(true).open(path);
    let anew = anew.expect("its user may open it, which is no harm");
    assert_eq!(map(anew.as_fd(), ProtFlags::WRITE).err(), Some(Errno::PERM));
    // Not even its owner can have a second writable mapping.
    assert_eq!(map(own.as_fd(), ProtFlags::WRITE).err(), Some(Errno::PERM));
}

#[test]
fn a_received_mapping_cannot_be_made_writable() {
    let own = segment();
    let fd = received(&own, "upgrade");
    let base = map(fd.as_fd(), ProtFlags::READ).expect("it may be read");
    for flags in [MprotectFlags::WRITE, MprotectFlags::READ | MprotectFlags::WRITE] {
        // SAFETY: the range was just mapped, and nothing else refers to it.
        let refused = unsafe { mprotect(base, 4096, flags) };
        assert_eq!(refused, Err(Errno::ACCESS));
    }
    // SAFETY: as above; removing the page would change it for everyone.
    let refused = unsafe { madvise(base, 4096, Advice::LinuxRemove) };
    assert!(refused.is_err(), "a page cannot be removed through the mapping");
    // SAFETY: as above.
    unsafe { munmap(base, 4096) }.expect("it was mapped");
}

#[test]
fn a_received_descriptor_cannot_be_written_punched_resized_or_sealed() {
    let own = segment();
    let fd = received(&own, "descriptor");
    let len = own.geometry().total_bytes() as u64;
    assert_eq!(pwrite(&fd, b"scribble", 0), Err(Errno::PERM));
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    assert_eq!(fallocate(&fd, punch, 0, 4096), Err(Errno::PERM));
    assert!(fallocate(&fd, FallocateFlags::ZERO_RANGE, 0, 4096).is_err());
    for size in [0, 4096, len - 4096, len + 4096, len * 2] {
        assert_eq!(ftruncate(&fd, size), Err(Errno::PERM), "{size}");
    }
    for seal in [SealFlags::WRITE, SealFlags::SHRINK, SealFlags::SEAL] {
        assert_eq!(fcntl_add_seals(&fd, seal), Err(Errno::PERM));
    }
}

#[test]
fn what_was_refused_has_changed_nothing() {
    let own = segment();
    let fd = received(&own, "unchanged");
    let mut before = vec![0; own.geometry().total_bytes()];
    assert_eq!(pread(&fd, &mut before, 0), Ok(before.len()));
    let _ = pwrite(&fd, &[0xFF; 8192], 0);
    let _ = fallocate(&fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 8192);
    let _ = ftruncate(&fd, 0);
    let mut after = vec![0; before.len()];
    assert_eq!(pread(&fd, &mut after, 0), Ok(after.len()));
    assert!(before == after && before.iter().any(|byte| *byte != 0));
}

#[test]
fn a_store_through_a_received_mapping_kills_who_tries_it() {
    let own = segment();
    let fd = received(&own, "store");
    let base = map(fd.as_fd(), ProtFlags::READ).expect("it may be read").cast::<u64>();
    // SAFETY: the page is mapped, aligned, and its first word is written by nobody any more.
    let read = move || unsafe { base.read_volatile() };
    assert_eq!(read(), MAGIC);
    let status = in_a_child(Duration::from_secs(20), || {
        // SAFETY: as above, as far as reading goes; the store is the crime, and ends the process.
        unsafe { base.write_volatile(!MAGIC) };
    });
    let status = status.expect("it has ended");
    assert!(libc::WIFSIGNALED(status), "the store was to kill: {status:#x}");
    assert_eq!(libc::WTERMSIG(status), libc::SIGSEGV);
    assert_eq!(read(), MAGIC, "nothing was written");
    // The kernel's own way around protections does not help either.
    let memory = std::fs::OpenOptions::new().write(true).open("/proc/self/mem");
    let memory = memory.expect("procfs is mounted");
    assert!(pwrite(&memory, &[0xFF; 8], base as u64).is_err());
    assert_eq!(read(), MAGIC, "nothing was written");
}

#[test]
fn the_owner_writes_through_the_mapping_it_made_before_the_seals() {
    let mut own = segment();
    let fd = received(&own, "owner");
    let at = own.geometry().area_offset() as u64;
    own.take_area().expect("once")[..5].copy_from_slice(b"owner");
    let mut seen = [0; 5];
    assert_eq!(pread(&fd, &mut seen, at), Ok(5));
    assert_eq!(&seen, b"owner");
}

/// Why a doorbell is a datagram.
#[test]
fn who_shares_an_eventfd_can_block_its_waker_and_no_doorbell_can() {
    // SAFETY: it makes a descriptor, of which the line after the next takes charge.
    let number = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    assert!(number >= 0, "a descriptor is left");
    // SAFETY: just made, and nobody else knows it.
    let waker = unsafe { OwnedFd::from_raw_fd(number) };
    let sleeper = waker.try_clone().expect("a descriptor is left");
    let wake = || {
        // The waker believes that this cannot block: it asked for O_NONBLOCK.
        let _ = rustix::io::write(&waker, &1u64.to_ne_bytes());
    };
    assert_eq!(in_a_child(Duration::from_secs(20), wake), Some(0), "it rings and goes on");
    // What a hostile sleeper does to the open file that it shares with the waker.
    let flags = fcntl_getfl(&sleeper).expect("it is open");
    fcntl_setfl(&sleeper, flags.difference(OFlags::NONBLOCK)).expect("it may");
    let full = (u64::MAX - 2).to_ne_bytes();
    rustix::io::write(&sleeper, &full).expect("there is room yet");
    let hangs = in_a_child(Duration::from_millis(200), wake);
    assert_eq!(hangs, None, "the waker hangs in write(2)");

    // The doorbell, and a sleeper that does its worst: it clears every flag and never reads.
    let (near, far) = sockets("bell");
    fcntl_setfl(&far, OFlags::empty()).expect("it may");
    let ring = |epoch| near.send(&Frame::bare(Kind::Doorbell, epoch), &[]);
    let begin = Instant::now();
    assert!((1..).take_while(|epoch| ring(*epoch) == Sent::Yes).count() > 1, "some fit");
    assert_eq!(ring(0), Sent::Full);
    assert!(begin.elapsed() < Duration::from_secs(10), "each returned at once");
}

//! A secured buffer: who gave up its write access cannot write by mistake, and gets it back.
//!
//! What safe code cannot express, a store through a stray pointer, is done here in forked processes,
//! which inherit the protection and are to die of it.

// Loom has no kernel.
#![cfg(not(loom))]

use std::fs::File;
use std::process::Command;

use rustix::io::{Errno, pwrite, read, write};
use segment::Incarnation;
use segment::blocks::{Block, divide};
use segment::geometry::{Class, Geometry, MAX_CLASSES, OwnSegment};
use segment::guard::{GuardError, Secured};
use segment::memory::CreateError;

const HUGE_PAGE: usize = 2 << 20;

/// A segment of one class of buffers, which begin on a boundary of huge pages.
fn segment(class: Class, huge_pages: bool) -> Result<OwnSegment, CreateError> {
    let mut classes = [Class::default(); MAX_CLASSES];
    classes[0] = class;
    let mut geometry = Geometry { slots: 8, area_bytes: 0, classes, huge_pages };
    geometry.area_bytes = (HUGE_PAGE - geometry.area_offset()) as u32;
    geometry.create(Incarnation::draw().expect("random numbers"), false)
}

fn blocks_of(own: &mut OwnSegment) -> Vec<Block> {
    let buffer_bytes = own.geometry().classes[0].buffer_bytes as usize;
    divide(own.take_class(0).expect("once"), buffer_bytes, None).1
}

fn blocks(buffer_bytes: u32, buffers: u32) -> Vec<Block> {
    blocks_of(&mut segment(Class { buffer_bytes, buffers }, false).expect("memory"))
}

/// The signal that ends a process which stores a byte there; `None` if it lives.
fn store(bytes: &[u8], at: usize) -> Option<i32> {
    let stray = bytes[at..].as_ptr().cast_mut();
    // SAFETY: the child does one store and exits without running anything of the test harness.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "a process is left");
    if child == 0 {
        // SAFETY: the kernel decides about the store; the process ends at once, either way.
        unsafe {
            stray.write_volatile(0xEE);
            libc::_exit(0);
        }
    }
    let mut status = 0;
    // SAFETY: the child was just made, and the pointer is to a local.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
}

/// Secured and back: reading goes on, stores are fatal between the two and nowhere else.
fn goes_and_comes_back(mut block: Block) {
    let last = block.len() - 1;
    block.fill(3);
    let secured = Secured::new(block).expect("whole pages");
    for at in [0, last / 2, last] {
        assert_eq!(store(&secured, at), Some(libc::SIGSEGV), "byte {at}");
    }
    assert!(secured.iter().all(|byte| *byte == 3), "it reads as before, and nothing was written");
    let mut block = secured.restore().expect("the kernel gives it back");
    assert_eq!(store(&block, 0), None);
    block.fill(4);
    assert!(block.iter().all(|byte| *byte == 4));
}

#[test]
fn a_store_after_the_hand_over_is_fatal_and_reading_goes_on() {
    for buffer_bytes in [4096, 64 << 10, 1 << 20] {
        goes_and_comes_back(blocks(buffer_bytes, 3).swap_remove(1));
    }
}

#[test]
fn the_neighbours_of_a_secured_buffer_stay_writable() {
    let mut blocks = blocks(8192, 3);
    let secured = Secured::new(blocks.remove(1)).expect("whole pages");
    for neighbour in &mut blocks {
        let last = neighbour.len() - 1;
        neighbour.fill(5);
        assert_eq!((store(neighbour, 0), store(neighbour, last)), (None, None));
    }
    assert_eq!(store(&secured, 0), Some(libc::SIGSEGV));
}

#[test]
fn the_kernel_does_not_write_there_either() {
    let secured = Secured::new(blocks(4096, 1).remove(0)).expect("whole pages");
    let (from, to) = std::io::pipe().expect("descriptors are left");
    write(&to, b"scribble").expect("there is room");
    // SAFETY: the address is only the kernel's to write, and it is about to refuse.
    let stray = unsafe { std::slice::from_raw_parts_mut(secured.as_ptr().cast_mut(), 8) };
    assert_eq!(read(&from, stray), Err(Errno::FAULT));
    let memory = File::options().write(true).open("/proc/self/mem").expect("procfs is mounted");
    assert!(pwrite(&memory, b"scribble", secured.as_ptr() as u64).is_err());
    assert_eq!(secured[..8], [0; 8]);
}

#[test]
fn a_buffer_that_shares_a_page_is_refused_and_stays_writable() {
    for buffer_bytes in [64, 2048, 4096 + 64, 6144] {
        for block in blocks(buffer_bytes, 4) {
            let refused = Secured::new(block);
            let (error, mut block) = refused.expect_err("not of whole pages");
            assert_eq!(error, GuardError::NotWholePages, "{buffer_bytes}");
            block.fill(1);
            assert_eq!(store(&block, 0), None);
        }
    }
}

#[test]
fn a_secured_buffer_that_is_dropped_comes_back_writable() {
    let mut own = segment(Class { buffer_bytes: 4096, buffers: 2 }, false).expect("memory");
    let (region, mut blocks) = divide(own.take_class(0).expect("once"), 4096, None);
    let secured = Secured::new(blocks.pop().expect("there are two")).expect("whole pages");
    let index = secured.index();
    drop(secured);
    let mut back = Vec::new();
    region.recover(|block| back.push(block));
    let mut block = back.pop().expect("it was dropped");
    assert_eq!(block.index(), index);
    block.fill(9);
    assert_eq!(store(&block, 0), None);
}

/// A whole huge page goes and comes back; a part of one cannot, and is refused by name.
#[test]
fn on_huge_pages_whole_ones_are_secured_and_parts_refused() {
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let free: u64 = free.map_or(0, |text| text.trim().parse().expect("a number"));
    let whole = Class { buffer_bytes: HUGE_PAGE as u32, buffers: 2 };
    let mut own = match segment(whole, true) {
        Ok(own) => own,
        Err(error) => {
            // The segment, with its control pages, takes three.
            assert_eq!((error, free < 3), (CreateError::NoHugePages, true), "{free} are free");
            return;
        }
    };
    goes_and_comes_back(blocks_of(&mut own).remove(1));
    drop(own);
    let part = Class { buffer_bytes: 1 << 20, buffers: 4 };
    let mut own = segment(part, true).expect("as many as before");
    for block in blocks_of(&mut own) {
        let (error, block) = Secured::new(block).expect_err("half a page");
        assert_eq!(error, GuardError::NotWholePages);
        assert_eq!(store(&block, 0), None);
    }
}

/// The kernel can put ordinary memory on huge pages, and splits them where it must.
#[test]
fn a_part_of_a_page_that_the_kernel_made_huge_is_secured() {
    for buffer_bytes in [4096, 1 << 20, HUGE_PAGE] {
        let class = Class { buffer_bytes: 2 * HUGE_PAGE as u32, buffers: 1 };
        let mut own = segment(class, false).expect("memory");
        let bytes = own.take_class(0).expect("once");
        // SAFETY: it changes no byte. A kernel that cannot do it refuses, and the pages stay small.
        unsafe {
            libc::madvise(bytes.as_ptr().cast_mut().cast(), bytes.len(), libc::MADV_COLLAPSE)
        };
        divide(bytes, buffer_bytes, None).1.into_iter().take(3).for_each(goes_and_comes_back);
    }
}

/// In a process of its own, for others could not map anything meanwhile.
#[test]
#[ignore = "a part of the test of the limit of mappings"]
fn role_with_all_mappings_in_use() {
    let mut secured = Vec::new();
    let mut between = Vec::new();
    // Every other page, so that each is a mapping of its own: half a million a segment, of which
    // no page is ever touched.
    let refused = (0..8).find_map(|_| {
        let class = Class { buffer_bytes: 16 << 20, buffers: 63 };
        let mut own = segment(class, false).expect("memory");
        let mut blocks = divide(own.take_class(0).expect("once"), 4096, None).1.into_iter();
        while let (Some(block), Some(next)) = (blocks.next(), blocks.next()) {
            between.push(next);
            match Secured::new(block) {
                Ok(one) => secured.push(one),
                Err(refused) => return Some(refused),
            }
        }
        None
    });
    let (error, mut block) = refused.expect("no system allows so many mappings");
    assert_eq!(error, GuardError::TooManyMappings);
    block[0] = 1;
    assert_eq!(store(&block, 0), None, "what was refused is writable");
    let count = secured.len();
    assert_eq!(store(&secured[count / 2], 0), Some(libc::SIGSEGV), "the others are secured");
    let restored = secured.into_iter().filter_map(|one| one.restore().ok()).count();
    assert_eq!(restored, count, "restoring joins mappings, for which there is room");
}

#[test]
fn the_limit_of_mappings_is_refused_by_name_and_all_that_was_secured_comes_back() {
    let program = std::env::current_exe().expect("this program has a path");
    let role = ["--exact", "role_with_all_mappings_in_use", "--ignored", "--nocapture"];
    let ended = Command::new(program).args(role).output().expect("it can be run again");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

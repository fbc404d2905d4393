//! Rings over memory of their own, with the test as the kernel.

use super::*;

const AT: XdpRingOffset = XdpRingOffset { producer: 0, consumer: 64, desc: 256, flags: Some(128) };

fn memory(len: usize) -> Mapping {
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let base =
        unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, prot, MapFlags::PRIVATE) };
    let base = base.expect("memory").cast();
    Mapping { base: NonNull::new(base).expect("not null"), len }
}

fn shared(size: u32, entry_bytes: usize) -> Shared {
    Shared::new(memory(4096), AT, size, entry_bytes).expect("it fits")
}

/// The kernel's side of a ring.
pub(crate) struct Kernel<'a>(&'a Shared);

impl Kernel<'_> {
    fn set_producer(&self, value: u32) {
        self.0.word(self.0.producer).store(value, Ordering::Release);
    }

    fn set_consumer(&self, value: u32) {
        self.0.word(self.0.consumer).store(value, Ordering::Release);
    }
}

#[test]
fn a_producer_never_overtakes_the_consumer_over_many_wraps() {
    let mut ring = Producer::<u64>::new(shared(8, 8));
    for round in 0..1000u32 {
        assert_eq!(ring.room(8), 8, "{round}");
        (0..8).for_each(|at| ring.put(u64::from(round * 8 + at)));
        assert_eq!(ring.room(1), 0);
        ring.publish();
        assert_eq!(ring.waiting(), 8);
        assert_eq!(u64::load(ring.shared.entry::<u64>(round * 8 + 3)), u64::from(round * 8 + 3));
        Kernel(&ring.shared).set_consumer((round + 1) * 8);
    }
}

#[test]
fn indices_wrap_around_the_number_range() {
    let shared = shared(4, 16);
    Kernel(&shared).set_producer(u32::MAX - 1);
    Kernel(&shared).set_consumer(u32::MAX - 1);
    let mut ring = Consumer::<Descriptor>::new(shared);
    assert_eq!(ring.available(), Ok(0));
    for at in [u32::MAX - 1, u32::MAX, 0] {
        let entry = Descriptor { address: 4096, len: at, options: 0 };
        entry.store(ring.shared.entry::<Descriptor>(at));
    }
    Kernel(&ring.shared).set_producer(1);
    assert_eq!(ring.available(), Ok(3));
    let taken: Vec<u32> = (0..3).map(|_| ring.take().len).collect();
    assert_eq!(taken, [u32::MAX - 1, u32::MAX, 0]);
    ring.release();
    assert_eq!(ring.shared.word(ring.shared.consumer).load(Ordering::Relaxed), 1);
}

#[test]
fn an_index_that_makes_no_sense_is_not_followed() {
    let mut ring = Consumer::<u64>::new(shared(8, 8));
    Kernel(&ring.shared).set_producer(9);
    assert_eq!(ring.available(), Err(Overrun));
    Kernel(&ring.shared).set_producer(8);
    assert_eq!(ring.available(), Ok(8));

    let mut ring = Producer::<u64>::new(shared(8, 8));
    Kernel(&ring.shared).set_consumer(5);
    assert_eq!(ring.room(9), 0, "a consumer ahead of the producer leaves no room");
    assert!(ring.waiting() <= 8);
}

#[test]
fn a_ring_that_does_not_fit_its_mapping_is_refused() {
    assert!(Shared::new(memory(4096), AT, 1024, 8).is_err());
    assert!(Shared::new(memory(4096), AT, 6, 8).is_err());
    assert!(Shared::new(memory(4096), XdpRingOffset { producer: 4094, ..AT }, 8, 8).is_err());
    assert!(Shared::new(memory(4096), XdpRingOffset { desc: 260, ..AT }, 8, 8).is_err());
    assert!(Shared::new(memory(4096), XdpRingOffset { consumer: u64::MAX, ..AT }, 8, 8).is_err());
}

#[test]
fn a_descriptor_lies_in_memory_as_the_kernels_does() {
    let shared = shared(8, 16);
    let entry = Descriptor { address: 0x1122, len: 0x3344, options: CONTINUED };
    entry.store(shared.entry::<Descriptor>(9));
    assert_eq!(Descriptor::load(shared.entry::<Descriptor>(1)), entry);
    assert_eq!(shared.word(256 + 16 + 8).load(Ordering::Relaxed), 0x3344);
    assert_eq!(shared.word(256 + 16 + 12).load(Ordering::Relaxed), CONTINUED);
}

#[test]
fn a_wake_up_is_needed_where_the_flag_says_so() {
    let ring = Producer::<u64>::new(shared(8, 8));
    assert!(!ring.needs_wakeup());
    ring.shared.word(128).store(NEED_WAKEUP, Ordering::Relaxed);
    assert!(ring.needs_wakeup());
}

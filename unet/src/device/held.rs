//! For drivers: which buffers the device has, or the device for it. Their tokens stand here by number. The device's
//! word about a buffer is good only for one that it was given in that direction.

use std::collections::VecDeque;

use fbufs::{Fbuf, FbufMut};

use super::Piece;

/// What the device said of a buffer and is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// How an address in the registered memory names a buffer and a byte in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Where the memory begins in this process.
    base: usize,
    shift: u32,
    mask: usize,
}

impl Places {
    /// Of buffers of so many bytes, a power of two.
    pub fn new(base: usize, buffer_bytes: usize) -> Self {
        Self { base, shift: buffer_bytes.trailing_zeros(), mask: buffer_bytes - 1 }
    }

    /// Where the memory begins in this process.
    pub fn base(self) -> usize {
        self.base
    }

    /// Whether the byte `offset` of buffer `number` is at `bytes`: so it is not if the buffer is another
    /// pool's, whatever its number is.
    #[inline(always)]
    pub fn has(self, number: usize, offset: usize, bytes: &[u8]) -> bool {
        bytes.as_ptr() as usize == self.base + (number << self.shift) + offset
    }

    /// The address of a byte of a buffer.
    #[inline(always)]
    pub fn address(self, number: usize, offset: usize) -> u64 {
        ((number << self.shift) + offset) as u64
    }

    #[inline(always)]
    fn number(self, address: u64) -> Option<usize> {
        usize::try_from(address >> self.shift).ok()
    }

    #[inline(always)]
    fn offset(self, address: u64) -> usize {
        address as usize & self.mask
    }
}

/// Buffers that the device may receive into.
pub struct Receiving {
    places: Places,
    tokens: Box<[Option<FbufMut>]>,
    count: usize,
}

impl Receiving {
    /// For so many buffers: it has none.
    pub fn new(places: Places, buffers: usize) -> Self {
        Self { places, tokens: (0..buffers).map(|_| None).collect(), count: 0 }
    }

    /// How many there are.
    #[inline(always)]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Keeps a buffer's token: the address to give to the device. `None` for one of another memory.
    #[inline(always)]
    pub fn hold(&mut self, fbuf: FbufMut) -> Option<u64> {
        let number = fbuf.number();
        if !self.places.has(number, fbuf.headroom(), &fbuf) {
            return None;
        }
        *self.tokens.get_mut(number)? = Some(fbuf);
        self.count += 1;
        Some(self.places.address(number, 0))
    }

    /// Never lets go of what is held.
    #[cold]
    pub fn leak(&mut self) {
        self.tokens.iter_mut().for_each(|token| std::mem::forget(token.take()));
    }

    /// The buffer that the device says it wrote, as far as it says.
    ///
    /// # Errors
    /// [`Fault`]: not a buffer that it had, or a range that is not inside. A buffer that it had is free
    /// again then.
    #[inline(always)]
    pub fn take(&mut self, address: u64, len: u32) -> Result<FbufMut, Fault> {
        let number = self.places.number(address).ok_or(Fault)?;
        let token = self.tokens.get_mut(number).ok_or(Fault)?;
        let mut fbuf = token.take().ok_or(Fault)?;
        self.count -= 1;
        let start = self.places.offset(address);
        if fbuf.set_range(start..start + len as usize) { Ok(fbuf) } else { Err(Fault) }
    }
}

/// Buffers that the device is to send from. One may be there several times, in one packet or in many: one
/// token keeps it, and a number says how often it has still to come back.
pub struct Sending {
    places: Places,
    held: Box<[(Option<Fbuf>, u32)]>,
    count: usize,
}

impl Sending {
    /// For so many buffers: it has none.
    pub fn new(places: Places, buffers: usize) -> Self {
        Self { places, held: (0..buffers).map(|_| (None, 0)).collect(), count: 0 }
    }

    /// Whether a part of a buffer is of this memory.
    #[inline(always)]
    pub fn has(&self, fbuf: &Fbuf) -> bool {
        self.places.has(fbuf.number(), fbuf.range().start, fbuf)
    }

    /// Where the memory begins in this process.
    pub fn base(&self) -> usize {
        self.places.base()
    }

    /// How many descriptors have not come back.
    #[inline(always)]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Keeps the token of a buffer of this memory: the address of its first byte that counts.
    #[inline(always)]
    pub fn hold(&mut self, fbuf: Fbuf) -> u64 {
        let (number, start) = (fbuf.number(), fbuf.range().start);
        if let Some((token, times)) = self.held.get_mut(number) {
            *times += 1;
            self.count += 1;
            token.get_or_insert(fbuf);
        }
        self.places.address(number, start)
    }

    /// The device says that it has sent from there: the token, when it was the last time.
    ///
    /// # Errors
    /// [`Fault`]: it had no such buffer.
    #[inline(always)]
    pub fn done(&mut self, address: u64) -> Result<Option<Fbuf>, Fault> {
        let number = self.places.number(address).ok_or(Fault)?;
        let (token, times) = self.held.get_mut(number).ok_or(Fault)?;
        *times = times.checked_sub(1).ok_or(Fault)?;
        self.count -= 1;
        Ok(if *times == 0 { token.take() } else { None })
    }
}

/// The first frame of those that are to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// How many pieces it has.
    pub pieces: usize,
    /// Bytes of all of them.
    pub len: usize,
    /// Its end is there: a last piece that says that there is more belongs to a frame without an end.
    pub is_whole: bool,
}

impl First {
    /// Looks at the pieces in front, as far as they are one frame's.
    pub fn of(frames: &VecDeque<Piece<Fbuf>>) -> Self {
        let more = frames.iter().take_while(|piece| piece.more).count();
        let pieces = frames.len().min(more + 1);
        let len = frames.iter().take(pieces).map(|piece| piece.bytes.len()).sum();
        Self { pieces, len, is_whole: more < frames.len() }
    }
}

#[cfg(test)]
mod tests {
    use fbufs::{Class, Pool};

    use super::*;

    fn pool() -> Pool {
        Pool::for_device(Class { buffer_bytes: 2048, buffers: 4 }, false).expect("memory")
    }

    fn places(pool: &Pool) -> Places {
        Places::new(pool.memory().expect("one class").address, 2048)
    }

    #[test]
    fn a_buffer_of_another_memory_is_not_held() {
        let (mut pool, mut other) = (pool(), pool());
        let mut receiving = Receiving::new(places(&pool), 4);
        let sending = Sending::new(places(&pool), 4);
        assert_eq!(receiving.hold(other.alloc(2048).expect("free")), None);
        assert!(!sending.has(&other.alloc(64).expect("free").freeze()));
        assert!(sending.has(&pool.alloc(64).expect("free").freeze()));
        assert_eq!((receiving.count(), other.free()), (0, 4));
    }

    #[test]
    fn only_what_the_device_was_given_comes_back_and_once() {
        let mut pool = pool();
        let mut receiving = Receiving::new(places(&pool), 4);
        let address = receiving.hold(pool.alloc(2048).expect("free")).expect("its own");
        for wrong in [address + 2048, address + 4 * 2048, u64::MAX, 1 << 40] {
            assert_eq!(receiving.take(wrong, 64).map(|_| ()), Err(Fault), "{wrong}");
        }
        let fbuf = receiving.take(address + 256, 64).expect("given");
        assert_eq!((fbuf.len(), fbuf.headroom(), receiving.count()), (64, 256, 0));
        assert!(receiving.take(address + 256, 64).is_err());
    }

    #[test]
    fn a_length_outside_the_buffer_is_a_fault_and_frees_it() {
        let mut pool = pool();
        let mut receiving = Receiving::new(places(&pool), 4);
        for len in [2048 - 255, u32::MAX] {
            let address = receiving.hold(pool.alloc(2048).expect("free")).expect("its own");
            assert!(receiving.take(address + 256, len).is_err(), "{len}");
        }
        assert_eq!((receiving.count(), pool.free()), (0, 4));
    }

    #[test]
    fn a_buffer_sent_several_times_is_kept_until_all_came_back() {
        let mut pool = pool();
        let mut sending = Sending::new(places(&pool), 4);
        let fbuf = pool.alloc(64).expect("free").freeze();
        let first = sending.hold(fbuf.slice(0..10).expect("inside"));
        let second = sending.hold(fbuf.slice(20..30).expect("inside"));
        assert_eq!((second - first, sending.count()), (20, 2));
        drop(fbuf);
        assert!(sending.done(second).expect("given").is_none());
        assert_eq!(pool.free(), 3);
        let last = sending.done(first).expect("given").expect("the last time");
        assert!(last.is_unique());
        drop(last);
        assert_eq!(pool.free(), 4);
        assert_eq!(sending.done(first).map(|_| ()), Err(Fault));
        assert_eq!(sending.done(1 << 50).map(|_| ()), Err(Fault));
    }
}

//! The system calls that carry datagrams. Those for one datagram go to the kernel directly: the C library's
//! are points where a thread can be cancelled, which costs some ten nanoseconds before and after each.
//!
//! # Invariants
//!
//! 1. Every pointer that is handed to the kernel is of a reference or a slice that lives until the call
//!    returns, with the length of what it points to; the kernel keeps none of them.
//! 2. What the kernel was to write (`MaybeUninit`, lengths) is read up to the count that it returned, and
//!    was initialized before the call.

use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsFd, AsRawFd};

use fbufs::FbufMut;
use rustix::io::Errno;

use crate::name::Name;

/// The most datagrams of one call.
pub(crate) const BURST: usize = 32;

#[inline(always)]
fn answer(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| last())
}

#[cold]
fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Sends one datagram; where the socket is connected to, if to nobody else.
#[inline(always)]
pub(crate) fn send(socket: &impl AsFd, bytes: &[u8], to: Option<&Name>) -> Result<usize, Errno> {
    let fd = socket.as_fd().as_raw_fd();
    let (name, len) = to.map_or((std::ptr::null(), 0), |to| (std::ptr::from_ref(to), to.len()));
    let (data, size, flags) = (bytes.as_ptr(), bytes.len(), 0);
    // SAFETY: invariant 1; a name has at least `len` bytes.
    let sent = unsafe { libc::syscall(libc::SYS_sendto, fd, data, size, flags, name, len) };
    answer(sent as isize)
}

/// Sends datagrams, at most [`BURST`]; how many were sent, which is none only if there are none.
pub(crate) fn send_many<'a>(
    socket: &impl AsFd,
    datagrams: impl Iterator<Item = (&'a [u8], Option<&'a Name>)>,
) -> Result<usize, Errno> {
    let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; BURST];
    let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BURST];
    let mut count = 0;
    for (bytes, to) in datagrams.take(BURST) {
        let iovec =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let part = parts[count].write(iovec);
        // SAFETY: a C structure for which zero is a value.
        let mut message: libc::mmsghdr = unsafe { zeroed() };
        if let Some(to) = to {
            message.msg_hdr.msg_name = std::ptr::from_ref(to).cast_mut().cast();
            message.msg_hdr.msg_namelen = to.len();
        }
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
        messages[count].write(message);
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: invariant 1; the first `count` were written above.
    let sent = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr().cast(), count as u32, 0) };
    Ok(answer(sent as isize)?.min(count))
}

/// Receives one datagram: how long it was, which may be longer than `into`; and who sent it, if asked.
#[inline(always)]
pub(crate) fn receive(
    socket: &impl AsFd,
    into: &mut [u8],
    from: Option<&mut Name>,
) -> Result<usize, Errno> {
    let fd = socket.as_fd().as_raw_fd();
    let (data, size, flags) = (into.as_mut_ptr(), into.len(), libc::MSG_TRUNC);
    let mut len = size_of::<Name>() as u32;
    let none = (std::ptr::null_mut(), std::ptr::null_mut());
    let (name, name_len) = from.map_or(none, |from| (std::ptr::from_mut(from), &raw mut len));
    // SAFETY: invariant 1; a name of any bytes is valid.
    let got = unsafe { libc::syscall(libc::SYS_recvfrom, fd, data, size, flags, name, name_len) };
    answer(got as isize)
}

/// Who sent a datagram, and how long it was.
pub(crate) type Arrival = (Name, usize);

/// Receives datagrams into buffers, in order, at most [`BURST`]: how many, and of each what is known.
pub(crate) fn receive_many(
    socket: &impl AsFd,
    into: &mut [FbufMut],
    arrivals: &mut [Arrival; BURST],
) -> Result<usize, Errno> {
    let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; BURST];
    let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BURST];
    let mut count = 0;
    for (buffer, (name, _)) in into.iter_mut().zip(arrivals.iter_mut()) {
        let iovec = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let part = parts[count].write(iovec);
        // SAFETY: a C structure for which zero is a value.
        let mut message: libc::mmsghdr = unsafe { zeroed() };
        message.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
        message.msg_hdr.msg_namelen = size_of::<Name>() as u32;
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
        messages[count].write(message);
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    let (fd, flags) = (socket.as_fd().as_raw_fd(), libc::MSG_TRUNC);
    let none = std::ptr::null_mut();
    // SAFETY: invariant 1; the first `count` were written above, and no two buffers overlap.
    let got =
        unsafe { libc::recvmmsg(fd, messages.as_mut_ptr().cast(), count as u32, flags, none) };
    let got = answer(got as isize)?.min(count);
    for (message, (_, len)) in messages[..got].iter().zip(arrivals) {
        // SAFETY: invariant 2.
        *len = unsafe { message.assume_init_ref() }.msg_len as usize;
    }
    Ok(got)
}

/// Sets a socket's option that is a number.
pub(crate) fn set_option(
    socket: &impl AsFd,
    level: i32,
    name: i32,
    value: i32,
) -> Result<(), Errno> {
    let fd = socket.as_fd().as_raw_fd();
    let (value, len) = (std::ptr::from_ref(&value).cast(), size_of::<i32>() as u32);
    // SAFETY: invariant 1.
    answer(unsafe { libc::setsockopt(fd, level, name, value, len) } as isize).map(drop)
}

/// A socket's option that is a number.
pub(crate) fn option(socket: &impl AsFd, level: i32, name: i32) -> Result<i32, Errno> {
    let [value] = words::<1>(socket, level, name)?;
    Ok(value as i32)
}

/// Has the first of the sockets that share a port take all that none is connected for. The socket is not
/// bound yet, and shares its port.
pub(crate) fn keep_to_first(socket: &impl AsFd) -> Result<(), Errno> {
    let mut filter =
        [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let (fd, level) = (socket.as_fd().as_raw_fd(), libc::SOL_SOCKET);
    let (name, len) = (libc::SO_ATTACH_REUSEPORT_CBPF, size_of_val(&program) as u32);
    // SAFETY: invariant 1; of what the program points to, too.
    answer(unsafe { libc::setsockopt(fd, level, name, (&raw const program).cast(), len) } as isize)
        .map(drop)
}

/// What the kernel keeps for a socket.
pub(crate) struct Held {
    /// Bytes of memory that hold what has arrived.
    pub received: u32,
    /// Bytes of memory that hold what was sent and has not left.
    pub sent: u32,
    /// How many datagrams were dropped before the socket, modulo 2³².
    pub drops: u32,
}

/// What the kernel keeps for a socket.
pub(crate) fn held(socket: &impl AsFd) -> Result<Held, Errno> {
    // Not in the crate for every C library: `SO_MEMINFO`, and the places among its words.
    const SO_MEMINFO: i32 = 55;
    let words = words::<9>(socket, libc::SOL_SOCKET, SO_MEMINFO)?;
    Ok(Held { received: words[0], sent: words[2], drops: words[8] })
}

/// Names the network namespace that a socket is in.
pub(crate) fn network(socket: &impl AsFd) -> Result<[u32; 2], Errno> {
    // Not in the crate for every C library.
    const SO_NETNS_COOKIE: i32 = 71;
    words(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE)
}

fn words<const N: usize>(socket: &impl AsFd, level: i32, name: i32) -> Result<[u32; N], Errno> {
    let fd = socket.as_fd().as_raw_fd();
    let mut words = [0_u32; N];
    let mut len = size_of_val(&words) as u32;
    let value = words.as_mut_ptr().cast();
    // SAFETY: invariant 1.
    answer(unsafe { libc::getsockopt(fd, level, name, value, &mut len) } as isize)?;
    Ok(words)
}

//! The kernel's UDP as a device: needs no privilege and no hardware of its own.
//!
//! ```text
//!   udp:HOST:PORT?path=sockets            sendto, recvfrom; sendmmsg and recvmmsg for bursts
//!                 path=io-uring           received by one lasting request into the pool's buffers, bursts
//!                                         sent in one submission; zero-copy=on from 4 KiB on
//!                 path=prefer-io-uring    io_uring where it is there and allowed; else sockets, and a
//!                                         message that says why
//!                 buffer-bytes=2048       up to what a UDP datagram has
//!                 receive-bytes=1048576   the kernel's receive queue
//!                 busy-poll=MICROSECONDS  the kernel polls the interface in each look
//! ```
//!
//! # Which path
//! Sockets are the default, by measurement: with both sides spinning, on the loopback interface as well as
//! on a veth pair, a round trip of 64 bytes takes about half as long again by io_uring, whether that is
//! driven by this crate or by a bare loop. A look at a socket is a system call that finds the datagram
//! itself; io_uring's look is at memory, but what it sees first is that the kernel has work to do, and the
//! call that does it does more. io_uring's looks leave the processor and the socket's lock alone, its
//! descriptors wake as well, and large payloads can be sent without a copy: that is what it is for. The
//! example `udp_ping_pong` measures both.
//!
//! # One peer
//! A device that has one destination, and no other, has a second socket at its address that is connected to
//! that one: the kernel finds the socket and the way faster then.
//! [`maintain`] sets it up, and gives it up when there is another destination; that needs Linux 5.14, and a
//! thread in the network namespace that the device was opened in, or else all goes on by the one socket.
//! With plain sockets, whoever else speaks to the device waits for up to eight vain looks at the second one.
//! The port is shared (`SO_REUSEPORT`) while that one is bound and not after: another process of the same
//! user could join in that moment, and nobody otherwise.
//!
//! # What is counted
//! A datagram that the kernel drops because the socket's queue is full is counted by the kernel, and here
//! as [`QueueFull`]: sent is received and dropped, to the datagram, where the network loses none. Without
//! a free buffer nothing is read, and what arrives waits in that queue. A destination that nobody listens
//! at is not noticed: what was sent is sent, and what comes back about it the kernel counts
//! (`InDestUnreachs` of ICMP in `/proc/net/snmp` and `snmp6`).
//!
//! # The way there
//! Nothing is sent in fragments. What is longer than the way carries is counted as [`TooLong`], and
//! [`max_payload`] follows the kernel's knowledge: narrower when a datagram is refused, wider with
//! [`maintain`]. What cannot be sent because no route leads there any more is counted as [`Failed`], and
//! [`maintain`] says [`Down`] while that is so for all destinations that it looked at. That the other end
//! of a cable was pulled is not noticed.
//!
//! [`Failed`]: unet::device::Count::Failed
//! [`Down`]: unet::device::DeviceError::Down
//! [`QueueFull`]: unet::device::Count::QueueFull
//! [`TooLong`]: unet::device::Count::TooLong
//! [`max_payload`]: unet::device::Datagrams::max_payload
//! [`maintain`]: unet::device::Device::maintain
//!
//! ```
//! use std::collections::VecDeque;
//!
//! use driver_udp::UdpOptions;
//! use unet::device::{Outgoing, Piece};
//!
//! let mut device = driver_udp::open("127.0.0.1:0".parse()?, UdpOptions::default())?;
//! let itself = device.open(device.local())?;
//! let mut buffer = device.pool().alloc(5)?;
//! buffer.copy_from_slice(b"hello");
//! let mut queue = VecDeque::from([Outgoing { to: itself, piece: Piece::whole(buffer.freeze()) }]);
//! device.transmit(&mut queue)?;
//! let mut received = Vec::new();
//! while received.is_empty() {
//!     device.receive(&mut received)?;
//! }
//! assert_eq!((&received[0].piece.bytes[..], received[0].from), (&b"hello"[..], device.local()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod calls;
mod destinations;
mod driver;
mod favoured;
mod name;
mod options;
mod path_mtu;
mod peer;
mod port;
pub mod raw;
mod socket;
mod sockets;
mod uring;

pub use driver::{Udp, open};
pub use options::{Path, UdpOptions, ZERO_COPY_BYTES};

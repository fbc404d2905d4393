//! What can be chosen when a device is opened.

use unet::device::{OpenError, Opening};

/// By which of the kernel's interfaces datagrams go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Path {
    /// `sockets`: a system call a burst, and one each look.
    #[default]
    Sockets,
    /// `io-uring`: the kernel puts what arrives into buffers by itself; a look is at shared memory.
    IoUring,
    /// `prefer-io-uring`: io_uring where the kernel has and allows it, else sockets, and a message that
    /// says so.
    PreferIoUring,
}

/// What can be chosen when a device is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// `path=`: by which of the kernel's interfaces.
    pub path: Path,
    /// How many buffers the pool has, from 4 to 65,536; more or fewer become that many.
    pub buffers: usize,
    /// `buffer-bytes=`: of each buffer, at least 256; rounded up to a multiple of 64. Default 2048.
    pub buffer_bytes: usize,
    /// `receive-bytes=`: the kernel's receive queue; 1 MiB by default, or what the administrator allows
    /// (`net.core.rmem_max`). More than that only with `CAP_NET_ADMIN`.
    pub receive_bytes: Option<u32>,
    /// `busy-poll=`: microseconds that the kernel polls the interface in a look; 0 is never.
    pub busy_poll: u32,
    /// `zero-copy=on`: datagrams from [`ZERO_COPY_BYTES`] on are read by the hardware out of their
    /// buffers. With io_uring only.
    pub zero_copy: bool,
}

/// From how many bytes on a datagram is sent without a copy, where that was asked for: below, to pin and
/// to account its pages costs more than the copy.
pub const ZERO_COPY_BYTES: usize = 4096;

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            path: Path::default(),
            buffers: 2048,
            buffer_bytes: 2048,
            receive_bytes: None,
            busy_poll: 0,
            zero_copy: false,
        }
    }
}

const KNOWN: &str = "path, buffer-bytes, receive-bytes, busy-poll, zero-copy";

/// Room for the largest UDP payload and for what io_uring writes before it.
const MAX_BUFFER_BYTES: usize = (64 << 10) + 64;

impl UdpOptions {
    /// What an address asks for.
    pub(crate) fn parse(opening: &Opening<'_>) -> Result<Self, OpenError> {
        opening.only_options(KNOWN)?;
        if !opening.device.is_empty() {
            return Err(OpenError::BadValue("udp:HOST:PORT, without a device before an @"));
        }
        let mut options = Self { buffers: opening.buffers, ..Self::default() };
        if let Some(path) = opening.option("path") {
            options.path = match path {
                "sockets" => Path::Sockets,
                "io-uring" => Path::IoUring,
                "prefer-io-uring" => Path::PreferIoUring,
                _ => return Err(OpenError::BadValue("path=sockets, io-uring or prefer-io-uring")),
            };
        }
        if let Some(bytes) = opening.option("buffer-bytes") {
            options.buffer_bytes = bytes.parse().map_err(|_| BUFFER_BYTES)?;
        }
        if let Some(bytes) = opening.option("receive-bytes") {
            options.receive_bytes = Some(bytes.parse().map_err(|_| RECEIVE_BYTES)?);
        }
        if let Some(micros) = opening.option("busy-poll") {
            options.busy_poll = micros.parse().map_err(|_| BUSY_POLL)?;
        }
        options.zero_copy = match opening.option("zero-copy") {
            None | Some("off") => false,
            Some("on") => true,
            Some(_) => return Err(OpenError::BadValue("zero-copy=on or off")),
        };
        Ok(options)
    }

    /// Checks the numbers, and rounds them to what can be had.
    pub(crate) fn checked(mut self) -> Result<Self, OpenError> {
        if !(256..=MAX_BUFFER_BYTES).contains(&self.buffer_bytes) {
            return Err(BUFFER_BYTES);
        }
        if self.receive_bytes.is_some_and(|bytes| i32::try_from(bytes).is_err()) {
            return Err(RECEIVE_BYTES);
        }
        if i32::try_from(self.busy_poll).is_err() {
            return Err(BUSY_POLL);
        }
        if self.zero_copy && self.path == Path::Sockets {
            return Err(OpenError::Unsupported("zero-copy=on needs path=io-uring"));
        }
        self.buffer_bytes = self.buffer_bytes.next_multiple_of(64);
        self.buffers = self.buffers.clamp(4, 65_536);
        Ok(self)
    }
}

const BUFFER_BYTES: OpenError = OpenError::BadValue("buffer-bytes from 256 to 65600");
const RECEIVE_BYTES: OpenError = OpenError::BadValue("receive-bytes below 2147483648");
const BUSY_POLL: OpenError = OpenError::BadValue("busy-poll in microseconds, 0 for never");

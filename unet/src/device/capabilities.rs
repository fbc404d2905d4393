//! What a device is and can do.

/// How packets get between the device and this process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Within this process or between processes: no hardware.
    Simulated,
    /// Through the kernel's sockets.
    Sockets,
    /// Through the kernel's sockets, by io_uring.
    IoUring,
    /// AF_XDP behind the kernel's generic hook: works with every interface, copies.
    Generic,
    /// AF_XDP in the interface's driver, which copies.
    Native,
    /// AF_XDP in the interface's driver, with the hardware reading and writing the buffers.
    ZeroCopy,
    /// A user-space driver.
    UserSpace,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Simulated => "simulated",
            Self::Sockets => "sockets",
            Self::IoUring => "io-uring",
            Self::Generic => "generic",
            Self::Native => "native",
            Self::ZeroCopy => "zero-copy",
            Self::UserSpace => "user-space",
        })
    }
}

/// What a device is and can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How packets get to it.
    pub mode: Mode,
    /// The most bytes: of a frame behind its Ethernet header, or of a datagram's payload.
    pub mtu: usize,
    /// Bytes that must be free before what is sent, in the first piece's buffer.
    pub headroom: usize,
    /// The most bytes of one piece.
    pub piece_bytes: usize,
    /// The most pieces of one frame or datagram.
    pub pieces: usize,
    /// The most frames or datagrams that one call receives.
    pub burst: usize,
    /// How many buffers the device is stocked with to receive into, where the pool has as many.
    pub stock: usize,
}

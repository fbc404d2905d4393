//! What is particular to a port's driver: whether the pool's memory will do for it, and how it counts. Decided here,
//! by the driver's name, and nowhere else.

/// How a port is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// It has packets in memory of DPDK's own: what it receives and what it is to send is copied.
    pub copies: bool,
    /// So many packets it keeps there for itself, beside those in its rings.
    pub packets: usize,
    /// It shows its peer all memory that DPDK knows, and ends without a link where some is not of DPDK's own making.
    pub shows_all: bool,
    /// When it is closed it forgets packets that it had, without freeing them: nobody has them then.
    pub forgets: bool,
    /// Among its errors in sending are packets that it did not take.
    pub refusals_are_errors: bool,
    /// Nobody but the port's thread gives back what it was given; a mempool for one thread is faster.
    pub alone: bool,
    /// DPDK's interrupt thread takes its memory away while a burst reads it.
    pub guarded: bool,
}

impl Manner {
    /// Of a driver, by its name; `copy` asks for copies where they are not needed.
    pub fn of(driver: &str, copy: bool) -> Self {
        let plain = Self {
            copies: copy,
            packets: 0,
            shows_all: false,
            forgets: false,
            refusals_are_errors: false,
            alone: false,
            guarded: false,
        };
        match driver {
            // The kernel is given the mempool as its memory: in one piece, with the mbufs in it. There are 2048 to
            // be received into, and up to 2048 that were sent and not taken back yet.
            "net_af_xdp" => Self {
                copies: true,
                packets: 4096,
                forgets: true,
                refusals_are_errors: true,
                ..plain
            },
            "net_virtio_user" => Self { copies: true, shows_all: true, ..plain },
            "net_memif" => Self { alone: true, guarded: true, ..plain },
            "net_ring" | "net_vhost" | "net_tap" => Self { refusals_are_errors: true, ..plain },
            _ => plain,
        }
    }
    /// Whether a port of these arguments may still be the kernel's for a moment after it was closed.
    pub fn leaves_late(arguments: &str) -> bool {
        arguments.starts_with("net_af_xdp")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_adds_copies_and_takes_none_away() {
        assert!(!Manner::of("net_memif", false).copies);
        assert!(Manner::of("net_memif", true).copies);
        assert!(Manner::of("net_af_xdp", false).copies);
        assert!(Manner::of("net_virtio_user", false).copies);
    }
}

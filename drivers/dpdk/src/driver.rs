//! The scheme `dpdk`: `dpdk:PORT[,ARGUMENT=VALUE…]@[HOST]:PORT?ip=ADDRESS/PREFIX&…`. No kernel stands behind a port of
//! DPDK: its address is in the option `ip`, and neighbours are found by ARP.

use unet::device::{Datagrams, Driver, OpenError, Opening};

/// Opens ports of DPDK by address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dpdk;

impl Dpdk {
    /// The scheme.
    pub const SCHEME: &'static str = "dpdk";
}

impl Driver for Dpdk {
    fn scheme(&self) -> &'static str {
        Self::SCHEME
    }

    #[cfg(not(dpdk))]
    fn open(&self, _: &Opening<'_>) -> Result<Box<dyn Datagrams>, OpenError> {
        Err(crate::Error::Missing(crate::MISSING.unwrap_or("install DPDK")).into())
    }

    #[cfg(dpdk)]
    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Datagrams>, OpenError> {
        opened::open(opening)
    }
}

#[cfg(dpdk)]
pub(crate) mod opened {
    use std::net::{IpAddr, Ipv4Addr};
    use std::num::NonZeroU16;
    use std::str::FromStr;

    use unet::device::{
        Datagrams, Framed, FramedOptions, Frames, Neighbours, OpenError, Opening, UdpChecksum,
    };

    use crate::shared::{Plan, Sharer};
    use crate::{DpdkPort, Memory, Options};

    const KNOWN: &str = "ip, gateway, memory, huge, ring, copy, shared";
    /// Where an address does not say: the dynamic ports begin here.
    const FIRST_PORT: u16 = 49_152;
    const IP: &str =
        "ip=ADDRESS/PREFIX, IPv4, such as ip=10.0.0.1/24: no kernel knows the port's address";

    pub fn open(opening: &Opening<'_>) -> Result<Box<dyn Datagrams>, OpenError> {
        opening.only_options(KNOWN)?;
        let (address, prefix) = opening
            .option("ip")
            .and_then(|ip| ip.split_once('/'))
            .and_then(|(ip, bits)| Some((ip.parse::<Ipv4Addr>().ok()?, bits.parse::<u8>().ok()?)))
            .ok_or(OpenError::BadValue(IP))?;
        let gateway = value(opening, "gateway", "gateway=ADDRESS, IPv4, in the same subnet")?;
        let is_ours = |local: IpAddr| local.is_unspecified() || local == IpAddr::V4(address);
        if opening.local.is_some_and(|local| !is_ours(local)) {
            return Err(OpenError::AddressInUse);
        }
        let options = options(opening)?;
        let routes = |mac| Neighbours::new(mac, address, prefix, gateway);
        // Before anything is opened.
        routes([0; 6]).ok_or(OpenError::BadValue(IP))?;
        // What U-Net sends has a checksum of its own, end to end.
        let checksum = UdpChecksum::Omit;
        let at = |port: u16| {
            let port = NonZeroU16::new(port).ok_or(OpenError::AddressInUse)?;
            Ok::<_, OpenError>(FramedOptions {
                local: Some(address.into()),
                checksum,
                ..FramedOptions::at(port)
            })
        };
        match opening.option("shared") {
            None | Some("no") => {
                let device = DpdkPort::open(opening.device, &options)?;
                let routes = routes(device.mac()).ok_or(OpenError::BadValue(IP))?;
                let port = if opening.port == 0 { FIRST_PORT } else { opening.port };
                Ok(Box::new(Framed::new(device, routes, at(port)?)))
            }
            Some("yes") => {
                let arguments = opening.device.to_owned();
                // Buffers are each sharer's own.
                let buffers = options.buffers;
                let options = Options { buffers: 0, ..options };
                let plan = Plan { arguments, options, address, prefix, gateway };
                let (device, routes, port) = Sharer::open(&plan, opening.port, buffers)?;
                Ok(Box::new(Framed::new(device, routes, at(port)?)))
            }
            Some(_) => Err(OpenError::BadValue("shared=yes or shared=no")),
        }
    }

    /// How its port is opened.
    pub fn options(opening: &Opening<'_>) -> Result<Options, OpenError> {
        opening.only_options(KNOWN)?;
        let megabytes = "a number of megabytes";
        let memory =
            match (value(opening, "memory", megabytes)?, value(opening, "huge", megabytes)?) {
                (None, None) => Memory::default(),
                (Some(plain), None) => Memory::Plain(plain),
                (None, Some(huge)) => Memory::Huge(huge),
                (Some(_), Some(_)) => {
                    return Err(OpenError::BadValue("memory=MB or huge=MB, not both"));
                }
            };
        let default = Options::default();
        let ring = value(opening, "ring", "ring=ENTRIES, a power of two")?.unwrap_or(default.ring);
        let copy = match opening.option("copy") {
            None | Some("no") => false,
            Some("yes") => true,
            _ => return Err(OpenError::BadValue("copy=yes or no")),
        };
        let buffers = u32::try_from(opening.buffers).unwrap_or(u32::MAX);
        Ok(Options { memory, ring, buffers, copy, ..default })
    }

    fn value<T: FromStr>(
        opening: &Opening<'_>,
        name: &str,
        should_be: &'static str,
    ) -> Result<Option<T>, OpenError> {
        let parsed = opening.option(name).map(str::parse);
        parsed.transpose().map_err(|_| OpenError::BadValue(should_be))
    }
}

//! Where DPDK was not installed when this was built, an address says what to install.
#![cfg(not(dpdk))]

use driver_dpdk::{Dpdk, Error, MISSING};
use unet::device::{Driver, OpenError, Opening};

#[test]
fn what_is_missing_is_said() {
    let missing = MISSING.expect("it was not there");
    assert!(missing.contains("install lib"), "{missing}");
    let (local, port, remote, buffers) = (None, 9000, None, 256);
    let opening = Opening { device: "net_null0", local, port, remote, options: &[], buffers };
    let refused = Dpdk.open(&opening).map(|_| ()).expect_err("it cannot be opened");
    assert_eq!(refused, OpenError::Unsupported(missing));
    assert!(Error::Missing(missing).to_string().contains(missing));
}

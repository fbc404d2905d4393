//! One side by AF_XDP, the other by the kernel's sockets, over both versions of IP.

mod pair;

use pair::{Client, Echo, Way, in_lab};
use unet::device::Count;

const WAYS: [Way; 8] = [
    Way("xdp:lab-b0@10.77.0.2:9000?mode=generic", "udp:10.77.0.2:9000"),
    Way("xdp:lab-b0@10.77.0.2:9000?mode=native", "udp:10.77.0.2:9000"),
    Way("xdp:lab-b0@[fd77::2]:9000?mode=generic", "udp:[fd77::2]:9000"),
    Way("xdp:lab-b0@[fd77::2]:9000?mode=native", "udp:[fd77::2]:9000"),
    Way("udp:10.77.0.2:9000", "xdp:lab-a0@10.77.0.2:9000?mode=generic"),
    Way("udp:10.77.0.2:9000", "xdp:lab-a0@10.77.0.2:9000?mode=native"),
    Way("udp:[fd77::2]:9000", "xdp:lab-a0@[fd77::2]:9000?mode=generic"),
    Way("udp:[fd77::2]:9000", "xdp:lab-a0@[fd77::2]:9000?mode=native"),
];

#[test]
fn drivers_understand_each_other_over_both_versions_of_ip() {
    for way in WAYS {
        in_lab(|| {
            let echo = Echo::start(way.0);
            let mut client = Client::connect(way.1);
            let limit = client.channel().limit();
            let headers = if way.1.contains("fd77") { 48 + 32 } else { 28 + 32 };
            assert_eq!(limit, 1500 - headers, "{way:?}");
            for len in [8, 9, 63, 64, 65, 1000, limit - 1, limit] {
                client.expect_echo(len);
            }
            for status in [echo.status(), client.link()] {
                assert_eq!(status.statistics.sum(&Count::DROPPED), 0, "{way:?} {status:?}");
                assert_eq!(status.statistics.sum(&Count::NOT_SENT), 0, "{way:?} {status:?}");
            }
        });
    }
}

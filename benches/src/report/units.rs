//! Numbers with units, short enough for a table.

/// A time, to three digits.
pub fn time(nanoseconds: f64) -> String {
    scaled(nanoseconds, 1000.0, &["ns", "µs", "ms", "s"])
}

/// A rate of operations, to three digits.
pub fn rate(per_second: f64) -> String {
    scaled(per_second, 1000.0, &["/s", "k/s", "M/s", "G/s"])
}

/// A rate of bytes, to three digits, in powers of ten.
pub fn byte_rate(per_second: f64) -> String {
    scaled(per_second, 1000.0, &["B/s", "kB/s", "MB/s", "GB/s", "TB/s"])
}

/// A size, in powers of two.
pub fn size(bytes: usize) -> String {
    match bytes {
        b if b >= 1 << 20 && b.is_multiple_of(1 << 20) => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b.is_multiple_of(1 << 10) => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

/// How many times one is the other.
pub fn ratio(times: f64) -> String {
    digits(times)
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // What would be rounded up to the next unit belongs to it.
    while value >= step * 0.9995 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    format!("{} {}", digits(value), units[unit])
}

fn digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_the_fitting_unit() {
        assert_eq!(time(4.44), "4.44 ns");
        assert_eq!(time(81.24), "81.2 ns");
        assert_eq!(time(999.9), "1.00 µs");
        assert_eq!(time(58_300.0), "58.3 µs");
        assert_eq!(rate(104.2e6), "104 M/s");
        assert_eq!(byte_rate(37e9), "37.0 GB/s");
        assert_eq!(size(4096), "4 KiB");
        assert_eq!(size(16 << 20), "16 MiB");
        assert_eq!(size(1500), "1500 B");
        assert_eq!(ratio(1.701), "1.70");
    }
}

//! Plots as inline SVG, coloured by the page's style sheet.

use std::fmt::Write;

use crate::record::Record;
use crate::report::html::escape;
use crate::report::sketch::Steps;
use crate::report::units;
use crate::task::Bench;

pub const WIDTH: f64 = 920.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 70.0;
pub const TOP: f64 = 8.0;
const ROW: f64 = 34.0;
pub const AXIS: f64 = 30.0;
/// Steps of a histogram.
const STEPS: usize = 96;
/// The style sheet has so many colours.
const COLOURS: usize = 8;

/// A logarithmic axis over a span of values.
pub struct Scale {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// An axis from the largest power of ten below to the smallest step 1-2-5 above.
    pub fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            low = low.min(value);
            high = high.max(value);
        }
        let below = ticks(low / 10.0, low).last().copied().unwrap_or(1.0);
        let above = ticks(high, high * 10.0).first().copied().unwrap_or(10.0);
        Self { low: below, high: above.max(below * 2.0), from, to }
    }

    /// Where a value lies.
    pub fn place(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }
}

/// The steps 1, 2 and 5 of every decade within a span.
pub fn ticks(low: f64, high: f64) -> Vec<f64> {
    let first = low.max(1e-3).log10().floor() as i32;
    let last = high.max(1e-3).log10().ceil() as i32;
    (first..=last)
        .flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(decade)))
        .filter(|tick| (low * 0.999..=high * 1.001).contains(tick))
        .collect()
}

/// For each record its distribution, with marks at the median, p99 and p99.9, and the floor.
pub fn distributions(records: &[&Record]) -> String {
    let ends = records.iter().flat_map(|r| [r.min_ns, r.floor_ns.unwrap_or(r.min_ns), r.p999_ns]);
    let scale = Scale::over(ends, LEFT, WIDTH - RIGHT);
    let height = TOP + ROW * records.len() as f64 + AXIS;
    let mut svg = open(height, "Distributions, logarithmic time axis");
    time_axis(&mut svg, &scale, height);
    for (row, record) in records.iter().enumerate() {
        let base = TOP + ROW * (row + 1) as f64 - 6.0;
        let class = colour(records, record);
        let _ = write!(svg, r#"<g class="{class}">"#);
        label(&mut svg, base, record);
        outline(&mut svg, &scale, base, record);
        for (name, value) in
            [("p50", record.p50_ns), ("p99", record.p99_ns), ("p99.9", record.p999_ns)]
        {
            let (x, shown) = (scale.place(value), units::time(value));
            let _ = write!(
                svg,
                r#"<line class="mark" x1="{x:.1}" x2="{x:.1}" y1="{base:.1}" y2="{:.1}"><title>{name} {shown}</title></line>"#,
                base + 5.0
            );
        }
        let x = WIDTH - RIGHT + 8.0;
        let shown = units::time(record.p50_ns);
        let _ = write!(svg, r#"<text class="value" x="{x}" y="{base:.1}">{shown}</text></g>"#);
    }
    floor(&mut svg, &scale, records, height);
    svg + "</svg>"
}

fn outline(svg: &mut String, scale: &Scale, base: f64, record: &Record) {
    let steps = Steps::between(&record.spread, scale.low, scale.high, STEPS);
    let most = steps.shares.iter().copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let mut path = String::new();
    for (step, &share) in steps.shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        let (x1, x2) = (scale.place(steps.edge(step)), scale.place(steps.edge(step + 1)));
        let y = base - ((share / most).sqrt() * (ROW - 10.0)).max(1.0);
        let _ = write!(path, "M{x1:.1} {base:.1}V{y:.1}H{x2:.1}V{base:.1}Z");
    }
    let title = format!(
        "mean {}, p50 {}, p99 {}, p99.9 {}, max {}",
        units::time(record.mean_ns),
        units::time(record.p50_ns),
        units::time(record.p99_ns),
        units::time(record.p999_ns),
        units::time(record.max_ns)
    );
    let _ = write!(svg, r#"<path class="fill" d="{path}"><title>{title}</title></path>"#);
}

fn floor(svg: &mut String, scale: &Scale, records: &[&Record], height: f64) {
    let floors: Vec<f64> = records.iter().filter_map(|record| record.floor_ns).collect();
    if floors.is_empty() {
        return;
    }
    let mean = floors.iter().sum::<f64>() / floors.len().max(1) as f64;
    let (x, bottom) = (scale.place(mean), height - AXIS);
    let _ = write!(
        svg,
        r#"<line class="floor" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{bottom:.1}"><title>floor, mean over these runs: {}</title></line>"#,
        units::time(mean)
    );
}

/// One bar for each record.
pub fn bars(records: &[&Record], value: fn(&Record) -> f64, show: fn(f64) -> String) -> String {
    let most = records.iter().map(|record| value(record)).fold(0.0, f64::max);
    let height = TOP + ROW * records.len() as f64 + 6.0;
    let mut svg = open(height, "Bars, linear axis");
    for (row, record) in records.iter().enumerate() {
        let base = TOP + ROW * (row + 1) as f64 - 8.0;
        let length = (value(record) / most * (WIDTH - LEFT - RIGHT - 20.0)).max(1.0);
        let (class, shown) = (colour(records, record), show(value(record)));
        let _ = write!(svg, r#"<g class="{class}">"#);
        label(&mut svg, base, record);
        let _ = write!(
            svg,
            r#"<rect class="fill" x="{LEFT}" y="{:.1}" width="{length:.1}" height="{:.1}" rx="3"/><text class="value" x="{:.1}" y="{base:.1}">{shown}</text></g>"#,
            base - ROW + 16.0,
            ROW - 12.0,
            LEFT + length + 8.0
        );
    }
    svg + "</svg>"
}

/// The median by message size, one line for each system and way of waiting.
pub fn by_size(records: &[&Record]) -> String {
    let height = 320.0;
    let bottom = height - AXIS;
    let times = Scale::over(records.iter().map(|r| r.p50_ns), bottom, TOP + 6.0);
    let sizes = Scale::over(records.iter().map(|r| r.payload_bytes as f64), 70.0, WIDTH - 130.0);
    let mut svg = open(height, "Median by message size, both axes logarithmic");
    for tick in ticks(times.low, times.high) {
        let y = times.place(tick);
        let _ = write!(
            svg,
            r#"<line class="grid" x1="70" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/><text class="tick" text-anchor="end" x="62" y="{:.1}">{}</text>"#,
            WIDTH - 130.0,
            y + 4.0,
            plain(tick)
        );
    }
    let mut seen = Vec::new();
    for record in records {
        let x = sizes.place(record.payload_bytes as f64);
        let shown = units::size(record.payload_bytes);
        if !seen.contains(&record.payload_bytes) {
            seen.push(record.payload_bytes);
            let _ = write!(
                svg,
                r#"<text class="tick" text-anchor="middle" x="{x:.1}" y="{:.1}">{shown}</text>"#,
                bottom + 20.0
            );
        }
    }
    let mut lines: Vec<_> = records.iter().map(|r| (r.system, r.wait)).collect();
    lines.dedup();
    lines.sort_by_key(|(system, wait)| (*system, wait.to_string()));
    lines.dedup();
    for line in lines {
        let points: Vec<_> = records.iter().filter(|r| (r.system, r.wait) == line).collect();
        let Some(last) = points.last() else { continue };
        let _ =
            write!(svg, r#"<g class="{}"><polyline class="line" points=""#, colour(records, last));
        for record in &points {
            let (x, y) = (sizes.place(record.payload_bytes as f64), times.place(record.p50_ns));
            let _ = write!(svg, "{x:.1},{y:.1} ");
        }
        svg.push_str(r#""/>"#);
        for record in &points {
            let (x, y) = (sizes.place(record.payload_bytes as f64), times.place(record.p50_ns));
            let _ = write!(
                svg,
                r#"<circle class="fill" cx="{x:.1}" cy="{y:.1}" r="4"><title>{} {}</title></circle>"#,
                units::size(record.payload_bytes),
                units::time(record.p50_ns)
            );
        }
        let (x, y) = (sizes.place(last.payload_bytes as f64), times.place(last.p50_ns));
        let name = escape(&format!("{} {}", last.system, last.wait));
        let _ = write!(
            svg,
            r#"<text class="end" x="{:.1}" y="{:.1}">{name}</text></g>"#,
            x + 9.0,
            y + 4.0
        );
    }
    svg + "</svg>"
}

/// Begins a picture.
pub fn open(height: f64, title: &str) -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}"><title>{title}</title>"#
    )
}

fn time_axis(svg: &mut String, scale: &Scale, height: f64) {
    let bottom = height - AXIS;
    let all = ticks(scale.low, scale.high);
    for &tick in &all {
        let x = scale.place(tick);
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{bottom:.1}"/>"#
        );
        // Over many decades, only their beginnings have room for a number.
        let beginning = (tick.log10() - tick.log10().round()).abs() < 1e-6;
        if all.len() <= 12 || beginning {
            let _ = write!(
                svg,
                r#"<text class="tick" text-anchor="middle" x="{x:.1}" y="{:.1}">{}</text>"#,
                bottom + 18.0,
                plain(tick)
            );
        }
    }
}

/// A tick's value without superfluous digits.
fn plain(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        t if t < 999.0 => (t, "ns"),
        t if t < 999e3 => (t / 1e3, "µs"),
        t if t < 999e6 => (t / 1e6, "ms"),
        t => (t / 1e9, "s"),
    };
    format!("{} {unit}", (value * 100.0).round() / 100.0)
}

fn label(svg: &mut String, base: f64, record: &Record) {
    let mut name = format!("{} · {}", record.system, record.wait);
    match record.bench {
        Bench::Scale => name += &format!(" · +{}", record.idle_bindings),
        _ => name += &format!(" · {}", units::size(record.payload_bytes)),
    }
    let x = LEFT - 12.0;
    let _ = write!(
        svg,
        r#"<text class="label" text-anchor="end" x="{x}" y="{base:.1}">{}</text>"#,
        escape(&name)
    );
}

/// A system keeps its colour within a plot.
/// The class of a system's colour.
pub fn colour(records: &[&Record], record: &Record) -> String {
    let mut systems: Vec<_> = records.iter().map(|other| other.system).collect();
    systems.sort_unstable();
    systems.dedup();
    let place = systems.iter().position(|system| *system == record.system).unwrap_or(0);
    format!("c{}", place % COLOURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_begins_and_ends_at_round_values_around_the_data() {
        let scale = Scale::over([81.0, 5300.0].into_iter(), 0.0, 100.0);
        assert!((scale.low - 50.0).abs() < 1e-6 && (scale.high - 10_000.0).abs() < 1e-6);
        assert!(scale.place(50.0).abs() < 1e-9);
        assert!((scale.place(10_000.0) - 100.0).abs() < 1e-9);
        assert!(scale.place(81.0) > 0.0);
    }

    #[test]
    fn ticks_are_written_without_superfluous_digits() {
        assert_eq!(plain(50.0), "50 ns");
        assert_eq!(plain(2000.0), "2 µs");
        assert_eq!(plain(0.5), "0.5 ns");
    }
}

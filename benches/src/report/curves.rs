//! Curves over a linear axis of shares, as inline SVG.

use std::fmt::Write;

use crate::report::html::escape;
use crate::report::plot::{AXIS, Scale, TOP, WIDTH, open, ticks};

const HEIGHT: f64 = 300.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 150.0;

/// One curve.
pub struct Curve {
    /// What stands at its end.
    pub name: String,
    /// Its colour, as the style sheet names it.
    pub class: String,
    /// Shares in percent, ascending, each with a value.
    pub points: Vec<(f64, f64)>,
}

/// The vertical axis.
pub enum Axis {
    /// Logarithmic; what is zero is not drawn.
    Logarithmic,
    /// Linear, from zero.
    Linear,
}

/// Draws curves into one picture; `show` writes a value.
pub fn draw(title: &str, curves: &[Curve], axis: &Axis, show: fn(f64) -> String) -> String {
    let bottom = HEIGHT - AXIS;
    let points = || curves.iter().flat_map(|curve| curve.points.iter().copied());
    let widest = points().map(|(share, _)| share).fold(1.0, f64::max);
    let across = |share: f64| LEFT + share / widest * (WIDTH - LEFT - RIGHT);
    let upright = Upright::over(points().map(|(_, value)| value), axis, bottom);
    let mut svg = open(HEIGHT, &escape(title));
    for (y, value) in upright.marks() {
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/><text class="tick" text-anchor="end" x="{:.1}" y="{:.1}">{}</text>"#,
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0,
            show(value)
        );
    }
    for share in steps(widest) {
        let _ = write!(
            svg,
            r#"<text class="tick" text-anchor="middle" x="{:.1}" y="{:.1}">{share:.0} %</text>"#,
            across(share),
            bottom + 20.0
        );
    }
    let mut ends: Vec<f64> = Vec::new();
    for curve in curves {
        let places: Vec<_> = curve
            .points
            .iter()
            .filter_map(|&(share, value)| {
                Some((across(share), upright.place(value)?, share, value))
            })
            .collect();
        let Some(&(x, y, ..)) = places.last() else { continue };
        let _ = write!(svg, r#"<g class="{}"><polyline class="line" points=""#, curve.class);
        for (x, y, ..) in &places {
            let _ = write!(svg, "{x:.1},{y:.1} ");
        }
        svg.push_str(r#""/>"#);
        for (x, y, share, value) in &places {
            let _ = write!(
                svg,
                r#"<circle class="fill" cx="{x:.1}" cy="{y:.1}" r="3.5"><title>{share:.0} %: {}</title></circle>"#,
                show(*value)
            );
        }
        // Names that would lie on each other stand one below the other.
        let mut at = y + 4.0;
        while let Some(other) = ends.iter().find(|other| (**other - at).abs() < 14.0) {
            at = other + 14.5;
        }
        ends.push(at);
        let name = escape(&curve.name);
        let _ =
            write!(svg, r#"<text class="end" x="{:.1}" y="{at:.1}">{name}</text></g>"#, x + 9.0);
    }
    svg + "</svg>"
}

/// Round steps from zero to a value: some four to eight.
fn steps(most: f64) -> Vec<f64> {
    let all = ticks(most / 100.0, most);
    let step = all.into_iter().find(|step| most / step <= 8.0).unwrap_or(most);
    (0..=(most / step) as usize).map(|count| count as f64 * step).collect()
}

enum Upright {
    Logarithmic(Scale),
    Linear { most: f64, bottom: f64 },
}

impl Upright {
    fn over(values: impl Iterator<Item = f64>, axis: &Axis, bottom: f64) -> Self {
        match axis {
            Axis::Logarithmic => {
                let mut positive: Vec<_> = values.filter(|value| *value > 0.0).collect();
                // Where nothing arrived, the axis is still one.
                if positive.is_empty() {
                    positive.push(1.0);
                }
                Self::Logarithmic(Scale::over(positive.into_iter(), bottom, TOP + 6.0))
            }
            Axis::Linear => {
                let most = values.fold(0.0, f64::max);
                Self::Linear { most: if most > 0.0 { most * 1.05 } else { 1.0 }, bottom }
            }
        }
    }

    fn place(&self, value: f64) -> Option<f64> {
        match self {
            Self::Logarithmic(scale) => (value > 0.0).then(|| scale.place(value)),
            Self::Linear { most, bottom } => Some(bottom - value / most * (bottom - TOP - 6.0)),
        }
    }

    fn marks(&self) -> Vec<(f64, f64)> {
        let values = match self {
            Self::Logarithmic(scale) => ticks(scale.low, scale.high),
            Self::Linear { most, .. } => steps(*most),
        };
        values.into_iter().filter_map(|value| Some((self.place(value)?, value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        assert_eq!(steps(150.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0, 140.0]);
        for most in [1e-6, 0.7, 3.0, 99.0, 123_456.0] {
            assert!((1..=9).contains(&steps(most).len()), "{most}");
        }
    }

    #[test]
    fn a_curve_of_nothing_has_no_number_that_is_none() {
        let curve = |points| Curve { name: "a<b".into(), class: "c0".into(), points };
        for axis in [Axis::Linear, Axis::Logarithmic] {
            let curves = [curve(vec![(5.0, 0.0), (150.0, 0.0)]), curve(Vec::new())];
            let svg = draw("nothing", &curves, &axis, |value| value.to_string());
            assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("a<b"), "{svg}");
        }
    }
}

//! What did the gate take over the time, and what happened meanwhile?

use std::fmt::Write;

use crate::sample::Sample;
use crate::svg::{WIDTH, figure, title};
use crate::tally::Tally;

/// A line: its class and its points, seconds and value.
type Line = (&'static str, Vec<(f64, f64)>);

/// The figure.
pub(crate) fn draw(samples: &[Sample], tally: &Tally) -> String {
    let of = |class, value: fn(&Sample) -> f64| -> Line {
        (
            class,
            samples.iter().map(|one| (one.at, value(one))).collect(),
        )
    };
    let panels = [
        (
            "Resident memory, MiB",
            vec![of("good", |one| to_f64(one.resident) / 1024.0)],
        ),
        (
            "Requests per second: good (green) and hostile (red)",
            vec![rates("good", samples, 0), rates("hostile", samples, 1)],
        ),
        (
            "Open file descriptors",
            vec![of("good", |one| to_f64(one.descriptors as u64))],
        ),
    ];
    let end = samples.last().map_or(1.0, |one| one.at.ceil());
    let mut svg = String::new();
    for (number, (name, lines)) in panels.iter().enumerate() {
        let top = TITLE + number * (PANEL + TITLE + AXIS);
        svg += &title(top, name);
        svg += &marks(tally, top, end);
        svg += &panel(lines, top, end);
    }
    let height = panels.len() * (PANEL + TITLE + AXIS) + FOOT;
    let note = "Shaded: an endpoint of an upstream is dead or broken on purpose. At the top: reloads, taken (green) and refused (red).";
    figure(height, &svg, note)
}

/// What was answered per second, over five seconds each.
fn rates(class: &'static str, samples: &[Sample], side: usize) -> Line {
    let rate = |pair: (&Sample, &Sample)| {
        let (from, to) = pair;
        let count = to_f64(to.totals[side] - from.totals[side]);
        (to.at, count / (to.at - from.at).max(0.001))
    };
    let later = samples.iter().skip(5);
    (class, samples.iter().zip(later).map(rate).collect())
}

fn panel(lines: &[Line], top: usize, end: f64) -> String {
    let values = lines.iter().flat_map(|(_, points)| points);
    let most = round_up(values.map(|(_, value)| *value).fold(0.0, f64::max));
    let (bottom, right) = (top + PANEL, WIDTH - 8);
    let mut svg = format!(
        "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/>\n"
    );
    for (label, y) in [
        (most, top + 5),
        (most / 2.0, top + PANEL / 2 + 4),
        (0.0, bottom),
    ] {
        let x = LEFT - 6;
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{label}</text>"
        );
    }
    for tick in 0..=5_u8 {
        let seconds = end * f64::from(tick) / 5.0;
        let (x, y) = (x_of(seconds, end), bottom + 14);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{seconds:.0} s</text>"
        );
    }
    for (class, points) in lines {
        let points: Vec<String> = points
            .iter()
            .map(|(at, value)| {
                let y = to_f64(bottom as u64) - value / most * to_f64(PANEL as u64);
                format!("{:.1},{y:.1}", x_of(*at, end))
            })
            .collect();
        let _ = writeln!(
            svg,
            "<polyline class=\"{class}\" points=\"{}\"/>",
            points.join(" ")
        );
    }
    svg
}

fn marks(tally: &Tally, top: usize, end: f64) -> String {
    let mut svg = String::new();
    let at = |moment: std::time::Instant| (moment - tally.start).as_secs_f64().min(end);
    for outage in tally.outages() {
        let from = x_of(at(outage.start), end);
        let to = x_of(outage.end.map_or(end, at), end);
        let width = (to - from).max(1.0);
        let _ = writeln!(
            svg,
            "<rect class=\"out\" x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{PANEL}\"/>"
        );
    }
    for event in tally.events() {
        // One that is taken follows one that is refused at once.
        let y = if event.what == "refused" {
            top + 4
        } else {
            top - 4
        };
        let (x, class) = (x_of(at(event.at), end), event.what);
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y}\" width=\"2\" height=\"8\"/>"
        );
    }
    svg
}

fn x_of(seconds: f64, end: f64) -> f64 {
    let left = to_f64(LEFT as u64);
    left + seconds / end * (to_f64(WIDTH as u64) - 24.0 - left)
}

/// The next number with one digit, or one and a half.
fn round_up(value: f64) -> f64 {
    let unit = 10_f64.powf(value.max(1.0).log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0];
    let fits = steps
        .iter()
        .map(|step| step * unit)
        .find(|most| *most >= value);
    fits.unwrap_or(10.0 * unit)
}

#[expect(clippy::cast_precision_loss, reason = "a figure has less digits still")]
fn to_f64(value: u64) -> f64 {
    value as f64
}

const LEFT: usize = 52;
const PANEL: usize = 150;
const TITLE: usize = 34;
const AXIS: usize = 20;
const FOOT: usize = 28;

//! What does it look like?
//!
//! Bars, drawn by hand: a figure is a stack of panels, a panel is a column of a table.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::bench::Results;
use crate::contender::Contender;
use crate::metric::Metric;
use crate::scenario::{Load, Scenario, Table};
use crate::svg;

/// A file and what is on it.
struct Figure {
    file: &'static str,
    panels: &'static [Panel],
}

struct Panel {
    title: &'static str,
    table: Table,
    metric: Metric,
    shows: fn(&Scenario) -> bool,
}

struct Bar {
    label: String,
    value: f64,
    text: String,
    class: &'static str,
}

const fn panel(title: &'static str, table: Table, metric: Metric) -> Panel {
    Panel {
        title,
        table,
        metric,
        shows: |_| true,
    }
}

const FIGURES: [Figure; 6] = {
    use Metric as M;
    use Table as T;
    [
        Figure {
            file: "cpu.svg",
            panels: &[
                panel("HTTP/1.1: CPU time per request, us", T::Http1, M::Cpu),
                panel("TLS 1.3: CPU time per request, us", T::Tls, M::Cpu),
                panel(
                    "HTTP/2 over TLS 1.3: CPU time per request, us",
                    T::Http2,
                    M::Cpu,
                ),
            ],
        },
        Figure {
            file: "handshakes.svg",
            panels: &[
                panel(
                    "TLS 1.3: full handshakes per CPU second",
                    T::FullHandshakes,
                    M::PerCpuSecond,
                ),
                panel(
                    "TLS 1.3: resumed handshakes per CPU second",
                    T::ResumedHandshakes,
                    M::PerCpuSecond,
                ),
            ],
        },
        Figure {
            file: "latency.svg",
            panels: &[
                panel("At a fixed rate: median latency, us", T::Latency, M::P50),
                panel("99 % are answered within, us", T::Latency, M::P99),
                panel("99.9 % are answered within, us", T::Latency, M::P999),
            ],
        },
        Figure {
            file: "scale.svg",
            panels: &[
                panel("Many tokens: CPU time per request, us", T::Tokens, M::Cpu),
                panel("Many routes: CPU time per request, us", T::Routes, M::Cpu),
                panel("More workers: CPU time per request, us", T::Workers, M::Cpu),
            ],
        },
        Figure {
            file: "bodies.svg",
            panels: &[
                panel("POST of 1 KiB: requests per second", T::Post, M::Rate),
                panel("POST of 1 MiB: MiB per second", T::Uploads, M::Rate),
                panel("GET of 1 MiB: MiB per second", T::Downloads, M::Rate),
            ],
        },
        Figure {
            file: "memory.svg",
            panels: &[
                Panel {
                    shows: |scenario| scenario.load == Load::Rest,
                    ..panel("At rest: resident memory, KiB", T::Memory, M::Resident)
                },
                panel(
                    "Each idle connection: resident memory, KiB",
                    T::Memory,
                    M::PerConnection,
                ),
            ],
        },
    ]
};

/// Writes every figure of which something was measured; tells how many.
pub(crate) fn write(folder: &Path, results: &Results) -> anyhow::Result<usize> {
    let mut written = 0;
    for figure in &FIGURES {
        let panels: Vec<(&str, Vec<Bar>)> = figure
            .panels
            .iter()
            .map(|panel| (panel.title, panel.bars(results)))
            .filter(|(_, bars)| !bars.is_empty())
            .collect();
        if panels.is_empty() {
            continue;
        }
        let file = folder.join(figure.file);
        fs::write(&file, draw(&panels)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        written += 1;
    }
    Ok(written)
}

impl Panel {
    fn bars(&self, results: &Results) -> Vec<Bar> {
        let of_table = results
            .measured
            .iter()
            .filter(|one| one.scenario.table == self.table && (self.shows)(&one.scenario));
        of_table
            .filter_map(|one| {
                let value = results.median(one, self.metric)?;
                let who = one.scenario.contender;
                Some(Bar {
                    label: one.scenario.label(),
                    value,
                    text: match value {
                        _ if value < 100.0 => format!("{value:.1}"),
                        _ => format!("{value:.0}"),
                    },
                    class: match who {
                        Contender::Gate(_) => "gate",
                        _ if who.checks_tokens() => "peer",
                        _ => "blind",
                    },
                })
            })
            .collect()
    }
}

fn draw(panels: &[(&str, Vec<Bar>)]) -> anyhow::Result<String> {
    let rows: usize = panels.iter().map(|(_, bars)| bars.len()).sum();
    let height = (rows * ROW) + panels.len() * (TITLE + GAP) + LEGEND;
    let mut svg = String::new();
    let mut y = 0;
    for (title, bars) in panels {
        y += TITLE;
        svg += &svg::title(y, title);
        let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
        for bar in bars {
            bar.draw(&mut svg, y, most)?;
            y += ROW;
        }
        y += GAP;
    }
    let note = "Medians of interleaved rounds. Pale: passes every token, it checks none.";
    Ok(svg::figure(height, &svg, note))
}

impl Bar {
    fn draw(&self, svg: &mut String, y: usize, most: f64) -> anyhow::Result<()> {
        let length = self.value.max(0.0) / most.max(f64::MIN_POSITIVE) * LONGEST;
        let (class, label, text) = (self.class, &self.label, &self.text);
        let middle = y + ROW / 2 + 4;
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{label}</text>\
             <rect class=\"{class}\" x=\"{LABEL}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{middle}\">{text}</text>",
            LABEL - 8,
            y + 2,
            ROW - 4,
            LABEL as f64 + length + 6.0,
        )?;
        Ok(())
    }
}

const LABEL: usize = 430;
const LONGEST: f64 = 390.0;
const ROW: usize = 20;
const TITLE: usize = 30;
const GAP: usize = 8;
const LEGEND: usize = 26;

//! What does the reader see?

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::bench::{Measured, Results};
use crate::contender::Contender;
use crate::goal;
use crate::machine::{Machine, Others, Pinning};
use crate::metric::Metric;
use crate::options::Options;
use crate::scenario::Table;
use crate::storm::Answers;

/// Prints the tables.
pub(crate) fn print(results: &Results, only_some: bool) {
    let mut tables: Vec<Table> = Vec::new();
    for one in &results.measured {
        if !tables.contains(&one.scenario.table) {
            tables.push(one.scenario.table);
        }
    }
    for table in tables {
        print_table(results, table);
    }
    if results.measured.iter().any(is_blind) {
        println!("\n* replaces the Authorization field and checks no token");
    }
    for (one, logins) in measured_logins(results) {
        print_logins(one, &logins);
    }
    goal::print(results, only_some);
    for one in &results.measured {
        if let Some(failure) = &one.failure {
            println!("\nfailed: {}: {failure}", one.scenario.name());
        }
    }
    println!("\nmeanwhile: {}", Others(results.others));
}

fn print_table(results: &Results, table: Table) {
    println!("\n{}: {}", table.key(), table.title());
    let headings = table.columns().iter();
    let headings: String = headings
        .map(|metric| format!(" {:>WIDTH$}", metric.heading(table)))
        .collect();
    println!("{:<NAME$}{headings}", "");
    for one in &results.measured {
        if one.scenario.table != table {
            continue;
        }
        let cells: String = table
            .columns()
            .iter()
            .map(|metric| {
                let median = results.median(one, *metric);
                let text = median.map_or_else(|| "-".to_owned(), |value| metric.format(value));
                format!(" {text:>WIDTH$}")
            })
            .collect();
        let mark = if is_blind(one) { " *" } else { "" };
        println!(
            "{:<NAME$}{cells}",
            format!("{}{mark}", one.scenario.label())
        );
    }
}

/// A proxy that lets every token pass.
fn is_blind(one: &Measured) -> bool {
    let who = one.scenario.contender;
    who != Contender::Direct && !who.checks_tokens()
}

fn print_logins(one: &Measured, logins: &Answers) {
    let seconds = logins.elapsed.as_secs_f64();
    let per_second = |count: u64| count as f64 / seconds;
    println!(
        "{}: of {:.0} logins/s {:.0} were granted, {:.0} were wrong (401), {:.0} throttled (429), \
         {:.0} found the gate busy (503)",
        one.scenario.label(),
        per_second(logins.total()),
        per_second(logins.granted),
        per_second(logins.refused),
        per_second(logins.throttled),
        per_second(logins.busy),
    );
}

/// What became of the logins beside a load, over all rounds.
fn measured_logins(results: &Results) -> impl Iterator<Item = (&Measured, Answers)> {
    results.measured.iter().filter_map(|one| {
        let rounds = one.rounds.iter().map(|round| round.logins);
        let sum = rounds.sum::<Option<Answers>>()?;
        (sum.total() > 0).then_some((one, sum))
    })
}

/// Writes all of it, with every round, for machines.
pub(crate) fn write(
    file: &Path,
    machine: &Machine,
    options: &Options,
    results: &Results,
) -> anyhow::Result<()> {
    let document = json!({
        "machine": {
            "cpu": machine.cpu,
            "cores": machine.cores,
            "memory": machine.memory,
            "kernel": machine.kernel,
            "others_busy_before": machine.others,
            "others_busy_meanwhile": results.others,
            "pinned": match &machine.pinning {
                Pinning::Pinned { proxy, others, .. } => {
                    json!({ "proxy": proxy, "others": others })
                }
                Pinning::Unpinned(_) => Value::Null,
            },
        },
        "versions": results.versions,
        "options": {
            "seconds": options.seconds,
            "rounds": options.rounds,
            "connections": options.connections,
            "rate": options.rate,
        },
        "scenarios": results.measured.iter()
            .map(|one| scenario_json(results, one))
            .collect::<Vec<_>>(),
        "goals": goal::json(results),
    });
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(file, format!("{document:#}\n"))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn scenario_json(results: &Results, one: &Measured) -> Value {
    let columns = one.scenario.table.columns();
    let medians: Map<String, Value> = columns
        .iter()
        .filter_map(|metric| {
            Some((
                metric.key().to_owned(),
                rounded(results.median(one, *metric)?),
            ))
        })
        .collect();
    let rounds: Map<String, Value> = columns
        .iter()
        .filter(|metric| **metric != Metric::Spread)
        .filter_map(|metric| {
            let series = results.series(one, *metric);
            let values: Option<Vec<Value>> =
                series.into_iter().map(|value| value.map(rounded)).collect();
            Some((metric.key().to_owned(), values?.into()))
        })
        .collect();
    let logins: Option<Vec<Value>> = one
        .rounds
        .iter()
        .map(|round| {
            round.logins.map(|logins| {
                json!({
                    "seconds": logins.elapsed.as_secs_f64(),
                    "granted": logins.granted,
                    "refused": logins.refused,
                    "throttled": logins.throttled,
                    "busy": logins.busy,
                })
            })
        })
        .collect();
    json!({
        "name": one.scenario.name(),
        "checks_tokens": one.scenario.contender.checks_tokens(),
        "medians": medians,
        "rounds": rounds,
        "logins": logins,
        "failure": one.failure,
    })
}

/// To a thousandth, which is finer than anything here is known.
fn rounded(value: f64) -> Value {
    json!((value * 1e3).round() / 1e3)
}

const NAME: usize = 64;
const WIDTH: usize = 12;

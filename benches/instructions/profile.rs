//! What does one of callgrind's files say? (Valgrind's manual, "Callgrind Format Specification".)

use std::collections::{BTreeMap, HashMap};

use anyhow::Context;

/// What was executed, in user space alone: what the kernel does for a request is not in it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) instructions: f64,
    /// Calls of the allocator that give memory, from outside the allocator.
    pub(crate) allocations: f64,
}

/// What one thread executed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    pub(crate) cost: Cost,
    /// Which of several routines of the C library were taken because of what the processor can:
    /// `memcpy` and `avx_unaligned_erms`.
    pub(crate) routines: BTreeMap<String, String>,
}

impl Profile {
    /// The share of one of so many requests.
    pub(crate) fn per(mut self, requests: u32) -> Self {
        self.cost.instructions /= f64::from(requests);
        self.cost.allocations /= f64::from(requests);
        self
    }
}

/// Reads the file of one thread.
pub(crate) fn read(text: &str) -> anyhow::Result<Profile> {
    let mut names = HashMap::new();
    let (mut caller, mut callee) = ("", "");
    let mut profile = Profile::default();
    let cost = &mut profile.cost;
    for line in text.lines() {
        if let Some(named) = line.strip_prefix("fn=") {
            caller = name(&mut names, named)?;
        } else if let Some(named) = line.strip_prefix("cfn=") {
            callee = name(&mut names, named)?;
        } else if let Some(call) = line.strip_prefix("calls=") {
            if gives_memory(callee) && !is_allocator(caller) {
                let count = call.split(' ').next().unwrap_or_default();
                cost.allocations += count.parse::<f64>().context("no count of calls")?;
            }
        } else if let Some(total) = line.strip_prefix("totals: ") {
            cost.instructions = total.parse().context("no total")?;
        }
    }
    profile.routines = names.values().filter_map(|name| routine(name)).collect();
    Ok(profile)
}

/// A name stands in full where it comes first, `(12) name`, and then by its number alone.
fn name<'a>(names: &mut HashMap<&'a str, &'a str>, named: &'a str) -> anyhow::Result<&'a str> {
    match named.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            Ok(name)
        }
        None => names.get(named).copied().context("a name is missing"),
    }
}

/// Of mimalloc or of the C library, which C code uses.
fn is_allocator(function: &str) -> bool {
    function.starts_with("mi_") || function.starts_with("_mi_") || function == "calloc"
}

fn gives_memory(function: &str) -> bool {
    let name = function.trim_start_matches("mi_");
    let starts = ["malloc", "zalloc", "calloc", "realloc"];
    starts.iter().any(|start| name.starts_with(start))
}

/// The C library's choice among its routines shows in the name, as in `__memcpy_avx_unaligned_erms`.
fn routine(function: &str) -> Option<(String, String)> {
    let name = function.strip_prefix("__")?;
    let is_chosen = name.starts_with("mem") || name.starts_with("str");
    let (purpose, way) = name.split_once('_').filter(|_| is_chosen)?;
    Some((purpose.to_owned(), way.to_owned()))
}

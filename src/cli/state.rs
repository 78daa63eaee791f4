//! How does the state move from one store to another? As lines of JSON, through a pipe or a file.

use std::io::{BufRead as _, stdin};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::run::prepare_with;
use super::say;
use crate::clock;
use crate::config::files::Files;
use crate::store::{AnyStore, Record, StoreConfig};

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    tollgate_state: u64,
}

/// The form of the lines that follow.
const FORM: u64 = 1;
/// How many records are taken in one transaction.
const TOGETHER: usize = 1000;
/// How long a store that replicas share may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints everything that the config's store has.
///
/// # Errors
/// If the store cannot be had or read.
pub(super) fn export(file: &Path) -> anyhow::Result<()> {
    let store = open(file)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let records = runtime.block_on(store.export(clock::unix_now()))?;
    say(serde_json::to_string(&Head {
        tollgate_state: FORM,
    })?);
    for record in records {
        say(serde_json::to_string(&record)?);
    }
    Ok(())
}

/// Reads what [`export`] printed into the config's store.
///
/// # Errors
/// If a line is not one of an export, or the store cannot take it; what stands before that line
/// may have been taken.
pub(super) fn import(file: &Path) -> anyhow::Result<()> {
    let store = open(file)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut lines = stdin().lock().lines();
    let head = lines
        .next()
        .context("expected an export on standard input")??;
    match serde_json::from_str::<Head>(&head) {
        Ok(Head {
            tollgate_state: FORM,
        }) => {}
        Ok(Head { tollgate_state }) => {
            bail!("this export has the form {tollgate_state}, and this gate knows {FORM}")
        }
        Err(_) => bail!("line 1: not an export of `tollgate state export`"),
    }
    let mut records = Vec::<Record>::new();
    let mut count = 0_usize;
    for (index, line) in lines.enumerate() {
        let record = serde_json::from_str(&line?);
        records.push(record.with_context(|| format!("line {}: not a record", index + 2))?);
        count += 1;
        if records.len() == TOGETHER {
            runtime.block_on(store.import(std::mem::take(&mut records)))?;
        }
    }
    runtime.block_on(store.import(records))?;
    say(format_args!("{count} records imported"));
    Ok(())
}

fn open(file: &Path) -> anyhow::Result<AnyStore> {
    let files = Files::beside(file);
    let prepared = prepare_with(file, &files)?;
    if prepared.config.store == StoreConfig::Memory {
        bail!("the config's store is in the memory of the gate's process, where nobody else reads");
    }
    let store = AnyStore::open(prepared.store)
        .context("a gate that runs has its state file to itself; stop it first")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let health = store.health();
    let begun = runtime.block_on(async { timeout(PATIENCE, health.begun()).await });
    let begun = begun.context("the store did not answer in time")?;
    begun.map_err(|text| anyhow!("the store cannot be used: {text}"))?;
    Ok(store)
}

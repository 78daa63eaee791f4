//! What stands where in the state file? Records as JSON, and indexes to find them by.

use std::cell::Cell;
use std::time::Duration;

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::UnixTime;
use crate::store::family::{Family, FamilyRecord, Presented, Rotation};
use crate::store::{Record, StoreError};
use crate::token::revocation::{Revocation, Revoked};

/// The layout that this file describes. Another number is another layout.
pub(super) const VERSION: u64 = 1;

/// `version`; `applications`, the last number that was given to one; `outlive`, until when tokens
/// may live that were issued so far.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Families by id.
const FAMILIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("families");
/// Families by subject and id.
pub(super) const SUBJECTS: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("subjects");
/// Families by expiry and id.
pub(super) const EXPIRIES: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("expiries");
/// Revocations by what they name, as JSON.
const REVOCATIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("revocations");
/// Values that are taken once: their end, and themselves.
const VALUES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("values");

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The database failed; nothing of the transaction can be kept.
    #[error(transparent)]
    Database(#[from] redb::Error),
    /// What stands in the file cannot be read.
    #[error("the state file holds what cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// It is not to be done, and nothing was changed.
    #[error(transparent)]
    Refused(#[from] StoreError),
}

macro_rules! database_errors {
    ($($kind:ident)*) => {
        $(impl From<redb::$kind> for Failure {
            fn from(error: redb::$kind) -> Self {
                Self::Database(error.into())
            }
        })*
    };
}

database_errors!(CommitError StorageError TableError TransactionError);

/// The state within one transaction.
pub(super) struct Layout<'a> {
    pub(super) transaction: &'a WriteTransaction,
    is_changed: Cell<bool>,
}

impl<'a> Layout<'a> {
    pub(super) const fn new(transaction: &'a WriteTransaction) -> Self {
        Self {
            transaction,
            is_changed: Cell::new(false),
        }
    }

    pub(super) fn change(&self) {
        self.is_changed.set(true);
    }

    /// Whether there is anything to commit.
    pub(super) const fn is_changed(&self) -> bool {
        self.is_changed.get()
    }

    /// The version of what stands in the file; a new one gets this one's.
    pub(super) fn version(&self) -> Result<u64, Failure> {
        let mut meta = self.transaction.open_table(META)?;
        let found = meta.get("version")?.map(|version| version.value());
        if let Some(version) = found {
            return Ok(version);
        }
        self.change();
        meta.insert("version", VERSION)?;
        Ok(VERSION)
    }

    pub(super) fn begin(&self, family: &Family, now: UnixTime) -> Result<(), Failure> {
        self.put_family(&family.id, &FamilyRecord::new(family, now))
    }

    pub(super) fn take(
        &self,
        presented: Presented<'_>,
        now: UnixTime,
        grace: Duration,
    ) -> Result<Rotation, Failure> {
        let Some(mut record) = self.family(presented.family)? else {
            return Ok(Rotation::Unknown);
        };
        let before = record.expires;
        let rotation = record.take(presented, now, grace);
        match rotation {
            Rotation::Next => {
                let mut expiries = self.transaction.open_table(EXPIRIES)?;
                expiries.remove((before.0, presented.family))?;
                drop(expiries);
                self.put_family(presented.family, &record)?;
            }
            Rotation::Reused => self.remove_family(presented.family)?,
            Rotation::Again(_) | Rotation::Unknown => {}
        }
        Ok(rotation)
    }

    pub(super) fn is_newest(
        &self,
        presented: Presented<'_>,
        now: UnixTime,
    ) -> Result<bool, Failure> {
        let record = self.family(presented.family)?;
        Ok(record.is_some_and(|record| record.is_newest(presented, now)))
    }

    pub(super) fn revoke(&self, revocation: &Revocation) -> Result<(), Failure> {
        match &revocation.what {
            Revoked::All => {
                for id in self.family_ids()? {
                    self.remove_family(&id)?;
                }
                self.end_applications(|_| true)?;
            }
            Revoked::Family(id) => {
                self.remove_family(id)?;
                if let Some(number) = self.buyer(id)? {
                    self.end_applications(|token| token.id == number)?;
                }
            }
            Revoked::Subject(subject) => {
                for id in self.families_of(subject)? {
                    self.remove_family(&id)?;
                }
                self.end_applications(|token| token.creator == *subject)?;
            }
            Revoked::Token(_) => {}
        }
        self.put_revocation(revocation)
    }

    pub(super) fn revocations(&self, now: UnixTime) -> Result<Vec<Revocation>, Failure> {
        let table = self.transaction.open_table(REVOCATIONS)?;
        let mut all = Vec::new();
        for entry in table.iter()? {
            let revocation: Revocation = read(entry?.1.value())?;
            if now < revocation.until {
                all.push(revocation);
            }
        }
        Ok(all)
    }

    pub(super) fn outlive(&self, until: UnixTime) -> Result<UnixTime, Failure> {
        let mut meta = self.transaction.open_table(META)?;
        let held = meta.get("outlive")?.map_or(0, |held| held.value());
        if held < until.0 {
            self.change();
            meta.insert("outlive", until.0)?;
        }
        Ok(UnixTime(held))
    }

    pub(super) fn put(&self, name: &str, value: &[u8], until: UnixTime) -> Result<(), Failure> {
        self.change();
        let mut values = self.transaction.open_table(VALUES)?;
        values.insert(name, (until.0, value))?;
        Ok(())
    }

    pub(super) fn take_once(&self, name: &str, now: UnixTime) -> Result<Option<Vec<u8>>, Failure> {
        let mut values = self.transaction.open_table(VALUES)?;
        let Some(taken) = values.remove(name)? else {
            return Ok(None);
        };
        self.change();
        let (until, value) = taken.value();
        Ok((now.0 < until).then(|| value.to_vec()))
    }

    pub(super) fn export(&self, now: UnixTime) -> Result<Vec<Record>, Failure> {
        let revocations = self.revocations(now)?.into_iter();
        let mut records: Vec<_> = revocations.map(Record::Revocation).collect();
        let families = self.transaction.open_table(FAMILIES)?;
        for entry in families.iter()? {
            let (id, record) = entry?;
            let record = Record::Family(id.value().to_owned(), read(record.value())?);
            records.push(record);
        }
        let applications = self.all_applications()?.into_iter();
        records.extend(applications.map(Record::Application));
        Ok(records)
    }

    pub(super) fn import(&self, records: Vec<Record>) -> Result<(), Failure> {
        for record in records {
            match record {
                Record::Application(token) => self.import_application(&token)?,
                Record::Family(id, record) => {
                    self.remove_family(&id)?;
                    self.put_family(&id, &record)?;
                }
                Record::Revocation(revocation) => self.put_revocation(&revocation)?,
            }
        }
        Ok(())
    }

    pub(super) fn sweep(&self, now: UnixTime) -> Result<(), Failure> {
        let expiries = self.transaction.open_table(EXPIRIES)?;
        let mut expired = Vec::new();
        for entry in expiries
            .range(..(now.0.saturating_add(1), ""))?
            .take(AT_ONCE)
        {
            expired.push(entry?.0.value().1.to_owned());
        }
        drop(expiries);
        for id in expired {
            self.remove_family(&id)?;
        }
        let mut values = self.transaction.open_table(VALUES)?;
        for taken in values.extract_if(|_, (until, _)| until <= now.0)? {
            taken?;
            self.change();
        }
        let mut revocations = self.transaction.open_table(REVOCATIONS)?;
        let is_over = |_: &str, bytes: &[u8]| {
            read::<Revocation>(bytes).is_ok_and(|revocation| revocation.until <= now)
        };
        for taken in revocations.extract_if(is_over)? {
            taken?;
            self.change();
        }
        Ok(())
    }

    pub(super) fn family(&self, id: &str) -> Result<Option<FamilyRecord>, Failure> {
        let families = self.transaction.open_table(FAMILIES)?;
        let found = families.get(id)?;
        found.map(|record| read(record.value())).transpose()
    }

    fn family_ids(&self) -> Result<Vec<String>, Failure> {
        let families = self.transaction.open_table(FAMILIES)?;
        let mut ids = Vec::new();
        for entry in families.iter()? {
            ids.push(entry?.0.value().to_owned());
        }
        Ok(ids)
    }

    pub(super) fn families_of(&self, subject: &str) -> Result<Vec<String>, Failure> {
        let subjects = self.transaction.open_table(SUBJECTS)?;
        let mut ids = Vec::new();
        for entry in subjects.range((subject, "")..)? {
            let (key, _) = entry?;
            let (of, id) = key.value();
            if of != subject {
                break;
            }
            ids.push(id.to_owned());
        }
        Ok(ids)
    }

    fn put_family(&self, id: &str, record: &FamilyRecord) -> Result<(), Failure> {
        self.change();
        let mut families = self.transaction.open_table(FAMILIES)?;
        families.insert(id, write(record)?.as_slice())?;
        let mut subjects = self.transaction.open_table(SUBJECTS)?;
        subjects.insert((record.subject.as_str(), id), ())?;
        let mut expiries = self.transaction.open_table(EXPIRIES)?;
        expiries.insert((record.expires.0, id), ())?;
        Ok(())
    }

    fn remove_family(&self, id: &str) -> Result<(), Failure> {
        let mut families = self.transaction.open_table(FAMILIES)?;
        let Some(removed) = families.remove(id)? else {
            return Ok(());
        };
        self.change();
        let record: FamilyRecord = read(removed.value())?;
        let mut subjects = self.transaction.open_table(SUBJECTS)?;
        subjects.remove((record.subject.as_str(), id))?;
        let mut expiries = self.transaction.open_table(EXPIRIES)?;
        expiries.remove((record.expires.0, id))?;
        Ok(())
    }

    fn put_revocation(&self, revocation: &Revocation) -> Result<(), Failure> {
        self.change();
        let name = serde_json::to_string(&revocation.what)?;
        let mut revocations = self.transaction.open_table(REVOCATIONS)?;
        let held = revocations.get(name.as_str())?;
        let held: Option<Revocation> = held.map(|held| read(held.value())).transpose()?;
        let later = match held {
            Some(held) => revocation.clone().or_later(&held),
            None => revocation.clone(),
        };
        revocations.insert(name.as_str(), write(&later)?.as_slice())?;
        Ok(())
    }
}

/// The revocations of a file that is only read.
pub(super) fn read_revocations(transaction: &ReadTransaction) -> Result<Vec<Revocation>, Failure> {
    let table = transaction.open_table(REVOCATIONS)?;
    let mut all = Vec::new();
    for entry in table.iter()? {
        all.push(read(entry?.1.value())?);
    }
    Ok(all)
}

pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    Ok(serde_json::from_slice(bytes)?)
}

pub(super) fn write(record: &impl Serialize) -> Result<Vec<u8>, Failure> {
    Ok(serde_json::to_vec(record)?)
}

/// How many expired families are forgotten in one sweep, so that nobody waits long for it.
const AT_ONCE: usize = 10_000;

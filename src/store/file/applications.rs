//! How do application tokens stand in the state file? By number, found by hash, by creator and by
//! the family of what they bought.

use redb::{ReadableTable as _, TableDefinition};

use super::layout::{Failure, Layout, META, read, write};
use crate::store::StoreError;
use crate::store::application::{ApplicationChange, ApplicationToken, MAX_PER_CREATOR};

/// Application tokens by number.
pub(super) const APPLICATIONS: TableDefinition<'_, u64, &[u8]> =
    TableDefinition::new("applications");
/// Numbers of application tokens by hash.
const HASHES: TableDefinition<'_, &str, u64> = TableDefinition::new("application_hashes");
/// Application tokens by creator and number.
pub(super) const CREATORS: TableDefinition<'_, (&str, u64), ()> =
    TableDefinition::new("application_creators");
/// Numbers of application tokens by family.
const BOUGHT: TableDefinition<'_, &str, u64> = TableDefinition::new("application_families");
impl Layout<'_> {
    pub(super) fn add_application(&self, mut token: ApplicationToken) -> Result<u64, Failure> {
        if self.numbers_of(&token.creator)?.len() >= MAX_PER_CREATOR {
            return Err(StoreError::TooMany.into());
        }
        let mut meta = self.transaction.open_table(META)?;
        let last = meta.get("applications")?.map_or(0, |last| last.value());
        token.id = last + 1;
        meta.insert("applications", token.id)?;
        drop(meta);
        self.put_application(&token)?;
        Ok(token.id)
    }

    pub(super) fn find_application(&self, hash: &str) -> Result<Option<ApplicationToken>, Failure> {
        let hashes = self.transaction.open_table(HASHES)?;
        match hashes.get(hash)? {
            Some(number) => self.application(number.value()),
            None => Ok(None),
        }
    }

    pub(super) fn list_applications(
        &self,
        creator: &str,
    ) -> Result<Vec<ApplicationToken>, Failure> {
        let mut tokens = Vec::new();
        for number in self.numbers_of(creator)? {
            tokens.extend(self.application(number)?);
        }
        Ok(tokens)
    }

    pub(super) fn change_application(
        &self,
        number: u64,
        creator: Option<&str>,
        change: ApplicationChange,
    ) -> Result<Option<ApplicationToken>, Failure> {
        let token = self.application(number)?;
        let is_meant =
            |token: &ApplicationToken| creator.is_none_or(|creator| token.creator == creator);
        let Some(mut token) = token.filter(is_meant) else {
            return Ok(None);
        };
        token.apply(change);
        self.put_application(&token)?;
        Ok(Some(token))
    }

    pub(super) fn application(&self, number: u64) -> Result<Option<ApplicationToken>, Failure> {
        let applications = self.transaction.open_table(APPLICATIONS)?;
        let found = applications.get(number)?;
        found.map(|token| read(token.value())).transpose()
    }

    pub(super) fn numbers_of(&self, creator: &str) -> Result<Vec<u64>, Failure> {
        let creators = self.transaction.open_table(CREATORS)?;
        let mut numbers = Vec::new();
        for entry in creators.range((creator, 0)..=(creator, u64::MAX))? {
            numbers.push(entry?.0.value().1);
        }
        Ok(numbers)
    }

    pub(super) fn put_application(&self, token: &ApplicationToken) -> Result<(), Failure> {
        self.change();
        let mut applications = self.transaction.open_table(APPLICATIONS)?;
        applications.insert(token.id, write(token)?.as_slice())?;
        let mut hashes = self.transaction.open_table(HASHES)?;
        hashes.insert(token.hash.as_str(), token.id)?;
        let mut creators = self.transaction.open_table(CREATORS)?;
        creators.insert((token.creator.as_str(), token.id), ())?;
        let mut bought = self.transaction.open_table(BOUGHT)?;
        bought.insert(token.family.as_str(), token.id)?;
        Ok(())
    }

    pub(super) fn end_applications(
        &self,
        is_meant: impl Fn(&ApplicationToken) -> bool,
    ) -> Result<(), Failure> {
        let applications = self.transaction.open_table(APPLICATIONS)?;
        let mut meant = Vec::new();
        for entry in applications.iter()? {
            let token: ApplicationToken = read(entry?.1.value())?;
            if !token.is_revoked && is_meant(&token) {
                meant.push(token);
            }
        }
        drop(applications);
        for mut token in meant {
            token.is_revoked = true;
            self.put_application(&token)?;
        }
        Ok(())
    }

    /// The number of the application token that bought the tokens of this family.
    pub(super) fn buyer(&self, family: &str) -> Result<Option<u64>, Failure> {
        let bought = self.transaction.open_table(BOUGHT)?;
        Ok(bought.get(family)?.map(|number| number.value()))
    }

    pub(super) fn all_applications(&self) -> Result<Vec<ApplicationToken>, Failure> {
        let applications = self.transaction.open_table(APPLICATIONS)?;
        let mut all = Vec::new();
        for entry in applications.iter()? {
            all.push(read(entry?.1.value())?);
        }
        Ok(all)
    }

    /// Takes an application token with the number that it has.
    pub(super) fn import_application(&self, token: &ApplicationToken) -> Result<(), Failure> {
        let mut meta = self.transaction.open_table(META)?;
        let last = meta.get("applications")?.map_or(0, |last| last.value());
        meta.insert("applications", last.max(token.id))?;
        drop(meta);
        self.put_application(token)
    }
}

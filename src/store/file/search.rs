//! How are sessions and application tokens found in the state file? By the indexes, from which the
//! records to be read are picked.

use redb::ReadableTable as _;

use super::applications::{APPLICATIONS, CREATORS};
use super::layout::{EXPIRIES, Failure, Layout, SUBJECTS};
use crate::clock::UnixTime;
use crate::store::application::ApplicationToken;
use crate::store::search::{Found, Gathering, MOST_LOOKS, MOST_ROWS, Search, Session};

/// How many are picked: a few more than are given, since some may have expired.
const MOST_PICKED: usize = 10 * MOST_ROWS;

/// Keys of records, and whether there are no others.
type Picked<K> = (Vec<K>, bool);

impl Layout<'_> {
    pub(super) fn search_families(
        &self,
        search: &Search,
        now: UnixTime,
    ) -> Result<Found<Session>, Failure> {
        let (picked, is_whole) = match search.is_empty() {
            true => self.newest_families()?,
            false => self.pick_families(search)?,
        };
        let mut gathering = Gathering::new(search);
        for id in picked {
            if gathering.is_full() {
                break;
            }
            if let Some(record) = self.family(&id)? {
                gathering.session(&id, record, now);
            }
        }
        if !is_whole {
            gathering.cut();
        }
        Ok(gathering.sessions())
    }

    /// Those that last longest.
    fn newest_families(&self) -> Result<Picked<String>, Failure> {
        let expiries = self.transaction.open_table(EXPIRIES)?;
        let mut picked = Vec::new();
        for entry in expiries.iter()?.rev() {
            if picked.len() >= MOST_PICKED {
                return Ok((picked, false));
            }
            picked.push(entry?.0.value().1.to_owned());
        }
        Ok((picked, true))
    }

    fn pick_families(&self, search: &Search) -> Result<Picked<String>, Failure> {
        let mut picked = vec![search.text.clone()];
        picked.extend(self.families_of(&search.text)?);
        let subjects = self.transaction.open_table(SUBJECTS)?;
        for (count, entry) in subjects.iter()?.enumerate() {
            if count >= MOST_LOOKS || picked.len() >= MOST_PICKED {
                return Ok((picked, false));
            }
            let (key, _) = entry?;
            let (subject, id) = key.value();
            if search.fits(subject, id) {
                picked.push(id.to_owned());
            }
        }
        Ok((picked, true))
    }

    pub(super) fn search_applications(
        &self,
        search: &Search,
    ) -> Result<Found<ApplicationToken>, Failure> {
        let (picked, is_whole) = match search.is_empty() {
            true => self.newest_applications()?,
            false => self.pick_applications(search)?,
        };
        let mut gathering = Gathering::new(search);
        for number in picked {
            if gathering.is_full() {
                break;
            }
            if let Some(token) = self.application(number)? {
                gathering.application(token);
            }
        }
        if !is_whole {
            gathering.cut();
        }
        Ok(gathering.applications())
    }

    fn newest_applications(&self) -> Result<Picked<u64>, Failure> {
        let applications = self.transaction.open_table(APPLICATIONS)?;
        let mut picked = Vec::new();
        for entry in applications.iter()?.rev() {
            if picked.len() >= MOST_PICKED {
                return Ok((picked, false));
            }
            picked.push(entry?.0.value());
        }
        Ok((picked, true))
    }

    fn pick_applications(&self, search: &Search) -> Result<Picked<u64>, Failure> {
        let mut picked = Vec::from_iter(search.number());
        picked.extend(self.numbers_of(&search.text)?);
        let creators = self.transaction.open_table(CREATORS)?;
        for (count, entry) in creators.iter()?.enumerate() {
            if count >= MOST_LOOKS || picked.len() >= MOST_PICKED {
                return Ok((picked, false));
            }
            let (key, _) = entry?;
            let (creator, number) = key.value();
            if search.fits(creator, &number.to_string()) {
                picked.push(number);
            }
        }
        Ok((picked, true))
    }
}

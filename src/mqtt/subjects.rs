//! How many sessions has each subject, over all workers?

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The sessions that are open. Holds no more entries than there are sessions.
#[derive(Debug, Default)]
pub(crate) struct Subjects(Mutex<HashMap<Box<str>, usize>>);

impl Subjects {
    /// A place for one more session of this subject, if it has fewer than `most`; 0: any number.
    pub(crate) fn take(self: &Arc<Self>, subject: &str, most: usize) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(subject.into()).or_default();
        if most > 0 && *count >= most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Place {
            subjects: Arc::clone(self),
            subject: subject.into(),
        })
    }
}

impl Subjects {
    /// Whether there would be a place.
    pub(crate) fn has_room(&self, subject: &str, most: usize) -> bool {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        most == 0 || open.get(subject).is_none_or(|count| *count < most)
    }
}

/// One of a subject's sessions.
#[derive(Debug)]
pub(crate) struct Place {
    subjects: Arc<Subjects>,
    subject: Box<str>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let open = self.subjects.0.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.subject) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.subject);
            }
        }
    }
}

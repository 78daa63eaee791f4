//! What is wrong with the config? Everything at once, each with its key and its place in the file.

use std::fmt::{self, Display};

use super::place::{Place, Places};

/// All that was found wrong, in the order of the config.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

#[derive(Debug)]
struct Problem {
    /// Where the key stands in the file, if that was looked for.
    place: Option<Place>,
    key: String,
    text: String,
}

impl Problems {
    /// Notes that what stands at `key` is wrong.
    pub fn add(&mut self, key: impl Display, text: impl Display) {
        self.0.push(Problem {
            place: None,
            key: key.to_string(),
            text: text.to_string(),
        });
    }

    /// The value, or nothing and a note.
    pub fn take<T, E: Display>(&mut self, key: impl Display, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(key, error)).ok()
    }

    /// Notes where in the file each key stands.
    pub fn locate(&mut self, places: &Places) {
        for problem in &mut self.0 {
            problem.place = places.find(&problem.key);
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}  ")?;
            if let Some((line, column)) = problem.place {
                write!(f, "{line}:{column}: ")?;
            }
            write!(f, "{}: {}", problem.key, problem.text)?;
        }
        Ok(())
    }
}

/// The nearest of the known names, if one is near enough to be a slip of the pen.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

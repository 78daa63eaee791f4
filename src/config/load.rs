//! How does YAML become a config, and how is a mistake in it told?

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_saphyr::Error as YamlError;

use super::files::{FileError, Files};
use super::place::Places;
use super::problem::{Problems, nearest};

/// Why a config was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The YAML does not fit; with line and column.
    #[error("{}:{line}:{column}: {text}", file.display())]
    Syntax {
        /// The file at fault.
        file: PathBuf,
        /// One-based.
        line: u64,
        /// One-based.
        column: u64,
        /// What is wrong, and what would be right.
        text: String,
    },
    /// The YAML fits its types but not its purpose; every problem is listed.
    #[error("{} cannot be served:\n{problems}", file.display())]
    Invalid {
        /// The file at fault.
        file: PathBuf,
        /// What is wrong.
        problems: Problems,
    },
}

/// Reads the config file, of the files [beside](Files::beside) it, as a [`Config`](super::Config)
/// or as the tree that it is.
///
/// # Errors
/// If it cannot be read or does not fit its types.
pub fn load<T: DeserializeOwned>(file: &Path, files: &Files) -> Result<T, ConfigError> {
    let name = file.file_name().map_or(file, Path::new);
    parse(&files.read_config(name)?, file)
}

/// Adds to the problems of a config where in its file each of them stands.
#[must_use]
pub fn located(mut error: ConfigError, files: &Files) -> ConfigError {
    if let ConfigError::Invalid { file, problems } = &mut error {
        let name = file.file_name().map_or(file.as_path(), Path::new);
        let places = files.read_config(name).ok();
        let places = places.and_then(|yaml| Places::of(&yaml));
        places.iter().for_each(|places| problems.locate(places));
    }
    error
}

/// Parses YAML; `file` is named in errors.
///
/// # Errors
/// With the line and column of the first thing that does not fit.
pub fn parse<T: DeserializeOwned>(yaml: &str, file: &Path) -> Result<T, ConfigError> {
    serde_saphyr::from_str(yaml).map_err(|error| {
        let bare = error.without_snippet();
        let (line, column) = bare
            .location()
            .map_or((1, 1), |location| (location.line(), location.column()));
        ConfigError::Syntax {
            file: file.to_owned(),
            line,
            column,
            text: explain(bare),
        }
    })
}

fn explain(error: &YamlError) -> String {
    match error {
        YamlError::SerdeUnknownField {
            field, expected, ..
        } => unknown("key", field, expected),
        YamlError::SerdeUnknownVariant {
            variant, expected, ..
        } => unknown("value", variant, expected),
        YamlError::SerdeMissingField { field, .. } => format!("the key `{field}` is missing here"),
        YamlError::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{key}` stands here for the second time")
        }
        YamlError::InvalidScalar { ty, .. } => match *ty {
            "bool" => "expected `true` or `false`".to_owned(),
            "f32" | "f64" => "expected a number".to_owned(),
            ty if ty.starts_with('u') => "expected a whole number, not negative".to_owned(),
            ty => format!("expected a value of the type {ty}"),
        },
        YamlError::Unexpected { expected, .. } => match *expected {
            "mapping start" => "expected keys with values here (`key: value`)".to_owned(),
            "sequence start" => {
                "expected a list here (`[ … ]`, or lines that begin with `-`)".to_owned()
            }
            what => format!("expected {what}"),
        },
        other => {
            let text = other.to_string();
            // The location is told already, in front.
            text.split(" at line ").next().unwrap_or(&text).to_owned()
        }
    }
}

fn unknown(what: &str, name: &str, expected: &[&str]) -> String {
    match nearest(name, expected.iter().copied()) {
        Some(near) => format!("unknown {what} `{name}`; did you mean `{near}`?"),
        None => format!(
            "unknown {what} `{name}`; known here: {}",
            expected.join(", ")
        ),
    }
}

//! How are durations, sizes and environment references written in the config?

use std::borrow::Cow;
use std::time::Duration;

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Serialize, Serializer};

/// A duration with a unit: `300ms`, `15m`, `5h`, `30days`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

/// A hundred years: the system's clock has an end.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// As it is written in the config, for the defaults in the schema.
impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let span = humantime::parse_duration(&text).map_err(|error| {
            D::Error::custom(format_args!(
                "`{text}` is not a duration ({error}); write a number with a unit, such as 300ms, 15m, 5h or 30days"
            ))
        })?;
        match span > LONGEST {
            true => Err(D::Error::custom(format_args!(
                "`{text}` is longer than a hundred years"
            ))),
            false => Ok(Self(span)),
        }
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration with a unit.",
            "examples": ["300ms", "15m", "5h", "30days"],
            "pattern": "^[0-9]+ ?[a-z]+( ?[0-9]+ ?[a-z]+)*$"
        })
    }
}

/// A size with a unit: `64KiB`, `16MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    /// The size as a count of bytes in memory.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// As it is written in the config, for the defaults in the schema.
impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
        let (mut count, mut units) = (self.0, UNITS.iter());
        while count > 0 && count % 1024 == 0 && units.len() > 1 {
            count /= 1024;
            units.next();
        }
        let unit = units.next().copied().unwrap_or_default();
        serializer.collect_str(&format_args!("{count}{unit}"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse::<ByteSize>().map(|size| Self(size.as_u64())).map_err(|error| {
            D::Error::custom(format_args!(
                "`{text}` is not a size ({error}); write a number with a unit, such as 64KiB or 16MiB"
            ))
        })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A size with a unit.",
            "examples": ["64KiB", "16MiB"]
        })
    }
}

/// A text in which `${NAME}` stands for an environment variable. Only keys of this type are
/// expanded; a variable that is not set is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expanded(pub String);

impl<'de> Deserialize<'de> for Expanded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        expand(&text, |name| std::env::var(name).ok())
            .map(Self)
            .map_err(D::Error::custom)
    }
}

impl JsonSchema for Expanded {
    fn schema_name() -> Cow<'static, str> {
        "Expanded".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Text in which ${NAME} stands for an environment variable."
        })
    }
}

fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| format!("`{text}` has a `${{` without a `}}`"))?;
        let value =
            lookup(name).ok_or_else(|| format!("the environment variable `{name}` is not set"))?;
        expanded.push_str(&value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn variables_are_expanded_and_a_missing_one_is_named() {
        let lookup = |name: &str| (name == "PORT").then(|| "8443".to_owned());
        assert_eq!(
            expand("0.0.0.0:${PORT}", lookup),
            Ok("0.0.0.0:8443".to_owned())
        );
        assert_eq!(expand("plain", lookup), Ok("plain".to_owned()));
        assert!(expand("${OTHER}", lookup).is_err_and(|error| error.contains("`OTHER`")));
        assert!(expand("${PORT", lookup).is_err());
    }
}

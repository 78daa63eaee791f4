//! Where in the file does a key stand?

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A YAML file as a tree that knows where each value stands.
#[derive(Debug)]
pub struct Places(Node);

/// A line and a column, both from one.
pub type Place = (u64, u64);

#[derive(Debug)]
struct Node {
    place: Place,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Map(Vec<(String, Node)>),
    List(Vec<Node>),
    Scalar,
}

impl Places {
    /// Reads a file that is known to be good YAML; nothing if its keys are no texts.
    #[must_use]
    pub fn of(yaml: &str) -> Option<Self> {
        serde_saphyr::from_str::<Node>(yaml).ok().map(Self)
    }

    /// Where the value of a key such as `routes[0].upstream` stands. Of a key that is not there, the
    /// nearest one above it; nothing if not even its section is there.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<Place> {
        let (mut node, mut rest, mut place) = (&self.0, key, None);
        while let Some((below, left)) = node.step(rest) {
            place = Some(below.place);
            (node, rest) = (below, left);
        }
        place
    }
}

impl Node {
    /// One step along a key: the value below, and what is left of the key. A name may hold dots
    /// itself, so the longest that fits counts.
    fn step<'a>(&self, key: &'a str) -> Option<(&Self, &'a str)> {
        match &self.kind {
            Kind::Scalar => None,
            Kind::List(items) => {
                let (index, rest) = key.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item, rest.strip_prefix('.').unwrap_or(rest)))
            }
            Kind::Map(entries) => {
                let fitting = entries.iter().filter_map(|(name, value)| {
                    let rest = key.strip_prefix(name.as_str())?;
                    let is_whole = rest.is_empty() || rest.starts_with(['.', '[']);
                    is_whole.then_some((name.len(), value, rest))
                });
                let (_, value, rest) = fitting.max_by_key(|(length, ..)| *length)?;
                Some((value, rest.strip_prefix('.').unwrap_or(rest)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        Ok(Self {
            place: (spanned.referenced.line(), spanned.referenced.column()),
            kind: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Kind::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::Places;

    #[test]
    fn a_keys_value_is_found_or_what_is_nearest_above_it() {
        let yaml =
            "a: 1\nlist:\n  - { b: x, c: null }\n  - c: 1.5\nmap:\n  x.y: { z: true }\n  x: no\n";
        let places = Places::of(yaml).unwrap();
        for (key, place) in [
            ("a", Some((1, 4))),
            ("list[0].b", Some((3, 10))),
            ("list[1].c", Some((4, 8))),
            ("list[1].missing.c", Some((4, 5))),
            ("list[7].c", Some((3, 3))),
            ("map.x.y.z", Some((6, 13))),
            ("map.x", Some((7, 6))),
            ("nowhere.a", None),
        ] {
            assert_eq!(places.find(key), place, "{key}");
        }
        assert!(Places::of("- 1: 2\n  [a]: b").is_none());
    }
}

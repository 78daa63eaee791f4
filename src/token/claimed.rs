//! Which of a token's further claims do the rules ask for? Only those are kept, as texts.

use serde_json::{Map, Value};

/// The names of the claims that rules ask for.
///
/// A name stands for the claim of exactly that name, else for a path through objects, its parts
/// between dots: `realm_access.roles`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted(Vec<String>);

impl Wanted {
    /// These names.
    #[must_use]
    pub fn new(mut names: Vec<String>) -> Self {
        names.sort_unstable();
        names.dedup();
        Self(names)
    }

    /// Those of `claims` whose names are wanted, whole, for a token that is to be issued.
    #[must_use]
    pub fn pick(&self, claims: &Map<String, Value>) -> Map<String, Value> {
        let is_wanted = |name: &str| {
            let is = |wanted: &String| match wanted.strip_prefix(name) {
                Some(rest) => rest.is_empty() || rest.starts_with('.'),
                None => false,
            };
            self.0.iter().any(is)
        };
        let picked = claims.iter().filter(|(name, _)| is_wanted(name));
        picked
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

/// The wanted claims of one token.
#[derive(Clone, Debug, Default)]
pub struct Claimed(Box<[Claim]>);

#[derive(Clone, Debug)]
struct Claim {
    name: Box<str>,
    values: Box<[Box<str>]>,
}

impl Claimed {
    /// Takes what is wanted out of a token's claims. Texts, numbers and truth values count, alone
    /// or in a list; nothing else does.
    #[must_use]
    pub fn take(wanted: &Wanted, claims: &Map<String, Value>) -> Self {
        let take = |name: &String| {
            let values = texts(find(claims, name)?);
            let name = name.as_str().into();
            (!values.is_empty()).then_some(Claim { name, values })
        };
        Self(wanted.0.iter().filter_map(take).collect())
    }

    /// The values of a claim; none if the token does not have it, or nobody wanted it.
    #[must_use]
    pub fn values(&self, name: &str) -> &[Box<str>] {
        let found = self.0.iter().find(|claim| *claim.name == *name);
        found.map_or(&[], |claim| &claim.values)
    }

    /// About how many bytes it takes in memory, beyond its own.
    pub(super) fn weight(&self) -> usize {
        let claims = self.0.iter();
        let one = |claim: &Claim| size_of::<Claim>() + claim.name.len() + weight(&claim.values);
        claims.map(one).sum()
    }
}

/// About how many bytes a list of texts takes in memory.
pub(super) fn weight(texts: &[Box<str>]) -> usize {
    let texts = texts.iter();
    texts
        .map(|text| size_of::<Box<str>>() + text.len())
        .sum::<usize>()
        + size_of::<Box<[Box<str>]>>()
}

/// The claim of this name, else what stands at this path.
pub(super) fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(exact) = claims.get(name) {
        return Some(exact);
    }
    let mut parts = name.split('.');
    let first = claims.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.as_object()?.get(part))
}

/// A claim's values as texts.
pub(crate) fn texts(value: &Value) -> Box<[Box<str>]> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(truth) => Some(truth.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    match value {
        Value::Array(several) => several.iter().filter_map(text).collect(),
        one => text(one).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{Claimed, Wanted};

    fn claims() -> Map<String, Value> {
        let claims = json!({
            "station": ["a", 1, true, null, {"x": 1}],
            "https://example.com/roles": "ops",
            "realm_access": {"roles": ["admin"]},
            "other": "x",
        });
        claims.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let names = [
            "station",
            "https://example.com/roles",
            "realm_access.roles",
            "gone",
        ];
        let wanted = Wanted::new(names.map(str::to_owned).to_vec());
        let claimed = Claimed::take(&wanted, &claims());
        let values = |name| claimed.values(name).iter().map(|value| &**value);
        assert!(values("station").eq(["a", "1", "true"]));
        assert!(values("https://example.com/roles").eq(["ops"]));
        assert!(values("realm_access.roles").eq(["admin"]));
        assert!(values("other").eq([""; 0]));
        let picked = wanted.pick(&claims());
        let kept: Vec<_> = picked.keys().collect();
        assert_eq!(
            kept,
            ["https://example.com/roles", "realm_access", "station"]
        );
    }
}

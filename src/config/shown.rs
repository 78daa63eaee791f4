//! What may be shown of a config? All of it, with defaults, but what could be a secret.
//!
//! Secrets are in files of their own, which are not read for this, and what comes from the
//! environment stays as it is written, `${NAME}`. Some keys take texts in which an operator may have
//! put one all the same: those are masked.

use serde_json::{Map, Value};

use super::Config;

/// What stands where a secret could.
const MASK: &str = "***";

/// A config as it was written, with the defaults of what it leaves out.
#[must_use]
pub fn shown(mut written: Value) -> Value {
    let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap_or_default();
    let defaults = Defaults {
        definitions: schema.get("$defs"),
    };
    defaults.fill(&schema, &mut written);
    mask("", &mut written);
    written
}

/// Masks what could be a secret below this key.
fn mask(key: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                // Headers for upstreams: any of them may be a credential.
                match key == "set_headers" {
                    true => *value = Value::from(MASK),
                    false => mask(name, value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(key, item)),
        Value::String(text) if is_secret(key) => *text = MASK.to_owned(),
        Value::String(text) => *text = without_credentials(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether a key's own name says that its text is a secret. Paths of files are none.
fn is_secret(key: &str) -> bool {
    const MARKS: [&str; 4] = ["password", "secret", "passphrase", "value"];
    let is_place = key.ends_with("_file");
    !is_place && MARKS.iter().any(|mark| key.contains(mark))
}

/// A text without the credentials that a URL in it may hold: its user and password (RFC 3986
/// section 3.2.1), and its query.
fn without_credentials(text: &str) -> String {
    let (rest, query) = match text.split_once('?') {
        Some((rest, query)) if !query.is_empty() && rest.contains('/') => (rest, Some(MASK)),
        _ => (text, None),
    };
    let rest = match rest.split_once("://") {
        None => rest.to_owned(),
        Some((scheme, rest)) => {
            let (authority, path) = match rest.split_once('/') {
                Some((authority, path)) => (authority, format!("/{path}")),
                None => (rest, String::new()),
            };
            match authority.rsplit_once('@') {
                Some((_, place)) => format!("{scheme}://{MASK}@{place}{path}"),
                None => format!("{scheme}://{authority}{path}"),
            }
        }
    };
    match query {
        Some(query) => format!("{rest}?{query}"),
        None => rest,
    }
}

/// The defaults that a JSON Schema tells.
struct Defaults<'a> {
    definitions: Option<&'a Value>,
}

impl<'a> Defaults<'a> {
    /// Puts into a value what it leaves out.
    fn fill(&self, schema: &'a Value, value: &mut Value) {
        let schema = self.resolve(schema);
        match value {
            Value::Object(fields) => self.fill_object(schema, fields),
            Value::Array(items) => {
                if let Some(schema) = schema.get("items") {
                    items.iter_mut().for_each(|item| self.fill(schema, item));
                }
            }
            _ => {}
        }
    }

    fn fill_object(&self, schema: &'a Value, fields: &mut Map<String, Value>) {
        for (name, property) in properties(schema) {
            match fields.get_mut(name) {
                Some(value) => self.fill(property, value),
                None => {
                    if let Some(default) = self.default(property) {
                        fields.insert(name.clone(), default);
                    }
                }
            }
        }
        if let Some(each) = schema.get("additionalProperties") {
            let known = properties(schema);
            let others = fields.iter_mut();
            others
                .filter(|(name, _)| known.clone().all(|(known, _)| known != *name))
                .for_each(|(_, value)| self.fill(each, value));
        }
        // The one key of a choice.
        for variant in variants(schema) {
            for (name, property) in properties(self.resolve(variant)) {
                if let Some(value) = fields.get_mut(name) {
                    self.fill(property, value);
                }
            }
        }
    }

    /// What a property is that is not there: a section that needs nothing is there with its own
    /// defaults.
    fn default(&self, property: &'a Value) -> Option<Value> {
        if let Some(default) = property.get("default") {
            return (!default.is_null()).then(|| default.clone());
        }
        property.get("$ref")?;
        let section = self.resolve(property);
        let needs = section.get("required").and_then(Value::as_array);
        if properties(section).next().is_none() || needs.is_some_and(|needs| !needs.is_empty()) {
            return None;
        }
        let mut fields = Map::new();
        self.fill_object(section, &mut fields);
        Some(Value::Object(fields))
    }

    /// What a schema refers to; of what may be left out, what it is if it is there.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let is_null = |variant: &Value| variant.get("type") == Some(&Value::from("null"));
        let some = variants(schema).find(|variant| !is_null(variant));
        let optional = schema.get("anyOf").and(some).unwrap_or(schema);
        let name = optional.get("$ref").and_then(Value::as_str);
        let name = name.and_then(|name| name.strip_prefix("#/$defs/"));
        name.and_then(|name| self.definitions?.get(name))
            .unwrap_or(optional)
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> + Clone {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten()
}

fn variants(schema: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["oneOf", "anyOf"].into_iter();
    let lists = lists.filter_map(|name| schema.get(name).and_then(Value::as_array));
    lists.flatten()
}

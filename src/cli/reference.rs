//! What can be configured, and what is counted? Told from the types and the code themselves.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::{Map, Value};

use super::say;
use crate::config::Config;
use crate::telemetry::metrics::TABLE;

/// What there is a reference of.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Topic {
    /// Every key of the config file
    Config,
    /// Every metric
    Metrics,
}

/// Prints a reference in Markdown.
pub(super) fn print(topic: Topic) -> anyhow::Result<()> {
    match topic {
        Topic::Metrics => say(metrics().trim_end()),
        Topic::Config => say(config()?.trim_end()),
    }
    Ok(())
}

fn metrics() -> String {
    let mut text = "# Metrics

Made by `tollgate reference metrics`. At `/metrics` on the admin listener, in Prometheus' text format; the values are sums over all workers. Labels are closed sets or names from the config, never what a client sent.

| metric | kind | labels | meaning |
|---|---|---|---|
"
    .to_owned();
    for (name, kind, labels, help) in TABLE {
        let labels = labels.iter().map(|label| format!("`{label}`"));
        let labels = Vec::from_iter(labels).join(", ");
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
    }
    text
}

fn config() -> anyhow::Result<String> {
    let schema = serde_json::to_value(schemars::schema_for!(Config))?;
    let mut text = "# The config file

Made by `tollgate reference config` from the types that the config is read into; `tollgate schema` prints the same as a JSON Schema, which editors understand. Unknown keys are errors. `[]` stands for each entry of a list, `NAME` for a name of your own. Relative paths start at the config file's folder.
"
    .to_owned();
    let sections = Sections {
        definitions: schema.get("$defs").and_then(Value::as_object),
    };
    let required = required(&schema);
    for (key, section) in properties(&schema) {
        let must = if required.contains(&key.as_str()) {
            "Required. "
        } else {
            ""
        };
        let meaning = describe(section);
        let _ = write!(
            text,
            "\n## `{key}`\n{must}{meaning}\n\n| key | type | default | meaning |\n|---|---|---|---|\n"
        );
        let mut rows = Vec::new();
        sections.rows(section, key, &mut rows);
        if rows.is_empty() {
            rows.push(sections.row(key, section, ""));
        }
        text.extend(rows);
    }
    Ok(text)
}

/// The definitions that others refer to.
struct Sections<'a> {
    definitions: Option<&'a Map<String, Value>>,
}

impl<'a> Sections<'a> {
    /// What a schema refers to, or itself.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let name = schema.get("$ref").and_then(Value::as_str);
        let name = name.and_then(|name| name.strip_prefix("#/$defs/"));
        name.and_then(|name| self.definitions?.get(name))
            .unwrap_or(schema)
    }

    /// A row for each key under `prefix`.
    fn rows(&self, schema: &'a Value, prefix: &str, rows: &mut Vec<String>) {
        let schema = self.resolve(self.without_null(schema));
        let required = required(schema);
        for (name, property) in properties(schema) {
            let key = format!("{prefix}.{name}");
            let must = match required.contains(&name.as_str()) {
                true => "required",
                false => "",
            };
            rows.push(self.row(&key, property, must));
            self.rows(property, &key, rows);
        }
        if let Some(items) = schema.get("items") {
            self.rows(items, &format!("{prefix}[]"), rows);
        }
        if let Some(values) = schema
            .get("additionalProperties")
            .filter(|it| it.is_object())
        {
            self.rows(values, &format!("{prefix}.NAME"), rows);
        }
        for variant in variants(schema) {
            // What one key alone says, the variant itself explains.
            for (name, property) in properties(variant) {
                let key = format!("{prefix}.{name}");
                let explained = match property.get("description") {
                    Some(_) => property.clone(),
                    None => with_description(property, describe(variant)),
                };
                rows.push(self.row(&key, &explained, "one of these"));
                self.rows(property, &key, rows);
            }
        }
    }

    fn row(&self, key: &str, schema: &Value, must: &str) -> String {
        let default = match schema.get("default") {
            Some(Value::Null) | None => must.to_owned(),
            Some(Value::String(text)) if text.is_empty() => "empty".to_owned(),
            Some(Value::String(text)) => format!("`{text}`"),
            Some(value) => format!("`{value}`"),
        };
        let kind = self.kind(schema);
        let meaning = describe(schema).replace('|', "\\|");
        format!("| `{key}` | {kind} | {default} | {meaning} |\n")
    }

    /// The type in words.
    fn kind(&self, schema: &Value) -> String {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let name = name.trim_start_matches("#/$defs/");
            return match (name, self.definitions.and_then(|all| all.get(name))) {
                ("Duration" | "Size", _) => name.to_lowercase(),
                (_, Some(definition)) => self.kind(definition),
                _ => name.to_owned(),
            };
        }
        let values = self.values(schema);
        if !values.is_empty() {
            return values.join(", ");
        }
        let of = |schema: Option<&Value>| schema.map_or_else(String::new, |it| self.kind(it));
        let kind = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds.iter().find_map(Value::as_str),
            kind => kind.and_then(Value::as_str),
        };
        match kind {
            Some("array") => format!("list of {}", of(schema.get("items"))),
            Some("object") if schema.get("properties").is_none() => {
                match schema
                    .get("additionalProperties")
                    .filter(|it| it.is_object())
                {
                    Some(values) => format!("map to {}", self.kind(values)),
                    None => "map".to_owned(),
                }
            }
            Some("object") => "section".to_owned(),
            Some(kind) => kind.to_owned(),
            None if schema.get("anyOf").is_some() => {
                let variants = schema.get("anyOf").and_then(Value::as_array);
                let kinds = variants.into_iter().flatten();
                let kinds =
                    kinds.filter(|it| it.get("type").and_then(Value::as_str) != Some("null"));
                Vec::from_iter(kinds.map(|it| self.kind(it))).join(" or ")
            }
            None => "section".to_owned(),
        }
    }

    /// The texts that are possible, where they are a closed set.
    fn values(&self, schema: &Value) -> Vec<String> {
        let text = |value: &Value| value.as_str().map(|text| format!("`{text}`"));
        if let Some(Value::Array(all)) = schema.get("enum") {
            return all.iter().filter_map(text).collect();
        }
        let constants = variants(schema).filter_map(|variant| match variant.get("const") {
            Some(value) => text(value).map(|text| vec![text]),
            None => Some(self.values(variant)),
        });
        constants.flatten().collect()
    }

    /// The other of two variants, where one is "nothing".
    fn without_null(&self, schema: &'a Value) -> &'a Value {
        let any = schema.get("anyOf").and_then(Value::as_array);
        let mut any = any.into_iter().flatten();
        any.find(|it| it.get("$ref").is_some()).unwrap_or(schema)
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten()
}

fn variants(schema: &Value) -> impl Iterator<Item = &Value> {
    let variants = schema.get("oneOf").and_then(Value::as_array);
    variants.into_iter().flatten()
}

fn required(schema: &Value) -> Vec<&str> {
    let required = schema.get("required").and_then(Value::as_array);
    let required = required.into_iter().flatten();
    required.filter_map(Value::as_str).collect()
}

fn describe(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str);
    text.unwrap_or_default().replace('\n', " ")
}

fn with_description(schema: &Value, text: String) -> Value {
    let mut schema = schema.clone();
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("description".to_owned(), Value::String(text));
    }
    schema
}

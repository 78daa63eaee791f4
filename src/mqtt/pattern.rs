//! What does a pattern with claims stand for, and does a topic filter lie within another?

use std::borrow::Cow;

use crate::token::verify::VerifiedToken;

/// A text with claims in it, as the config has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Claim(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A text that says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| format!("`{text}` has a `{{` without its `}}`"))?;
            let claim = match name.strip_prefix("claim:") {
                Some(claim) if !claim.is_empty() => claim,
                None if name == "sub" => name,
                _ => {
                    return Err(format!(
                        "in `{text}`, what stands in braces must be {{sub}} or {{claim:NAME}}"
                    ));
                }
            };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Claim(claim.to_owned()));
            rest = after;
        }
        if rest.contains('}') || text.contains('\0') {
            return Err(format!("`{text}` has a character that cannot be meant"));
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// The claims that it names.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Claim(name) => Some(name),
            Piece::Text(_) => None,
        })
    }

    /// What it stands for, for this principal: the parts that the config wrote and those that came
    /// from claims, kept apart. Nothing for claims that have no value that is one level to such a
    /// broker; of very many combinations only the first [`MOST_READINGS`].
    pub(crate) fn readings(&self, principal: &VerifiedToken, levels: Levels) -> Vec<Vec<Part>> {
        let mut readings = vec![Vec::new()];
        for piece in &self.0 {
            let parts: Vec<Part> = match piece {
                Piece::Text(text) => vec![Part::Written(text.clone())],
                Piece::Claim(name) => {
                    let is_one = |value: &&str| is_plain(value) && levels.of(value) == *value;
                    let values = principal.claim(name).filter(is_one);
                    values
                        .map(|value| Part::Claimed(value.to_owned()))
                        .collect()
                }
            };
            let longer = readings.iter().flat_map(|reading: &Vec<Part>| {
                let add = |part: &Part| [reading.as_slice(), std::slice::from_ref(part)].concat();
                parts.iter().map(add)
            });
            readings = longer.take(MOST_READINGS).collect();
        }
        readings
    }
}

/// What a broker takes for the levels of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Levels {
    /// What stands between two `/`, as the standard has it.
    #[default]
    Slashes,
    /// RabbitMQ turns `/` into `.` and `+` into `*`, and lets those that are there already stand:
    /// its documents call that a limitation (<https://www.rabbitmq.com/docs/mqtt>).
    Words,
}

impl Levels {
    /// A topic or filter as it would be written in MQTT for what the broker makes of it.
    pub(crate) fn of(self, topic: &str) -> Cow<'_, str> {
        match self {
            Self::Words if topic.contains(['.', '*']) => {
                topic.replace('.', "/").replace('*', "+").into()
            }
            Self::Slashes | Self::Words => topic.into(),
        }
    }
}

/// Part of what a template stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Written(String),
    Claimed(String),
}

/// The parts in one.
pub(crate) fn text(reading: &[Part]) -> String {
    let texts = reading.iter().map(|part| match part {
        Part::Written(text) | Part::Claimed(text) => text.as_str(),
    });
    texts.collect()
}

/// The most texts that one template stands for.
const MOST_READINGS: usize = 256;

/// Whether a claim's value is one level of a topic and nothing that any broker reads as more: `*`
/// and `>` are wildcards of AMQP and NATS, which some brokers translate MQTT's topics to; what
/// begins with `$` is the broker's own (section 4.7.2), and `$queue/` of EMQX opens any other topic.
fn is_plain(value: &str) -> bool {
    let is_odd = |letter: char| "/+#*>".contains(letter) || letter.is_control();
    !value.is_empty() && !value.starts_with('$') && !value.contains(is_odd)
}

/// Client identifiers: what the config wrote may hold `*`, which stands for any text.
#[derive(Clone, Debug)]
pub(crate) struct Glob(Vec<Part>);

impl Glob {
    pub(crate) const fn new(reading: Vec<Part>) -> Self {
        Self(reading)
    }

    pub(crate) fn fits(&self, id: &str) -> bool {
        let mut rest = id;
        let mut is_free = false;
        let literals = self.0.iter().flat_map(|part| match part {
            Part::Claimed(text) => vec![Some(text.as_str())],
            Part::Written(text) => {
                let mut all = Vec::new();
                for (index, literal) in text.split('*').enumerate() {
                    if index > 0 {
                        all.push(None);
                    }
                    all.push(Some(literal));
                }
                all
            }
        });
        // What stands between two `*` may be found at its first place; what stands behind the last
        // must end the text.
        let mut runs = vec![String::new()];
        for literal in literals {
            match literal {
                None => runs.push(String::new()),
                Some(text) => runs
                    .last_mut()
                    .into_iter()
                    .for_each(|run| run.push_str(text)),
            }
        }
        let last = runs.len() - 1;
        for (index, run) in runs.iter().enumerate() {
            let found = match (is_free, index == last) {
                (false, false) => rest.strip_prefix(run.as_str()),
                (false, true) => rest
                    .strip_prefix(run.as_str())
                    .filter(|rest| rest.is_empty()),
                (true, true) => rest.strip_suffix(run.as_str()).map(|_| ""),
                (true, false) => rest.split_once(run.as_str()).map(|(_, rest)| rest),
            };
            let Some(left) = found else { return false };
            (rest, is_free) = (left, true);
        }
        true
    }
}

/// A topic filter that the config allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter(Vec<Level>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    /// `+`.
    Any,
    /// `#`.
    Rest,
    Text(String),
}

impl Filter {
    /// Of a template's reading. What came from a claim is never a wildcard.
    pub(crate) fn new(reading: &[Part], levels: Levels) -> Self {
        let text = text(reading);
        let text = levels.of(&text);
        // Claims hold no wildcard, so that each that stands here was written.
        let level = |level: &str| match level {
            "+" => Level::Any,
            "#" => Level::Rest,
            text => Level::Text(text.to_owned()),
        };
        Self(text.split('/').map(level).collect())
    }

    /// Whether everything that the other filter matches is matched by this one, too (MQTT 5.0
    /// section 4.7). A topic is a filter without wildcards.
    pub(crate) fn holds(&self, other: &str) -> bool {
        let mut levels = self.0.iter();
        for (index, asked) in other.split('/').enumerate() {
            // Section 4.7.2: wildcards at the beginning match no topic that begins with `$`.
            let is_special = index == 0 && asked.starts_with('$');
            match levels.next() {
                Some(Level::Rest) => return !is_special,
                Some(Level::Any) if is_special || asked == "#" => return false,
                Some(Level::Any) => {}
                Some(Level::Text(text)) if text == asked => {}
                _ => return false,
            }
        }
        // `a/#` matches `a`, too (section 4.7.1.2).
        matches!(levels.as_slice(), [] | [Level::Rest])
    }
}

/// Whether the config's text is a topic filter.
pub(crate) fn check_filter(text: &str) -> Result<(), String> {
    let levels = Vec::from_iter(text.split('/'));
    let is_wrong = |(index, level): (usize, &&str)| {
        level.contains('#') && (*level != "#" || index + 1 < levels.len())
            || level.contains('+') && *level != "+"
    };
    if text.is_empty() || levels.iter().enumerate().any(is_wrong) {
        return Err(format!(
            "`{text}` is no topic filter: `+` must be a whole level, and `#` the last one"
        ));
    }
    Ok(())
}

/// The filter by which messages are chosen: of a shared subscription (section 4.8.2) the one behind
/// its group. Nothing for one that has none.
pub(crate) fn unshared(filter: &str) -> Option<&str> {
    let Some(shared) = filter.strip_prefix("$share/") else {
        return Some(filter);
    };
    let (group, filter) = shared.split_once('/')?;
    let is_fit = !group.is_empty() && !group.contains(['+', '#']) && !filter.is_empty();
    // One that is shared twice is read in two ways.
    (is_fit && !filter.starts_with("$share/")).then_some(filter)
}

#[cfg(test)]
mod tests {
    use super::{Filter, Glob, Levels, Part, Template, check_filter, is_plain, unshared};

    #[test]
    fn a_filter_holds_what_lies_within_it() {
        for (allowed, asked, holds) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/b", "a", false),
            ("a/b", "a/b/c", false),
            ("a/b", "a/+", false),
            ("a/b", "a/#", false),
            ("a/+", "a/b", true),
            ("a/+", "a/+", true),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("a/+", "a/#", false),
            ("a/+", "a/b/c", false),
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/+/c", true),
            ("a/+/c", "a/b/+", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "a/+/c", true),
            ("a/#", "a/#", true),
            ("a/#", "a/+/#", true),
            ("a/#", "#", false),
            ("a/#", "+/b", false),
            ("a/#", "ab", false),
            ("#", "#", true),
            ("#", "+/+", true),
            ("#", "/a", true),
            ("#", "$SYS/broker", false),
            ("#", "$SYS/#", false),
            ("+/a", "$SYS/a", false),
            ("+/#", "$SYS/a", false),
            ("$SYS/#", "$SYS/broker", true),
            ("a/#", "a/$SYS", true),
            ("$SYS/#", "#", false),
            ("/a", "a", false),
            ("a", "/a", false),
            ("a/+", "a//b", false),
        ] {
            let filter = Filter::new(&[Part::Written(allowed.to_owned())], Levels::Slashes);
            assert_eq!(filter.holds(asked), holds, "{asked} within {allowed}");
        }
    }

    #[test]
    fn a_shared_subscription_is_judged_by_its_filter() {
        for (filter, expected) in [
            ("a/b", Some("a/b")),
            ("$share/g/a/#", Some("a/#")),
            ("$share/g//a", Some("/a")),
            ("$share/g", None),
            ("$share/g/", None),
            ("$share//a", None),
            ("$share/+/a", None),
            ("$share/g/$share/h/a", None),
            ("$shared/g/a", Some("$shared/g/a")),
        ] {
            assert_eq!(unshared(filter), expected, "{filter}");
        }
    }

    #[test]
    fn a_client_id_fits_as_a_whole() {
        let parts = |claim: &str, text: &str| {
            Glob::new(vec![
                Part::Written(String::new()),
                Part::Claimed(claim.to_owned()),
                Part::Written(text.to_owned()),
            ])
        };
        for (claim, text, id, fits) in [
            ("ann", "-*", "ann-1", true),
            ("ann", "-*", "ann-", true),
            ("ann", "-*", "ann", false),
            ("ann", "-*", "annx-1", false),
            ("ann", "-*", "xann-1", false),
            ("ann", "", "ann", true),
            ("ann", "", "ann1", false),
            ("ann", "-*-b", "ann-1-b", true),
            ("ann", "-*-b", "ann-b", false),
            ("ann", "-*-b", "ann--b", true),
            ("ann", "-*b*", "ann-abab", true),
            ("ann", "*", "", false),
            ("a*", "-1", "ab-1", false),
            ("a*", "-1", "a*-1", true),
        ] {
            assert_eq!(parts(claim, text).fits(id), fits, "{id} as {claim}{text}");
        }
    }

    #[test]
    fn what_a_claim_may_not_hold() {
        for value in ["", "a/b", "+", "#", "a+", "*", ">", "a\0", "a\n", "$SYS"] {
            assert!(!is_plain(value), "{value:?}");
        }
        for value in ["a", "a.b", "a b", "ä", "a$", "a-1@example.com"] {
            assert!(is_plain(value), "{value:?}");
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_meant_is_told() {
        for text in ["{", "{sub", "sub}", "{claim:}", "{other}", "a{}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        for text in ["", "a#", "#/a", "a+/b", "a/#/b"] {
            assert!(check_filter(text).is_err(), "{text}");
        }
        for text in ["#", "+", "/", "a/+/#", "{sub}/#"] {
            assert!(check_filter(text).is_ok(), "{text}");
        }
    }
}

//! Does a path that passes have exactly one reading?

use proptest::prelude::*;
use tollgate::route::path::{CanonicalPath, PathForms};

use crate::naive::{decode, read_path};
use crate::support::{encoded, many_tries};

/// A piece of a path, in two spellings that mean the same.
fn piece() -> impl Strategy<Value = (String, String)> {
    let same = |text: &str| (text.to_owned(), text.to_owned());
    let unreserved = ("[A-Za-z0-9._~-]", any::<bool>(), any::<bool>()).prop_map(
        |(letter, is_encoded, in_capitals)| {
            let spelt = encoded(letter.as_bytes()[0], in_capitals);
            (letter.clone(), if is_encoded { spelt } else { letter })
        },
    );
    let byte = (any::<u8>(), any::<bool>())
        .prop_map(|(byte, in_capitals)| (encoded(byte, in_capitals), encoded(byte, !in_capitals)));
    prop_oneof![
        6 => unreserved,
        3 => Just(same("/")),
        1 => Just(same("%2e")),
        1 => Just(same("%25")),
        1 => Just(same("%2F")),
        1 => byte,
        // A bare `%` would make digits of the letters behind it.
        1 => "[ -$&-~]".prop_map(move |text| same(&text)),
        1 => Just(same("\u{e4}")),
    ]
}

/// Two spellings of one path.
fn path() -> impl Strategy<Value = (String, String)> {
    prop::collection::vec(piece(), 0..16).prop_map(|pieces| {
        let (one, other): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
        (format!("/{}", one.concat()), format!("/{}", other.concat()))
    })
}

fn assert_read(raw: &str) -> Result<(), TestCaseError> {
    let parsed = CanonicalPath::parse(raw).ok();
    let found = parsed.map(|path| (path.segments().map(String::from).collect(), path.forms()));
    prop_assert_eq!(found, read_path(raw), "{}", raw);
    Ok(())
}

proptest! {
    #![proptest_config(many_tries())]

    #[test]
    fn a_path_is_read_as_the_naive_way_reads_it((raw, _) in path()) {
        assert_read(&raw)?;
    }

    #[test]
    fn so_is_every_other_text(raw in "/?\\PC{0,24}") {
        assert_read(&raw)?;
    }

    #[test]
    fn an_encoded_unreserved_letter_is_the_letter((one, other) in path()) {
        let text = |raw: &str| -> Option<(Vec<String>, PathForms)> {
            let path = CanonicalPath::parse(raw).ok()?;
            Some((path.segments().map(String::from).collect(), path.forms()))
        };
        prop_assert_eq!(text(&one), text(&other), "{} and {}", one, other);
    }

    #[test]
    fn a_path_without_odd_forms_reads_the_same_decoded_again((raw, _) in path()) {
        let Ok(path) = CanonicalPath::parse(&raw) else { return Ok(()) };
        if path.forms() == PathForms::default() {
            let segments = Vec::from_iter(path.segments());
            let (last, others) = segments.split_last().unwrap();
            prop_assert!(others.iter().all(|segment| !segment.is_empty()));
            for segment in others.iter().chain([last]) {
                prop_assert!(!matches!(&**segment, "." | ".."));
                prop_assert!(!segment.contains(['/', '\\', ';', '\0']));
                prop_assert_eq!(decode(segment), segment.as_bytes());
            }
        }
    }
}

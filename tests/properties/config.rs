//! Is every text, however wrong, either a config or an error?

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use tollgate::config::load::parse;
use tollgate::config::value::{Size, Span};

use crate::rules::{build, config};
use crate::support::tries;

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    parse(text, Path::new("a.yaml")).ok()
}

proptest! {
    #![proptest_config(tries())]

    #[test]
    fn a_duration_means_what_it_says(count in 0..100_000_u64, (unit, seconds) in prop::sample::select(vec![
        ("s", 1), ("m", 60), ("min", 60), ("h", 3600), ("d", 86_400), ("days", 86_400),
    ])) {
        let expected = Duration::from_secs(count * seconds);
        // Up to a hundred years, be they all leap years.
        let expected = (count * seconds <= 36_600 * 86_400).then_some(Span(expected));
        prop_assert_eq!(read::<Span>(&format!("{count}{unit}")), expected);
        prop_assert_eq!(read::<Span>(&format!("\"{count} {unit}\"")), expected);
        prop_assert_eq!(read::<Span>(&format!("{count}ms")), Some(Span(Duration::from_millis(count))));
    }

    #[test]
    fn a_size_means_what_it_says(count in 0..100_000_u64, (unit, bytes) in prop::sample::select(vec![
        ("B", 1), ("KiB", 1024), ("MiB", 1024 * 1024), ("GiB", 1024 * 1024 * 1024), ("kB", 1000),
    ])) {
        prop_assert_eq!(read::<Size>(&format!("{count}{unit}")), Some(Size(count * bytes)));
    }

    #[test]
    fn neither_panics(text in "\\PC{0,24}", number in "-?[0-9]{0,40}[.]?[0-9]{0,3}[ a-zA-Z]{0,12}") {
        for text in [text, number] {
            let text = serde_json::to_string(&text).unwrap();
            let _ = (read::<Span>(&text), read::<Size>(&text));
        }
    }

    #[test]
    fn no_text_makes_the_config_panic(text in "\\PC{0,60}", yaml in "([a-z]{1,8}: ?|- |[\\[{}\\],:&*!|>'\"#%@`\n ]|[0-9a-z]{1,4}){0,40}") {
        let _ = (build(&text), build(&yaml));
    }

    #[test]
    fn nor_does_a_config_with_a_slip(
        at in any::<prop::sample::Index>(), length in 0..12_usize, slip in "[ -~\n]{0,6}",
    ) {
        let good = config("  - { path: /a/**, methods: [ GET ], upstream: app, credential: none }\n");
        let (before, rest) = good.split_at(at.index(good.len()));
        let (_, after) = rest.split_at(length.min(rest.len()));
        let _ = build(&format!("{before}{slip}{after}"));
    }
}

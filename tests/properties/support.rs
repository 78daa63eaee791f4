//! What the properties share: how often they are tried, how texts are spelt.

use proptest::prelude::*;
use proptest::test_runner::Config as Tries;

/// As often as usual, or as the environment says.
pub(crate) fn tries() -> Tries {
    Tries {
        failure_persistence: None,
        ..Tries::default()
    }
}

/// Sixteen times as often: for what costs next to nothing.
pub(crate) fn many_tries() -> Tries {
    let usual = tries();
    Tries {
        cases: usual.cases.saturating_mul(16),
        ..usual
    }
}

/// One byte, percent-encoded; digits in either case.
pub(crate) fn encoded(byte: u8, in_capitals: bool) -> String {
    if in_capitals {
        format!("%{byte:02X}")
    } else {
        format!("%{byte:02x}")
    }
}

/// A text in any of its percent-encoded spellings.
pub(crate) fn spelling(text: &'static str) -> impl Strategy<Value = String> {
    let ways = prop::collection::vec(0..4_u8, text.len());
    ways.prop_map(move |ways| {
        let spelt = text.bytes().zip(ways).map(|(byte, way)| match way {
            0 => encoded(byte, true),
            1 => encoded(byte, false),
            _ => char::from(byte).to_string(),
        });
        spelt.collect()
    })
}

//! Do people who open the gate's pages in a real browser get what they should, and nothing else?
//!
//! `TOLLGATE_SCREENSHOTS=write cargo test --test pages` takes the screenshots in docs/pages/ anew.

mod browser;
#[expect(dead_code, reason = "the other services' tests need more of it")]
#[path = "../support/services.rs"]
mod services;

use serde_json::json;

#[test]
fn a_page_that_does_what_it_must_not_is_found_out() {
    browser::tell("harness", &json!({}));
}

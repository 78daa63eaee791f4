//! May keys be fetched from here?

use http::Uri;

use crate::https::is_loopback;

/// Takes a URL that keys may be fetched from: `https`, or `http` to this machine, or any `http`
/// where plaintext is fine. Neither credentials nor a query or fragment.
pub(super) fn parse(text: &str, is_plaintext_fine: bool) -> Result<Uri, String> {
    // Never repeats what may hold a password.
    let shown = if text.contains('@') {
        "(not shown)"
    } else {
        text
    };
    let wrong = |what: &str| format!("`{shown}` {what}");
    let uri = text.parse::<Uri>().map_err(|_| wrong("is not a URL"))?;
    let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("has credentials in it"));
    }
    if text.contains('#') {
        return Err(wrong("has a fragment"));
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_plaintext_fine || is_loopback(&uri) => Ok(uri),
        Some("http") => Err(wrong(
            "is not https: whoever is on the way could make tokens; say `danger_plaintext: true` if nobody is",
        )),
        _ => Err(wrong("is neither https nor http")),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn plaintext_goes_to_this_machine_alone() {
        for text in [
            "https://tenant.example/",
            "https://tenant.example:8443/realms/a",
            "http://localhost:8080/",
            "http://127.8.9.1/",
            "http://[::1]:80/x",
        ] {
            assert!(parse(text, false).is_ok(), "{text}");
        }
        for text in [
            "http://tenant.example/",
            "http://localhost.example/",
            "http://10.0.0.1/",
            "ftp://tenant.example/",
            "tenant.example",
            "https://user:password@tenant.example/",
            "https://tenant.example/#x",
            "",
        ] {
            let outcome = parse(text, false);
            assert!(
                outcome.is_err_and(|error| !error.contains("password")),
                "{text}"
            );
        }
        assert!(parse("http://tenant.example/", true).is_ok());
    }
}

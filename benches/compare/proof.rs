//! Does a contender really do the work that is about to be measured?

use anyhow::Context;
use jsonwebtoken::Algorithm;

use crate::contender::{Contender, Protocol, Running};
use crate::h2;
use crate::keys::Keys;
use crate::run;
use crate::tokens::{self, Life};
use crate::upstream::{Arrivals, Upstream};
use crate::wire::Target;

/// A good token passes with the Basic credential in its place; nothing else passes at all, but for
/// proxies that check no token, which pass everything.
pub(crate) fn prove(
    who: Contender,
    algorithm: Algorithm,
    running: &Running,
    upstream: &Upstream,
    keys: &Keys,
) -> anyhow::Result<()> {
    let (signer, forger) = (keys.signer(algorithm)?, keys.forger(algorithm)?);
    let good = tokens::mint(signer, 0, &Life::Lasting)?;
    let expired = tokens::mint(signer, 0, &Life::Ended)?;
    let forged = tokens::mint(forger, 0, &Life::Lasting)?;
    let refusal = if who.checks_tokens() { "401" } else { "200" };

    // Twice, so that the cached answer is proved as well as the first.
    let each = [Protocol::Plain, Protocol::Tls, Protocol::H2];
    for protocol in each.into_iter().chain(each) {
        let target = running.target(protocol);
        let expect = |what: &'static str, token: Option<&str>, status: &str| {
            expect(target, protocol, upstream, token, status)
                .with_context(|| format!("{what} over {protocol:?}"))
        };
        expect("a good token", Some(&good), "200")?;
        expect("an expired token", Some(&expired), refusal)?;
        expect("a forged token", Some(&forged), refusal)?;
        expect("no token", None, refusal)?;
    }
    Ok(())
}

/// With 200 one request arrives, and that with the right credential; with 401 none.
fn expect(
    target: &Target,
    protocol: Protocol,
    upstream: &Upstream,
    token: Option<&str>,
    status: &str,
) -> anyhow::Result<()> {
    let before = upstream.arrivals()?;
    let found = if protocol == Protocol::H2 {
        h2::ask(target, token)?
    } else {
        let request = token.map_or_else(|| BARE.to_vec(), run::get);
        target.connect()?.exchange(&request)?.status
    };
    anyhow::ensure!(found == status, "expected {status}, got {found}");
    let passed = u64::from(status == "200");
    let expected = Arrivals {
        requests: before.requests + passed,
        translated: before.translated + passed,
        uploaded: before.uploaded,
    };
    let after = upstream.arrivals()?;
    anyhow::ensure!(
        after == expected,
        "the upstream saw {after:?}, expected {expected:?}"
    );
    Ok(())
}

const BARE: &[u8] = b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n";

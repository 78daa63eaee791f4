//! Does a contender really do the work that is about to be measured?

use anyhow::Context;
use jsonwebtoken::Algorithm;

use crate::contender::{Contender, Protocol, Running};
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
    let good = run::get(&tokens::mint(signer, 0, &Life::Lasting)?);
    let refused = [
        (
            "an expired token",
            run::get(&tokens::mint(signer, 0, &Life::Ended)?),
        ),
        (
            "a forged token",
            run::get(&tokens::mint(forger, 0, &Life::Lasting)?),
        ),
        (
            "no token",
            b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
    ];
    let status = if who.checks_tokens() { "401" } else { "200" };

    // Twice, so that the cached answer is proved as well as the first.
    for protocol in [
        Protocol::Plain,
        Protocol::Tls,
        Protocol::Plain,
        Protocol::Tls,
    ] {
        let target = running.target(protocol);
        expect(target, upstream, &good, "200").context("a good token")?;
        for (what, request) in &refused {
            expect(target, upstream, request, status).context(*what)?;
        }
    }
    Ok(())
}

/// With 200 one request arrives, and that with the right credential; with 401 none.
fn expect(
    target: &Target,
    upstream: &Upstream,
    request: &[u8],
    status: &str,
) -> anyhow::Result<()> {
    let before = upstream.arrivals()?;
    let mut connection = target.connect()?;
    let response = connection.exchange(request).context("no answer")?;
    anyhow::ensure!(
        response.status == status,
        "expected {status}, got {}",
        response.status
    );
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

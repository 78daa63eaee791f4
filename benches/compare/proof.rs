//! Does the gate really do the work that is about to be measured?

use anyhow::Context;

use crate::scenario::{self, Bench};
use crate::tokens::{self, FORGED_SECRET, Life, SECRET};
use crate::upstream::Arrivals;
use crate::wire::Target;

/// A good token passes with the gate's own credential; nothing else passes at all.
pub(crate) fn prove(bench: &Bench) -> anyhow::Result<()> {
    let good = scenario::get(&tokens::mint(SECRET, 0, &Life::Lasting)?);
    let expired = scenario::get(&tokens::mint(SECRET, 0, &Life::Ended)?);
    let forged = scenario::get(&tokens::mint(FORGED_SECRET, 0, &Life::Lasting)?);
    let bare = b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let gate = &bench.gate;

    // Twice, so that the cached answer is proved as well as the first.
    for target in [&gate.plain, &gate.tls, &gate.plain, &gate.tls] {
        expect(bench, target, "a good token", &good, "200", 1)?;
        expect(bench, target, "an expired token", &expired, "401", 0)?;
        expect(bench, target, "a forged token", &forged, "401", 0)?;
        expect(bench, target, "no token", &bare, "401", 0)?;
    }
    Ok(())
}

fn expect(
    bench: &Bench,
    target: &Target,
    what: &str,
    request: &[u8],
    status: &str,
    passed: u64,
) -> anyhow::Result<()> {
    let before = bench.upstream.arrivals()?;
    let mut connection = target.connect()?;
    let response = connection
        .exchange(request)
        .with_context(|| format!("{what}: no answer from the gate"))?;
    anyhow::ensure!(
        response.status == status,
        "{what}: expected {status} from the gate, got {}",
        response.status
    );
    let expected = Arrivals {
        requests: before.requests + passed,
        translated: before.translated + passed,
    };
    let after = bench.upstream.arrivals()?;
    anyhow::ensure!(
        after == expected,
        "{what}: the upstream saw {after:?}, expected {expected:?}"
    );
    Ok(())
}

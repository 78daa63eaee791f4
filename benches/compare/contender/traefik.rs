//! Traefik: a plain proxy; it has no token check built in.

use std::process::Command;

use serde_json::json;

use super::Setup;
use crate::trust::{CERTIFICATE, PRIVATE_KEY};
use crate::upstream;

/// Its configs are YAML, of which JSON is a part.
pub(super) fn prepare(setup: &Setup<'_>, command: &mut Command) -> anyhow::Result<()> {
    let router = |entry: &str| {
        json!({ "rule": "PathPrefix(`/`)", "entryPoints": [entry], "middlewares": ["basic"],
                "service": "bench" })
    };
    let mut secure = router("secure");
    if let Some(secure) = secure.as_object_mut() {
        secure.insert("tls".to_owned(), json!({}));
    }
    let certificate = json!({ "certFile": setup.shared(CERTIFICATE),
                              "keyFile": setup.shared(PRIVATE_KEY) });
    let dynamic = json!({
        "http": {
            "routers": { "plain": router("plain"), "secure": secure },
            "middlewares": { "basic": { "headers": { "customRequestHeaders": {
                "Authorization": upstream::basic_credential() } } } },
            "services": { "bench": { "loadBalancer": {
                "servers": [{ "url": format!("http://{}", setup.site.upstream) }],
                "passHostHeader": true } } },
        },
        "tls": {
            "certificates": [certificate],
            "stores": { "default": { "defaultCertificate": certificate } },
            "options": { "default": { "minVersion": "VersionTLS13" } },
        },
    });
    let dynamic = setup.write("dynamic.yaml", &dynamic.to_string())?;
    // The fast proxy is for what speaks HTTP/1.1 upstream.
    let fixed = json!({
        "global": { "checkNewVersion": false, "sendAnonymousUsage": false },
        "log": { "level": "ERROR" },
        "experimental": { "fastProxy": {} },
        "serversTransport": { "maxIdleConnsPerHost": 1024 },
        "entryPoints": {
            "plain": { "address": setup.plain.to_string() },
            "secure": { "address": setup.secure.to_string() },
        },
        "providers": { "file": { "filename": dynamic, "watch": false } },
    });
    let fixed = setup.write("traefik.yaml", &fixed.to_string())?;
    command
        .env("GOMAXPROCS", "1")
        .env("HOME", setup.folder)
        .arg(format!("--configfile={}", fixed.display()));
    Ok(())
}

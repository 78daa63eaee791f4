//! Envoy: with `jwt_authn`, with and without its token cache.

use std::process::Command;

use anyhow::Context;
use serde_json::{Value, json};

use super::Setup;
use crate::tokens::ISSUER;
use crate::trust::{CERTIFICATE, PRIVATE_KEY};
use crate::upstream;

/// One worker, and what its page on benchmarking advises: no request ids, no dynamic statistics,
/// no headers of its own, circuit breakers out of the way, no access log.
pub(super) fn prepare(
    setup: &Setup<'_>,
    caches: bool,
    command: &mut Command,
) -> anyhow::Result<()> {
    let mut provider = json!({
        "issuer": ISSUER,
        "audiences": [ISSUER],
        "forward": false,
        "local_jwks": { "inline_string": setup.site.keys.jwks(setup.algorithm)?.to_string() },
    });
    if caches {
        provider.as_object_mut().context("no object")?.insert(
            "jwt_cache_config".to_owned(),
            json!({ "jwt_cache_size": 100_000 }),
        );
    }
    let filters = [
        filter(
            "jwt_authn",
            "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            json!({ "providers": { "bench": provider },
                    "rules": [{ "match": { "prefix": "/" },
                                "requires": { "provider_name": "bench" } }] }),
        ),
        filter(
            "router",
            "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            json!({ "dynamic_stats": false, "suppress_envoy_headers": true }),
        ),
    ];
    let config = json!({ "static_resources": {
        "listeners": [
            { "name": "plain", "address": address(setup.plain),
              "filter_chains": [{ "filters": [manager(&filters)] }] },
            { "name": "secure", "address": address(setup.secure),
              "filter_chains": [{ "filters": [manager(&filters)],
                                  "transport_socket": tls(setup) }] },
        ],
        "clusters": [{
            "name": "bench",
            "type": "STATIC",
            "load_assignment": { "cluster_name": "bench", "endpoints": [{ "lb_endpoints": [
                { "endpoint": { "address": address(setup.site.upstream) } }] }] },
            "circuit_breakers": { "thresholds": [{
                "max_connections": 1_000_000, "max_pending_requests": 1_000_000,
                "max_requests": 1_000_000 }] },
        }],
    } });
    let config = setup.write("envoy.json", &config.to_string())?;
    command
        .args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "-l",
            "error",
            "-c",
        ])
        .arg(config);
    Ok(())
}

fn address(address: std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(),
                                "port_value": address.port() } })
}

fn filter(name: &str, kind: &str, mut config: Value) -> Value {
    if let Some(config) = config.as_object_mut() {
        config.insert("@type".to_owned(), json!(kind));
    }
    json!({ "name": format!("envoy.filters.http.{name}"), "typed_config": config })
}

fn manager(filters: &[Value]) -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "bench",
            "codec_type": "AUTO",
            "generate_request_id": false,
            "http_filters": filters,
            "route_config": { "virtual_hosts": [{
                "name": "bench",
                "domains": ["*"],
                "routes": [{
                    "match": { "prefix": "/" },
                    "route": { "cluster": "bench" },
                    "request_headers_to_add": [{
                        "header": { "key": "authorization",
                                    "value": upstream::basic_credential() },
                        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" }],
                }],
            }] },
        },
    })
}

fn tls(setup: &Setup<'_>) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": { "tls_minimum_protocol_version": "TLSv1_3" },
                "tls_certificates": [{
                    "certificate_chain": { "filename": setup.shared(CERTIFICATE) },
                    "private_key": { "filename": setup.shared(PRIVATE_KEY) },
                }],
            },
        },
    })
}

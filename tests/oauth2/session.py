"""Does a standard OAuth 2 library get, use, renew and end its tokens?

Walks through all grants with authlib, which finds the endpoints by the server's metadata. Prints
one JSON object per step, {"step": "...", ...}; a step that the server refuses prints
{"step": "...", "error": "invalid_grant"}, with the code that the library read. The exit code is 0
when all steps were taken.
"""

import argparse
import json

import requests
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session


def main() -> None:
    options = arguments()
    plain = alone(requests.Session(), options)
    address = f"{options.gate}/.well-known/oauth-authorization-server"
    metadata = plain.get(address, timeout=TIMEOUT_SECONDS).json()
    account(options, metadata)
    for method in ("client_secret_basic", "client_secret_post"):
        client(options, metadata, method)


def account(options: argparse.Namespace, metadata: dict) -> None:
    """A user's password, by a client that has but a name."""
    session = alone(OAuth2Session("console", token_endpoint_auth_method="none"), options)
    endpoint = metadata["token_endpoint"]
    for name, password in (("wrong password", "no"), ("password", options.password)):
        credentials = {"username": options.username, "password": password}
        step(name, lambda: session.fetch_token(endpoint, **credentials))
    use("access", session, options)
    step("refresh", lambda: session.refresh_token(endpoint))
    use("access after the refresh", session, options)
    last = dict(session.token)
    ended = session.revoke_token(
        metadata["revocation_endpoint"],
        token=last["refresh_token"],
        token_type_hint="refresh_token",
    )
    tell(step="revoke", status=ended.status_code)
    use("access after the end", session, options)
    step("refresh after the end", lambda: session.refresh_token(endpoint, last["refresh_token"]))


def client(options: argparse.Namespace, metadata: dict, method: str) -> None:
    """A machine's own credentials, in the way that `method` names."""
    session = OAuth2Session(
        options.username, options.password, scope="admin", token_endpoint_auth_method=method
    )
    alone(session, options)
    endpoint = metadata["token_endpoint"]
    step(method, lambda: session.fetch_token(endpoint, grant_type="client_credentials"))
    use(f"{method} access", session, options)
    if method == "client_secret_basic":
        answer = session.introspect_token(
            metadata["introspection_endpoint"], token=session.token["access_token"]
        )
        tell(step="introspect", status=answer.status_code, **answer.json())


def alone(session: requests.Session, options: argparse.Namespace) -> requests.Session:
    """The session without the proxies and certificates that the environment names."""
    session.trust_env = False
    session.verify = options.ca
    return session


def step(name: str, take) -> None:
    try:
        token = take()
    except OAuthError as error:
        tell(step=name, error=error.error)
        return
    # The library adds a field of its own.
    fields = sorted(set(token) - {"expires_at"})
    tell(step=name, fields=fields, scope=token.get("scope"))


def use(name: str, session: OAuth2Session, options: argparse.Namespace) -> None:
    answer = session.get(f"{options.gate}/api/x", timeout=TIMEOUT_SECONDS)
    tell(step=name, status=answer.status_code)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gate", required=True, help="such as https://127.0.0.1:8443")
    parser.add_argument("--ca", required=True, help="certificates to trust")
    parser.add_argument("--username", required=True)
    parser.add_argument("--password", required=True)
    return parser.parse_args()


def tell(**event) -> None:
    print(json.dumps(event), flush=True)


TIMEOUT_SECONDS = 30

if __name__ == "__main__":
    main()

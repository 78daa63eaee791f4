//! What can a newcomer try? Lines of curl that work when pasted, from login to echo.
//!
//! A line that starts with `#` explains; every other line is one command for a POSIX shell.

/// The banner for a gate and an admin listener, given as URLs without a slash at the end.
#[must_use]
pub fn lines(gate: &str, admin: &str) -> String {
    LINES.replace("{gate}", gate).replace("{admin}", admin)
}

const LINES: &str = r##"# Tollgate's demo: the gate stands before a legacy service that knows only Basic auth.
#   gate   {gate}   (self-signed certificate, hence curl -k)
#   admin  {admin}   (a page for operators)
#   user   root, password memphis
# Paste line by line, or open {gate}/console in a browser; Ctrl-C ends it.

# Names used below.
GATE={gate} ADMIN={admin} JSON='Content-Type: application/json'

# Log in (Memphis) and keep both tokens.
LOGIN=$(curl -sk "$GATE/auth/authenticate" -H "$JSON" -d '{"username":"root","password":"memphis"}'); echo "$LOGIN"
TOKEN=$(echo "$LOGIN" | sed -n 's/.*"jwt":"\([^"]*\)".*/\1/p') REFRESH=$(echo "$LOGIN" | sed -n 's/.*"jwt_refresh_token":"\([^"]*\)".*/\1/p')
AUTH="Authorization: Bearer $TOKEN"

# Produce one message, then two; then one with the token in the URL; then see what arrived.
curl -sk -w ' [%{http_code}]\n' "$GATE/stations/demo/produce/single" -H "$AUTH" -H 'Content-Type: text/plain' -d 'hello'
curl -sk -w ' [%{http_code}]\n' "$GATE/stations/demo/produce/batch" -H "$AUTH" -H "$JSON" -d '[{"n":1},{"n":2}]'
curl -sk -w ' [%{http_code}]\n' "$GATE/stations/demo/produce/single?authorization=$TOKEN" -H 'Content-Type: text/plain' -d 'hello by URL'
curl -sk -w ' [%{http_code}]\n' "$GATE/stations/demo/messages" -H "$AUTH"

# No token, no passage.
curl -sk -w ' [%{http_code}]\n' "$GATE/stations/demo/produce/single" -H 'Content-Type: text/plain' -d 'let me in'

# A new pair of tokens for the refresh token.
curl -sk -w ' [%{http_code}]\n' "$GATE/auth/refreshToken" -H "$JSON" -d "{\"jwt_refresh_token\":\"$REFRESH\"}"

# A client of STS-MQTT: create, list, read, update, delete.
RECORD=$(curl -sk "$GATE/api/client" -H "$AUTH" -H "$JSON" -d '{"name":"lamp","clientId":"lamp-1","key":"k"}'); echo "$RECORD"
CLIENT=$(echo "$RECORD" | sed -n 's/.*"id":"\([^"]*\)".*/\1/p')
curl -sk -w ' [%{http_code}]\n' "$GATE/api/client" -H "$AUTH"
curl -sk -w ' [%{http_code}]\n' "$GATE/api/client/$CLIENT" -H "$AUTH"
curl -sk -w ' [%{http_code}]\n' "$GATE/api/client/$CLIENT" -H "$AUTH" -H "$JSON" -X PUT -d '{"description":"in the hall"}'
curl -sk -w ' [%{http_code}]\n' "$GATE/api/client/$CLIENT" -H "$AUTH" -X DELETE

# The same as its clients do it: Basic on every request.
curl -sk -w ' [%{http_code}]\n' "$GATE/api/client" -u root:memphis

# For clients that can use nothing but a URL: a ticket, good once and for 30 seconds.
TICKET=$(curl -sk "$GATE/ticket" -H "$AUTH" -X POST | sed -n 's/.*"ticket":"\([^"]*\)".*/\1/p')
curl -sk -w ' [%{http_code}]\n' "$GATE/stations/demo/messages?ticket=$TICKET"
curl -sk -w ' [%{http_code}]\n' "$GATE/stations/demo/messages?ticket=$TICKET"

# What a browser does: it is sent to the login page, its form sets a cookie, and the cookie lets it in.
curl -sk -o /dev/null -w '%{redirect_url} [%{http_code}]\n' "$GATE/console" -H 'Accept: text/html'
JAR=$(mktemp)
FORM=$(curl -sk -c "$JAR" "$GATE/login?return=/console" | sed -n 's/.*name="form" value="\([^"]*\)".*/\1/p')
curl -sk -b "$JAR" -c "$JAR" -o /dev/null -w '%{redirect_url} [%{http_code}]\n' "$GATE/login" -H "Origin: $GATE" --data-urlencode "form=$FORM" -d return=/console -d username=root -d password=memphis
curl -sk -b "$JAR" -w ' [%{http_code}]\n' "$GATE/console"; rm "$JAR"

# A WebSocket, the token in its URL as a browser would do it: it echoes hello and closes.
curl -sk -iN --http1.1 --max-time 5 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' "$GATE/ws/echo?message=hello&authorization=$TOKEN" | LC_ALL=C tr -cd '[:print:]\n'; echo

# The same, the token among the subprotocols that the browser offers: it goes no further.
curl -sk -iN --http1.1 --max-time 5 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' -H "Sec-WebSocket-Protocol: bearer.$TOKEN, mqtt" "$GATE/ws/echo?message=hello" | LC_ALL=C tr -cd '[:print:]\n'; echo

# The same user in other systems' dialects: OAuth 2, datarhei Core, Jmvstream, EMnify (SHA-1 of the password).
curl -sk -o /dev/null -w 'oauth2 [%{http_code}]\n' "$GATE/oauth2/token" -u root:memphis -d grant_type=client_credentials
curl -sk -w ' [%{http_code}]\n' "$GATE/api"
curl -sk -o /dev/null -w 'datarhei [%{http_code}]\n' "$GATE/api/login" -H "$JSON" -d '{"username":"root","password":"memphis"}'
curl -sk -o /dev/null -w 'jmvstream [%{http_code}]\n' "$GATE/v1/authenticate" -H "$JSON" -d '{"email":"root@example.com","password":"memphis","resource":"7f9c24e5-2c31-4f0a-9d0b-5b0f6f1f6a11"}'
curl -sk -o /dev/null -w 'emnify [%{http_code}]\n' "$GATE/api/v1/authenticate" -H "$JSON" -d "{\"username\":\"root\",\"password\":\"$(printf memphis | sha1sum | cut -c1-40)\"}"

# An application token (EMnify): made by who is logged in, and logged in with.
EMNIFY=$(curl -sk "$GATE/api/v1/authenticate" -H "$JSON" -d '{"username":"root@example.com","password":"memphis"}' | sed -n 's/.*"auth_token":"\([^"]*\)".*/\1/p')
APPLICATION=$(curl -sk "$GATE/api/v1/application_token" -H "Authorization: Bearer $EMNIFY" -H "$JSON" -d '{"description":"nightly job"}' | sed -n 's/.*"application_token":"\([^"]*\)".*/\1/p')
curl -sk -w ' [%{http_code}]\n' "$GATE/api/v1/application_token" -H "Authorization: Bearer $EMNIFY"
curl -sk -o /dev/null -w 'application token [%{http_code}]\n' "$GATE/api/v1/authenticate" -H "$JSON" -d "{\"application_token\":\"$APPLICATION\"}"

# What the legacy service sees of a request: its own login, never the token.
curl -sk -w ' [%{http_code}]\n' "$GATE/headers" -H "$AUTH"

# What the gate counted.
curl -s "$ADMIN/metrics" | grep '^tollgate_requests_total'

"##;

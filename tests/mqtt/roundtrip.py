"""Does a real MQTT client get its own message back, over a WebSocket or over MQTT itself?

Connects, subscribes, publishes, and waits for what it published. Prints one JSON object per
event, and ends at the first that ends the story:

    {"event": "refused", "by": "handshake"}  there was no WebSocket
    {"event": "refused", "by": "broker"}     there was one, but the broker said no to CONNECT
    {"event": "message", "payload": "..."}   the message came back
    {"event": "disconnected", "at": 1.5}     with --stay: the connection was ended, at that Unix time

With --mqtt the events "refused" (by the broker) and "disconnected" also have the "code" that the
client was given.

The exit code is 0 when the story ended by itself, 1 when the deadline did it.
"""

import argparse
import json
import queue
import ssl
import sys
import threading
import time

import paho.mqtt.client as mqtt

DEADLINE_SECONDS = 30


def main() -> int:
    options = arguments()
    events: queue.Queue = queue.Queue()
    client = connected(options, events)
    if client is None:
        tell(event="refused", by="handshake")
        return 0
    client.loop_start()
    try:
        return story(options, events)
    except queue.Empty:
        tell(event="deadline")
        return 1
    finally:
        client.disconnect()
        client.loop_stop()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", help="of the WebSocket; without it MQTT goes over plain TCP")
    parser.add_argument("--token", help="to be offered among the WebSocket's subprotocols")
    parser.add_argument("--ca", help="certificates to trust; without it there is no TLS")
    parser.add_argument("--username", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--payload", required=True)
    parser.add_argument("--mqtt", type=int, choices=[3, 4, 5], help="the level of the protocol")
    parser.add_argument("--client-id", default="")
    parser.add_argument("--stay", action="store_true", help="wait for the end of the connection")
    return parser.parse_args()


def connected(options: argparse.Namespace, events: queue.Queue) -> mqtt.Client | None:
    """A client whose WebSocket stands and whose CONNECT is under way, or None."""
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=options.client_id,
        protocol=options.mqtt or mqtt.MQTTv311,
        transport="websockets" if options.path else "tcp",
        reconnect_on_failure=False,
    )
    if options.path:
        headers = None
        if options.token:
            headers = {"Sec-Websocket-Protocol": f"bearer.{options.token}, mqtt"}
        client.ws_set_options(path=options.path, headers=headers)
    if options.ca:
        client.tls_set(ca_certs=options.ca, cert_reqs=ssl.CERT_REQUIRED)
    client.username_pw_set(options.username, options.password)

    accepted = threading.Event()
    refused: list = []

    def code(reason) -> dict:
        return {"code": reason.value} if options.mqtt else {}

    def on_connect(client, _userdata, _flags, reason, _properties):
        # A refused client is always disconnected too, and by some brokers without a reason.
        if not reason.is_failure:
            accepted.set()
            client.subscribe(options.topic, qos=1)
        else:
            refused.append(reason)

    def on_subscribe(client, _userdata, _message, reasons, _properties):
        if any(reason.is_failure for reason in reasons):
            events.put({"event": "refused", "by": "subscription", **code(reasons[0])})
            return
        client.publish(options.topic, options.payload, qos=1)

    def on_message(_client, _userdata, message):
        events.put({"event": "message", "payload": message.payload.decode()})

    def on_disconnect(_client, _userdata, _flags, reason, _properties):
        if accepted.is_set():
            events.put({"event": "disconnected", "at": time.time(), **code(reason)})
        else:
            events.put({"event": "refused", "by": "broker", **code((refused or [reason])[0])})

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    client.on_disconnect = on_disconnect
    try:
        client.connect("127.0.0.1", options.port, keepalive=60)
    except mqtt.WebsocketConnectionError:
        return None
    return client


def story(options: argparse.Namespace, events: queue.Queue) -> int:
    """Tells the events until one of them ends the story."""
    last = "disconnected" if options.stay else "message"
    while True:
        event = events.get(timeout=DEADLINE_SECONDS)
        tell(**event)
        if event["event"] in (last, "refused", "disconnected"):
            return 0


def tell(**event) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    sys.exit(main())

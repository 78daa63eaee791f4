// Does MQTT.js get its own message back? Prints one JSON object for the event that ends the story:
//
//     {"event": "message", "payload": "..."}   the message came back
//     {"event": "refused", "code": 4}          CONNACK had this code
//     {"event": "failed", "message": "..."}    there was no connection
//
// usage: node roundtrip.mjs URL LEVEL PASSWORD TOPIC [CA]
//
// It is run in the folder into which MQTT.js is installed.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const mqtt = createRequire(`${process.cwd()}/`)("mqtt");
const [url, level, password, topic, ca] = process.argv.slice(2);

const client = mqtt.connect(url, {
  protocolVersion: Number(level),
  protocolId: level === "3" ? "MQIsdp" : "MQTT",
  username: "anybody",
  password,
  ca: ca && readFileSync(ca),
  reconnectPeriod: 0,
  connectTimeout: 20_000,
});

const tell = (event) => {
  console.log(JSON.stringify(event));
  client.end(true, () => process.exit(0));
};

client.on("connect", () => {
  client.subscribe(topic, { qos: 1 }, (error) => {
    if (error) tell({ event: "refused", code: error.code });
    else client.publish(topic, topic, { qos: 1 });
  });
});
client.on("message", (_topic, payload) => tell({ event: "message", payload: payload.toString() }));
client.on("error", (error) => {
  if (typeof error.code === "number") tell({ event: "refused", code: error.code });
  else tell({ event: "failed", message: error.message });
});

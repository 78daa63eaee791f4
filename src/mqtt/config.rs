//! What does the config say about MQTT?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::value::{Size, Span};

/// What is spoken on a listener, or on a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Spoken {
    /// HTTP.
    #[default]
    Http,
    /// MQTT 3.1, 3.1.1 and 5.0.
    Mqtt,
}

/// What a session of MQTT may do. In each text `{sub}` stands for the token's subject and
/// `{claim:NAME}` for a value of this claim; a value that is empty, begins with `$` or has a `/`,
/// `+`, `#`, `*`, `>` or control character in it never fits.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MqttConfig {
    /// What the client identifier must be, such as `{sub}/*`; `*` stands for any text. A claim is
    /// best followed by a character that none of its values has, as `/`. Default: any.
    pub client_id: Option<String>,
    /// The topic filters within which messages may be published, the will included. Default: any
    /// topic; `[]`: none.
    pub publish: Option<Vec<String>>,
    /// The topic filters within which may be subscribed. What a client asks for must lie within one
    /// of them as a whole. Default: any; `[]`: none.
    pub subscribe: Option<Vec<String>>,
    /// Whether the user name in CONNECT must be the token's subject. Default: it is not looked at.
    pub username_is_subject: bool,
    /// Whether the broker makes routing keys of AMQP of topics, as RabbitMQ does: `.` is then a `/`
    /// to it and `*` a `+`. Topics and filters are judged so, and a claim that holds `.` fits no
    /// topic.
    pub amqp_topics: bool,
    /// Lets `subscribe` name claims while `client_id` names none. What a client subscribes to stays
    /// in its session, and whoever connects by its client identifier takes the session over: fine
    /// only where the broker keeps none.
    pub danger_any_client_id: bool,
}

/// Bounds on what clients of MQTT may take.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MqttLimits {
    /// How long CONNECT may take, once the connection stands.
    pub connect_timeout: Span,
    /// The largest CONNECT, with its token and its will.
    pub connect_size: Size,
    /// The largest packet that a client may send after CONNECT.
    pub packet_size: Size,
    /// The most sessions at once of one subject, over all workers of this gate. Default: `0`, any
    /// number.
    pub sessions_per_subject: usize,
}

impl Default for MqttLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Span::seconds(10),
            connect_size: Size(64 * 1024),
            packet_size: Size(1024 * 1024),
            sessions_per_subject: 0,
        }
    }
}

impl MqttLimits {
    /// The bounds that would keep everybody out, each with its key.
    pub(crate) fn is_zero(&self) -> [(&'static str, bool); 3] {
        [
            ("mqtt.connect_timeout", self.connect_timeout.0.is_zero()),
            ("mqtt.connect_size", self.connect_size.0 == 0),
            ("mqtt.packet_size", self.packet_size.0 == 0),
        ]
    }
}

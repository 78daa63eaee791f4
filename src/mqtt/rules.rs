//! May this principal connect as this client, and publish and subscribe there?

use std::collections::HashSet;

use mqtt_proto::{QosPid, v3, v5};

use super::Version;
use super::answer::{Goodbye, refuse_filters, refuse_message};
use super::config::MqttConfig;
use super::connect::Connect;
use super::packet::{Header, kind};
use super::pattern::{Filter, Glob, Levels, Template, check_filter, text, unshared};
use crate::config::problem::Problems;
use crate::refusal::Reason;
use crate::token::verify::VerifiedToken;

/// A route's rules, ready for use.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    client_id: Option<Template>,
    publish: Option<Vec<Template>>,
    subscribe: Option<Vec<Template>>,
    username_is_subject: bool,
    levels: Levels,
}

impl MqttConfig {
    /// Reads all patterns; notes every problem.
    pub(crate) fn build(&self, at: &str, problems: &mut Problems) -> Rules {
        let client_id = self.client_id.as_ref().and_then(|text| {
            let template = Template::parse(text);
            problems.take(format_args!("{at}.client_id"), template)
        });
        let mut filters = |key: &str, texts: &Option<Vec<String>>| {
            let texts = texts.as_ref()?.iter().enumerate();
            let templates = texts.filter_map(|(index, text)| {
                let template = check_filter(text).and_then(|()| Template::parse(text));
                problems.take(format_args!("{at}.{key}[{index}]"), template)
            });
            Some(templates.collect())
        };
        let rules = Rules {
            publish: filters("publish", &self.publish),
            subscribe: filters("subscribe", &self.subscribe),
            client_id,
            username_is_subject: self.username_is_subject,
            levels: match self.amqp_topics {
                true => Levels::Words,
                false => Levels::Slashes,
            },
        };
        let has_claim =
            |templates: &[Template]| templates.iter().any(|it| it.claims().next().is_some());
        // One that cannot be read is told already.
        let is_fixed = match &rules.client_id {
            None => self.client_id.is_none(),
            Some(template) => !has_claim(std::slice::from_ref(template)),
        };
        let are_own = rules.subscribe.as_deref().is_some_and(has_claim);
        if are_own && is_fixed && !self.danger_any_client_id {
            problems.add(format_args!("{at}.client_id"), OPEN_TO_ALL);
        }
        rules
    }
}

const OPEN_TO_ALL: &str = "must name a claim where `subscribe` does, such as `{sub}/*`: whoever connects by another's client identifier takes over its session, with all that it has subscribed to; say `danger_any_client_id: true` if the broker keeps no sessions";

impl Rules {
    /// The claims that they ask for.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &String> {
        let filters = [&self.publish, &self.subscribe].into_iter().flatten();
        let templates = self.client_id.iter().chain(filters.flatten());
        templates.flat_map(Template::claims)
    }

    /// Judges a CONNECT; with the rules for what follows, if there are any.
    ///
    /// # Errors
    /// [`Reason::ClientIdNotAllowed`], [`Reason::TopicNotAllowed`] for its will's topic,
    /// [`Reason::BadCredentials`] for a user name that is not the subject.
    pub(crate) fn judge(
        &self,
        connect: &Connect,
        principal: &VerifiedToken,
    ) -> Result<Option<Topics>, Reason> {
        self.judge_client_id(connect.client_id(), principal)?;
        let is_subject = connect.username() == Some(principal.subject());
        if self.username_is_subject && !is_subject {
            return Err(Reason::BadCredentials);
        }
        if self.publish.is_none() && self.subscribe.is_none() {
            return Ok(None);
        }
        let read = |templates: &Option<Vec<Template>>| {
            let templates = templates.as_ref()?.iter();
            let readings = templates.flat_map(|template| template.readings(principal, self.levels));
            let filters = readings.map(|reading| Filter::new(&reading, self.levels));
            Some(filters.collect())
        };
        let (publish, subscribe) = (read(&self.publish), read(&self.subscribe));
        let topics = Topics {
            levels: self.levels,
            ..Topics::new(connect.version(), publish, subscribe)
        };
        let will = connect.will_topic();
        if will.is_some_and(|topic| !topics.may_publish(topic)) {
            return Err(Reason::TopicNotAllowed);
        }
        Ok(Some(topics))
    }
}

impl Rules {
    fn judge_client_id(&self, id: &str, principal: &VerifiedToken) -> Result<(), Reason> {
        let Some(template) = &self.client_id else {
            return Ok(());
        };
        let readings = template.readings(principal, Levels::Slashes);
        let mut readings = readings.into_iter();
        match readings.any(|reading| Glob::new(reading).fits(id)) {
            true => Ok(()),
            false => Err(Reason::ClientIdNotAllowed),
        }
    }

    /// What a session of this principal's may do, without a CONNECT.
    ///
    /// # Errors
    /// [`Reason::ClientIdNotAllowed`] for a client identifier that is not allowed, or if none is
    /// named and none would be.
    pub(crate) fn foresee(
        &self,
        principal: &VerifiedToken,
        client_id: Option<&str>,
    ) -> Result<Allowed, Reason> {
        let read = |templates: &[Template], levels| {
            let readings = templates
                .iter()
                .flat_map(|it| it.readings(principal, levels));
            Vec::from_iter(readings.map(|reading| text(&reading)))
        };
        let ids = self.client_id.as_ref().map(std::slice::from_ref);
        let ids = ids.map(|ids| read(ids, Levels::Slashes));
        match client_id {
            Some(id) => self.judge_client_id(id, principal)?,
            None if ids.as_ref().is_some_and(Vec::is_empty) => {
                return Err(Reason::ClientIdNotAllowed);
            }
            None => {}
        }
        Ok(Allowed {
            client_id: ids,
            publish: self.publish.as_deref().map(|held| read(held, self.levels)),
            subscribe: self
                .subscribe
                .as_deref()
                .map(|held| read(held, self.levels)),
            is_name_subject: self.username_is_subject,
        })
    }
}

/// What a session may do, in the config's words with the claims put in. Without a list, anything.
#[derive(Clone, Debug)]
pub(crate) struct Allowed {
    /// What the client identifier is to be.
    pub(crate) client_id: Option<Vec<String>>,
    /// The filters within which it may publish.
    pub(crate) publish: Option<Vec<String>>,
    /// The filters within which it may subscribe.
    pub(crate) subscribe: Option<Vec<String>>,
    /// Whether the user name must be the subject.
    pub(crate) is_name_subject: bool,
}

/// What one session may do with topics.
#[derive(Debug)]
pub(crate) struct Topics {
    version: Version,
    publish: Option<Vec<Filter>>,
    subscribe: Option<Vec<Filter>>,
    /// Topic aliases that stand for topics which were allowed.
    aliases: HashSet<u16>,
    levels: Levels,
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes on.
    Pass,
    /// It does not; the client gets this instead.
    Answer(Denied, Vec<u8>),
    /// It does not, and the session ends.
    End(Option<Denied>, Goodbye),
}

/// What was not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Publish,
    Subscribe,
}

impl Denied {
    /// The label in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }
}

impl Topics {
    /// Within these filters; without a list, anywhere.
    pub(crate) fn new(
        version: Version,
        publish: Option<Vec<Filter>>,
        subscribe: Option<Vec<Filter>>,
    ) -> Self {
        Self {
            version,
            publish,
            subscribe,
            aliases: HashSet::new(),
            levels: Levels::Slashes,
        }
    }

    /// Judges a whole packet of the client's.
    pub(crate) fn judge(&mut self, packet: &[u8], header: Header) -> Verdict {
        let verdict = match header.kind() {
            kind::PUBLISH => self.judge_publish(packet, header),
            kind::SUBSCRIBE => self.judge_subscribe(packet, header),
            _ => Some(Verdict::Pass),
        };
        verdict.unwrap_or(Verdict::End(None, Goodbye::ProtocolError))
    }

    fn may_publish(&self, topic: &str) -> bool {
        let (allowed, topic) = (self.publish.as_ref(), self.levels.of(topic));
        allowed.is_none_or(|allowed| allowed.iter().any(|filter| filter.holds(&topic)))
    }

    fn may_subscribe(&self, filter: &str) -> bool {
        let Some(allowed) = &self.subscribe else {
            return true;
        };
        let Some(asked) = unshared(filter) else {
            return false;
        };
        let asked = self.levels.of(asked);
        allowed.iter().any(|filter| filter.holds(&asked))
    }

    /// Nothing for a packet that breaks the protocol.
    fn judge_publish(&mut self, packet: &[u8], header: Header) -> Option<Verdict> {
        let body = packet.get(header.size..)?;
        let (whole, remaining) = (u32::try_from(packet.len()).ok()?, header.remaining);
        let remaining = u32::try_from(remaining).ok()?;
        let mut end = 0;
        let (topic, quality, alias) = match self.version {
            Version::V31 | Version::V311 => {
                let header = v3::Header::new_with(header.first, remaining, whole).ok()?;
                let message = v3::Publish::decode(body, &mut end, header).ok()?;
                (message.topic_name, message.qos_pid, None)
            }
            Version::V5 => {
                let header = v5::Header::new_with(header.first, remaining, whole).ok()?;
                let message = v5::Publish::decode(body, &mut end, header).ok()?;
                let alias = message.properties.topic_alias;
                (message.topic_name, message.qos_pid, alias)
            }
        };
        if end != body.len() || topic.contains('\0') || alias == Some(0) {
            return None;
        }
        let is_allowed = match (topic.is_empty(), alias) {
            // One that was never allowed stands for nothing.
            (true, alias) => self.aliases.contains(&alias?),
            (false, alias) => {
                let is_allowed = self.may_publish(&topic);
                if let Some(alias) = alias {
                    match is_allowed {
                        true => self.aliases.insert(alias),
                        false => self.aliases.remove(&alias),
                    };
                }
                is_allowed
            }
        };
        Some(match is_allowed {
            true => Verdict::Pass,
            false => self.deny_message(quality),
        })
    }

    /// Only 5.0 can say no to a message (3.1.1: MQTT-3.3.5-2), and only to one that is acknowledged.
    fn deny_message(&self, quality: QosPid) -> Verdict {
        let answer = |kind, id: mqtt_proto::Pid| {
            let answer = refuse_message(kind, id.value().to_be_bytes());
            Verdict::Answer(Denied::Publish, answer)
        };
        match (self.version, quality) {
            (Version::V5, QosPid::Level1(id)) => answer(kind::PUBACK, id),
            (Version::V5, QosPid::Level2(id)) => answer(kind::PUBREC, id),
            _ => Verdict::End(Some(Denied::Publish), Goodbye::NotAuthorized),
        }
    }

    fn judge_subscribe(&self, packet: &[u8], header: Header) -> Option<Verdict> {
        let body = packet.get(header.size..)?;
        let (whole, remaining) = (u32::try_from(packet.len()).ok()?, header.remaining);
        let remaining = u32::try_from(remaining).ok()?;
        let mut end = 0;
        let (id, count, is_allowed) = match self.version {
            Version::V31 | Version::V311 => {
                let header = v3::Header::new_with(header.first, remaining, whole).ok()?;
                let asked = v3::Subscribe::decode(body, &mut end, header).ok()?;
                let mut filters = asked.topics.iter();
                let is_allowed = filters.all(|(filter, _)| self.may_subscribe(filter));
                (asked.pid, asked.topics.len(), is_allowed)
            }
            Version::V5 => {
                let header = v5::Header::new_with(header.first, remaining, whole).ok()?;
                let asked = v5::Subscribe::decode(body, &mut end, header).ok()?;
                let mut filters = asked.topics.iter();
                let is_allowed = filters.all(|(filter, _)| self.may_subscribe(filter));
                (asked.pid, asked.topics.len(), is_allowed)
            }
        };
        if end != body.len() {
            return None;
        }
        if is_allowed {
            return Some(Verdict::Pass);
        }
        let answer = refuse_filters(self.version, id.value().to_be_bytes(), count);
        Some(answer.map_or(
            Verdict::End(Some(Denied::Subscribe), Goodbye::NotAuthorized),
            |answer| Verdict::Answer(Denied::Subscribe, answer),
        ))
    }
}

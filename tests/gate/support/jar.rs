//! A browser, as far as its cookies and forms go.

use std::collections::BTreeMap;

use super::client::Response;
use super::gate::Gate;

/// What a browser keeps, and where it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jar(pub(crate) BTreeMap<String, String>);

/// How a browser asks for a page that its user wants to see.
pub(crate) const NAVIGATION: &str = "accept: text/html,application/xhtml+xml,*/*;q=0.8\r\nsec-fetch-site: none\r\nsec-fetch-mode: navigate\r\n";
/// How it sends a form of the site's own page.
pub(crate) const FORM: &str = "accept: text/html\r\norigin: http://gate.example\r\nsec-fetch-site: same-origin\r\nsec-fetch-mode: navigate\r\ncontent-type: application/x-www-form-urlencoded\r\n";

impl Jar {
    /// The `Cookie` line.
    pub(crate) fn line(&self) -> String {
        let pairs = self.0.iter().map(|(name, value)| format!("{name}={value}"));
        let pairs = Vec::from_iter(pairs).join("; ");
        match pairs.is_empty() {
            true => String::new(),
            false => format!("cookie: {pairs}\r\n"),
        }
    }

    /// Asks with these headers and the cookies, and keeps what is set.
    pub(crate) fn ask(&mut self, gate: &Gate, method: &str, target: &str, more: &str) -> Response {
        let response = gate.request(method, target, &format!("{}{more}", self.line()));
        self.keep(&response);
        response
    }

    /// Follows a link or types an address.
    pub(crate) fn open(&mut self, gate: &Gate, target: &str) -> Response {
        self.ask(gate, "GET", target, NAVIGATION)
    }

    /// Sends a form with these headers.
    pub(crate) fn send_as(
        &mut self,
        gate: &Gate,
        target: &str,
        headers: &str,
        fields: &[(&str, &str)],
    ) -> Response {
        let body = encode(fields);
        let more = format!("{headers}content-length: {}\r\n\r\n{body}", body.len());
        let request = format!(
            "POST {target} HTTP/1.1\r\nhost: gate.example\r\n{}{more}",
            self.line()
        );
        let response = gate.send(request);
        self.keep(&response);
        response
    }

    /// Sends a form of the gate's own page.
    pub(crate) fn send(&mut self, gate: &Gate, target: &str, fields: &[(&str, &str)]) -> Response {
        self.send_as(gate, target, FORM, fields)
    }

    /// Opens the login page, fills it in and sends it.
    pub(crate) fn log_in(&mut self, gate: &Gate, name: &str, password: &str) -> Response {
        let page = self.open(gate, "/login?return=%2Fui%2F").text();
        let proof = hidden(&page, "form");
        let fields = [
            ("form", &*proof),
            ("return", "/ui/"),
            ("username", name),
            ("password", password),
        ];
        self.send(gate, "/login", &fields)
    }

    fn keep(&mut self, response: &Response) {
        for cookie in set_cookies(response) {
            let (pair, attributes) = cookie.split_once("; ").unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            match attributes.contains("Max-Age=0") {
                true => self.0.remove(name),
                false => self.0.insert(name.to_owned(), value.to_owned()),
            };
        }
    }
}

/// Every `Set-Cookie` of an answer.
pub(crate) fn set_cookies(response: &Response) -> impl Iterator<Item = &str> {
    let headers = response.headers.iter();
    let set = headers.filter(|(name, _)| name == "set-cookie");
    set.map(|(_, value)| value.as_str())
}

/// The value of a hidden field.
pub(crate) fn hidden(page: &str, name: &str) -> String {
    let start = format!("name=\"{name}\" value=\"");
    let after = page
        .split_once(&start)
        .unwrap_or_else(|| panic!("no field {name}: {page}"))
        .1;
    after.split('"').next().unwrap().to_owned()
}

/// Fields as a form sends them.
pub(crate) fn encode(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        text.bytes()
            .map(|byte| match byte.is_ascii_alphanumeric() {
                true => char::from(byte).to_string(),
                false => format!("%{byte:02X}"),
            })
            .collect::<String>()
    };
    let pairs = fields.iter();
    let pairs = pairs.map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    Vec::from_iter(pairs).join("&")
}

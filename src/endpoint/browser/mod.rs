//! The pages of a log-in in a browser, and what their forms do.

mod flow;
mod way;

use bytes::Bytes;
use http::header::{LOCATION, SET_COOKIE};
use http::{HeaderValue, Response, StatusCode, request};
use subtle::ConstantTimeEq as _;

use super::{Surroundings, authenticate, body, session};
use crate::config::secret::Secret;
use crate::cookie;
use crate::dialect::Mount;
use crate::dialect::browser::Step;
use crate::dialect::wire::Fields;
use crate::identity::{Attempt, Principal, SecretKind, issuer_of};
use crate::page::{self, Login, field};
use crate::refusal::{Detail, Reason, Refusal};
use crate::same_site;
use crate::token::issue::random_id;
use crate::token::issuer::Issuer;
use crate::upstream::body::RequestBody;
use way::Way;

/// Answers a step of a browser's.
///
/// # Errors
/// What the browser is then told on a page.
pub(super) async fn answer(
    around: &Surroundings<'_>,
    mount: &Mount,
    step: Step,
    head: &request::Parts,
    body: RequestBody,
) -> Result<Response<Bytes>, Refusal> {
    let visit = Visit {
        around,
        mount,
        head,
    };
    match step {
        Step::LoginPage => visit.show_login().await,
        Step::LogoutPage => visit.show_logout(StatusCode::OK, None).await,
        Step::LoginForm => {
            let form = visit.form(body).await?;
            let outcome = visit.log_in(&form).await;
            let refused = outcome.as_ref().err().map(|refusal| refusal.reason);
            around.metrics.login(mount.dialect.name(), refused);
            outcome.or_else(|refusal| visit.show_again(&form, refusal))
        }
        Step::LogoutForm => {
            let form = visit.form(body).await?;
            match visit.log_out(&form).await {
                Err(refusal) if refusal.reason == Reason::CrossSite => {
                    visit.ask_again(refusal).await
                }
                outcome => outcome,
            }
        }
        // Another site's page could end a session here by one that its user never asked for: an
        // issuer that knows the browser asks nobody.
        Step::Begin if same_site::is_from_elsewhere(head) => visit.show_login().await,
        Step::Begin => flow::begin(&visit).await,
        Step::Callback => {
            let outcome = flow::finish(&visit).await;
            let refused = outcome.as_ref().err().map(|refusal| refusal.reason);
            around.metrics.login(mount.dialect.name(), refused);
            outcome
        }
    }
}

/// One request of a browser.
#[derive(Clone, Copy)]
struct Visit<'a> {
    around: &'a Surroundings<'a>,
    mount: &'a Mount,
    head: &'a request::Parts,
}

/// What a form sends.
struct Form {
    proof: Secret<String>,
    name: String,
    password: Secret<String>,
    then: Way,
}

impl Visit<'_> {
    async fn show_login(&self) -> Result<Response<Bytes>, Refusal> {
        let then = Way::asked_for(self.head.uri.query());
        let session = session::known(self.around, self.head).await;
        let subject = session.as_ref().map(|session| session.subject());
        let login = Login {
            subject,
            ..self.login(&then)
        };
        self.with_form(|form| page::login(StatusCode::OK, &Login { form, ..login }))
    }

    /// The page again, with what went wrong.
    fn show_again(&self, form: &Form, mut refusal: Refusal) -> Result<Response<Bytes>, Refusal> {
        let wait;
        let wrong = match (refusal.reason, &refusal.detail) {
            (Reason::BadCredentials, _) => "The name or the password is wrong.",
            (Reason::CrossSite, _) => NO_FORM_OF_OURS,
            (Reason::Throttled, Some(Detail::RetryAfter(seconds))) => {
                wait = format!("Too many attempts failed. Try again in {seconds} seconds.");
                &wait
            }
            (reason, _) => reason.text(),
        };
        let login = Login {
            wrong: Some(wrong),
            name: &form.name,
            ..self.login(&form.then)
        };
        let status = refusal.reason.status();
        let shown = self.with_form(|form| page::login(status, &Login { form, ..login }))?;
        refusal.page = Some(Box::new(shown));
        Err(refusal)
    }

    async fn show_logout(
        &self,
        status: StatusCode,
        wrong: Option<&str>,
    ) -> Result<Response<Bytes>, Refusal> {
        let session = session::known(self.around, self.head).await;
        let subject = session.as_ref().map(|session| session.subject());
        self.with_form(|form| page::logout(status, &self.mount.prefix, form, (subject, wrong)))
    }

    /// The page that asks whether to log out once more, since it was not this browser that said so.
    async fn ask_again(&self, mut refusal: Refusal) -> Result<Response<Bytes>, Refusal> {
        let status = refusal.reason.status();
        let shown = self.show_logout(status, Some(NO_FORM_OF_OURS)).await?;
        refusal.page = Some(Box::new(shown));
        Err(refusal)
    }

    fn login<'a>(&'a self, then: &'a Way) -> Login<'a> {
        let snapshot = self.around.snapshot;
        let issuers = snapshot.tokens.issuers.iter().enumerate();
        let issuers = issuers.filter_map(|(place, issuer)| Some((place, issuer.login_name()?)));
        Login {
            host: self.host(),
            prefix: &self.mount.prefix,
            then: then.as_str(),
            takes_passwords: snapshot.providers.know_passwords(),
            issuers: issuers.collect(),
            ..Login::default()
        }
    }

    fn host(&self) -> &str {
        let origin = self.around.origin.as_str();
        origin.split_once("://").map_or(origin, |(_, host)| host)
    }

    /// A page whose form carries the browser's proof, and the cookie for that if it has none yet.
    fn with_form(
        &self,
        page: impl FnOnce(&str) -> Response<Bytes>,
    ) -> Result<Response<Bytes>, Refusal> {
        if let Some(known) = cookie::only(&self.head.headers, cookie::FORM)
            && is_proof(known)
        {
            return Ok(page(known));
        }
        let proof = random_id()?;
        let mut response = page(&proof);
        // For as long as the browser runs: a page may stay open for long.
        add_cookie(
            &mut response,
            cookie::set_until_closed(cookie::FORM, &proof),
        );
        Ok(response)
    }

    async fn form(&self, body: RequestBody) -> Result<Form, Refusal> {
        let limits = &self.around.snapshot.limits;
        let body = body::collect(body, limits.login_body.bytes(), limits.login_timeout.0).await?;
        let fields =
            Fields::parse_form(self.head, body.expose()).ok_or(Reason::MalformedRequest)?;
        let text = |name| Ok::<_, Refusal>(fields.text(name)?.unwrap_or_default().to_owned());
        Ok(Form {
            proof: Secret::new(text(field::FORM)?),
            name: text(field::NAME)?,
            password: Secret::new(text(field::PASSWORD)?),
            then: Way::parse(&text(field::RETURN)?),
        })
    }

    /// Whether a form is one that the gate gave to this very browser: a page of another site
    /// cannot read the proof that it must repeat.
    fn check_form(&self, form: &Form) -> Result<(), Refusal> {
        let known = cookie::only(&self.head.headers, cookie::FORM).unwrap_or_default();
        let is_its_own = is_proof(known) && form.proof.is(known.as_bytes());
        match is_its_own && same_site::is_own(self.head, &self.around.origin) {
            true => Ok(()),
            false => Err(Reason::CrossSite.into()),
        }
    }

    async fn log_in(&self, form: &Form) -> Result<Response<Bytes>, Refusal> {
        self.check_form(form)?;
        let attempt = Attempt {
            identifier: form.name.clone(),
            secret: form.password.clone(),
            kind: SecretKind::Password,
            resource: None,
        };
        let principal = authenticate(self.around, &attempt).await?;
        self.let_in(principal, &form.then).await
    }

    async fn log_out(&self, form: &Form) -> Result<Response<Bytes>, Refusal> {
        self.check_form(form)?;
        let account = session::end(self.around, self.head).await?;
        let issuer = account.and_then(|account| {
            let issuers = &self.around.snapshot.tokens.issuers;
            issuers.find(issuer_of(&account)?)
        });
        let place = match issuer {
            Some(issuer) => issuer.end_session().await,
            None => None,
        };
        let name = issuer.and_then(Issuer::login_name);
        let elsewhere = name.zip(place.as_deref());
        let mut response = page::logged_out(&self.mount.prefix, elsewhere);
        add_cookie(&mut response, cookie::forget(cookie::SESSION));
        Ok(response)
    }

    /// Sets the cookie and sends the browser on its way. A session that it had before ends.
    async fn let_in(&self, principal: Principal, then: &Way) -> Result<Response<Bytes>, Refusal> {
        let lifetime = self.mount.lifetimes.refresh(None);
        let session = session::begin(self.around, self.mount, principal).await?;
        session::end(self.around, self.head).await?;
        let mut response = see_other(then.as_str());
        let cookie = cookie::set(cookie::SESSION, session.expose(), lifetime);
        add_cookie(&mut response, cookie);
        Ok(response)
    }
}

/// What is said of a form whose proof is not this browser's.
const NO_FORM_OF_OURS: &str =
    "The form was too old, or the browser takes no cookies from here. Try again.";

/// Whether a text could be a proof that the gate made.
fn is_proof(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.len() == PROOF && text.bytes().all(is_plain)
}

/// The length of what [`random_id`] makes.
const PROOF: usize = 22;

/// Sends a browser on, to ask by GET.
fn see_other(location: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let location = HeaderValue::from_str(location);
    let location = location.unwrap_or_else(|_| HeaderValue::from_static("/"));
    response.headers_mut().insert(LOCATION, location);
    response
}

fn add_cookie(response: &mut Response<Bytes>, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

/// Whether both are the same, in constant time for equal lengths.
fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

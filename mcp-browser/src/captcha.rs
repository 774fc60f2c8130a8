//! Captchas on pages: finding them, handing over answers, looking whether they were taken.

use std::time::Duration;

use bytes::Bytes;
use mcp_captcha::{Challenge, ImageChallenge, Kind, TokenChallenge, widget::WIDGETS};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Area, BrowserError, BrowserErrorKind, Mode, Screenshot, Session,
    page::{Page, Until},
    session::Rounds,
};

/// A captcha on a page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoundCaptcha {
    /// What it is.
    pub kind: Kind,
    /// The public key of the widget; empty for a picture.
    #[serde(default)]
    pub site_key: String,
    /// The page's address.
    #[serde(default)]
    pub page_url: String,
    /// No checkbox is shown.
    #[serde(default)]
    pub invisible: bool,
    /// The Enterprise edition.
    #[serde(default)]
    pub enterprise: bool,
    /// The action that the page names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// `data-s` or `data-cdata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The address of the frame that it is in, if not of the page itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_url: Option<String>,
    /// Turnstile on a challenge page: `chlPageData`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_data: Option<String>,
    /// For a picture: the selector of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// For a picture: the selector of the field for the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// What became of an answer that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CaptchaOutcome {
    /// The page has gone on: elsewhere, without the widget, or its callback was called and the answer stands.
    Accepted,
    /// The page has thrown the answer away.
    Rejected,
    /// The answer stands in the page, which has said nothing yet: it does so when its form is sent.
    Unknown,
}

/// Remembers the callbacks that pages pass to the vendors' `render`, where they do not name them in the markup.
pub(crate) const HOOK: &str = r"(() => {
  const kept = [];
  Object.defineProperty(window, Symbol.for('mcp-browser.captcha'), { value: kept });
  for (const name of ['turnstile', 'hcaptcha', 'grecaptcha']) {
    let held;
    const wrap = api => {
      if (!api || typeof api !== 'object' && typeof api !== 'function' || api.__wrapped) return api;
      for (const target of [api, api.enterprise]) {
        if (!target || typeof target.render !== 'function') continue;
        const render = target.render;
        target.render = function (element, options) { kept.push({ name, options: options || {} }); return render.apply(this, arguments); };
      }
      try { Object.defineProperty(api, '__wrapped', { value: true }) } catch {}
      return api;
    };
    try { Object.defineProperty(window, name, { configurable: true, get: () => wrap(held), set: value => { held = value } }) } catch {}
  }
})()";

/// Looks for widgets as the vendors document them, and for pictures beside a field that names a captcha.
const DETECT: &str = r"({ widgets, main }) => {
  const found = [], known = new Set();
  const roots = [document];
  for (let n = 0; n < roots.length && n < 200; n++) for (const host of roots[n].querySelectorAll('*')) if (host.shadowRoot) roots.push(host.shadowRoot);
  const all = selector => roots.flatMap(root => Array.from(root.querySelectorAll(selector)));
  const add = item => { const key = item.kind + item.site_key + (item.image || ''); if (!known.has(key) && found.length < 20) { known.add(key); found.push(item) } };
  const scripts = Array.from(document.scripts, script => script.src).filter(Boolean);
  const text = value => value ? String(value).slice(0, 4096) : null;
  const kept = window[Symbol.for('mcp-browser.captcha')] || [];
  for (const widget of widgets) {
    const own = scripts.filter(src => widget.scripts.some(start => src.replace(/^https?:\/\//, '').startsWith(start)));
    const enterprise = own.some(src => src.includes('enterprise.js'));
    if (widget.element) for (const element of all(widget.element)) {
      const data = element.dataset;
      add({ kind: widget.kind, site_key: text(data.sitekey), invisible: data.size === 'invisible', enterprise,
            action: text(data.action), data: text(data.s || data.cdata) });
    }
    for (const { name, options } of kept) if (name === widget.global && options.sitekey && widget.kind !== 'recaptcha_v3')
      add({ kind: widget.kind, site_key: text(options.sitekey), invisible: options.size === 'invisible', enterprise,
            action: text(options.action), data: text(options.cData || options.s), page_data: text(options.chlPageData) });
    for (const frame of all('iframe[src]')) {
      if (!widget.frames.some(part => frame.src.includes(part))) continue;
      const url = new URL(frame.src, location.href), hash = new URLSearchParams(url.hash.slice(1));
      let key = null;
      for (const name of widget.key_parameters) key = key || url.searchParams.get(name) || hash.get(name);
      if (!key && widget.kind === 'turnstile') key = (url.pathname.match(/\/(0x[0-9A-Za-z_-]{10,})\//) || [])[1];
      if (key) add({ kind: widget.kind, site_key: text(key), invisible: url.searchParams.get('size') === 'invisible', enterprise: frame.src.includes('/enterprise/') });
    }
    if (widget.kind === 'recaptcha_v3') for (const src of own) {
      const key = new URL(src).searchParams.get('render');
      if (key && !['explicit', 'onload'].includes(key)) add({ kind: widget.kind, site_key: text(key), enterprise });
    }
  }
  const named = 'input[name*=captcha i], input[id*=captcha i], input[placeholder*=captcha i]';
  const pictures = !main ? [] : document.querySelectorAll('img[src*=captcha i], img[id*=captcha i], img[class*=captcha i], img[alt*=captcha i]');
  for (const picture of pictures) {
    const area = picture.closest('form') || document;
    const field = Array.from(area.querySelectorAll(named)).find(field => ['text', ''].includes(field.getAttribute('type') || ''));
    if (!field) continue;
    const number = found.length;
    picture.setAttribute('data-mcp-captcha', 'image-' + number);
    field.setAttribute('data-mcp-captcha', 'field-' + number);
    add({ kind: 'image', site_key: '', image: `[data-mcp-captcha=image-${number}]`, field: `[data-mcp-captcha=field-${number}]` });
  }
  return found.map(item => ({ ...item, page_url: location.href }));
}";

/// Writes a token where the widget would, and calls whoever waits for it. Answers how many callbacks were called, and
/// whether the page had an element for the widget.
const SUBMIT: &str = r"({ widget, key, token }) => {
  const roots = [document];
  for (let n = 0; n < roots.length && n < 200; n++) for (const host of roots[n].querySelectorAll('*')) if (host.shadowRoot) roots.push(host.shadowRoot);
  const all = selector => roots.flatMap(root => Array.from(root.querySelectorAll(selector)));
  const shown = !!widget.element && all(widget.element).length > 0;
  const fields = [];
  for (const name of widget.fields) fields.push(...all(`[name='${name}'], #${name}`));
  if (!fields.length) {
    const form = (widget.element && all(widget.element)[0]?.closest('form')) || document.forms[0] || document.body;
    const field = document.createElement('textarea');
    field.name = widget.fields[0]; field.style.display = 'none';
    form.append(field); fields.push(field);
  }
  for (const field of fields) {
    field.value = token;
    for (const name of ['input', 'change']) field.dispatchEvent(new Event(name, { bubbles: true }));
  }
  const called = new Set();
  const call = back => {
    const run = typeof back === 'string' ? back.split('.').reduce((at, part) => at && at[part], window) : back;
    if (typeof run === 'function' && !called.has(run)) { called.add(run); setTimeout(() => run(token)); }
  };
  if (widget.element) for (const element of all(widget.element)) if (element.dataset.sitekey === key) call(element.dataset.callback);
  for (const { name, options } of window[Symbol.for('mcp-browser.captcha')] || []) if (name === widget.global) call(options.callback);
  const clients = window.___grecaptcha_cfg && window.___grecaptcha_cfg.clients;
  if (widget.global === 'grecaptcha' && clients) {
    const seen = new Set();
    const visit = (node, depth) => {
      if (!node || typeof node !== 'object' || depth > 5 || seen.has(node) || node instanceof Node) return;
      seen.add(node);
      for (const name of Object.keys(node)) { if (name === 'callback') call(node[name]); else visit(node[name], depth + 1); }
    };
    visit(clients, 0);
  }
  return [called.size, shown];
}";

/// Whether the widget holds an answer.
const ANSWERED: &str = r"fields => {
  const roots = [document];
  for (let n = 0; n < roots.length && n < 200; n++) for (const host of roots[n].querySelectorAll('*')) if (host.shadowRoot) roots.push(host.shadowRoot);
  return fields.some(name => roots.some(root => Array.from(root.querySelectorAll(`[name='${name}']`)).some(field => field.value)));
}";

/// The names of vendors whose widgets are on the page and cannot be dealt with here, by their scripts, frames and
/// elements.
const OTHERS: &str = r"() => {
  const signs = {
    'GeeTest': ['geetest.com', 'geevisit.com', '.geetest_captcha, .geetest_holder'],
    'Arkose Labs (FunCaptcha)': ['arkoselabs.com', 'funcaptcha.com', '#FunCaptcha, [data-pkey]'],
    'AWS WAF': ['awswaf.com', 'awswaf.com', 'awswaf-captcha'],
    'MTCaptcha': ['mtcaptcha.com', 'mtcaptcha.com', '.mtcaptcha'],
    'DataDome': ['captcha-delivery.com', 'datadome.co', '#datadome-captcha'],
    'Friendly Captcha': ['friendly-challenge', 'friendlycaptcha.com', '.frc-captcha'],
    'Cloudflare challenge page': ['/cdn-cgi/challenge-platform/h/', '/cdn-cgi/challenge-platform/h/', '#challenge-form, #challenge-running'],
  };
  const sources = [...document.querySelectorAll('script[src], iframe[src]')].map(node => node.src);
  return Object.entries(signs).filter(([, [a, b, element]]) =>
    sources.some(src => src.includes(a) || src.includes(b)) || document.querySelector(element)).map(([name]) => name);
}";

/// How many frames are looked into.
const FRAMES: usize = 20;

impl Session {
    /// Whether it has a window.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.0.options.mode
    }

    /// Finds the captchas on the page: widgets as their vendors document them, pictures beside a field for the answer.
    ///
    /// What is found is the page's word. A page may show a widget with another site's key; the permission to solve is
    /// by the page's own address, which the browser tells.
    ///
    /// # Errors
    ///
    /// `DialogOpen`, `Timeout`, `BrowserGone`.
    pub async fn detect_captchas(&self) -> Result<Vec<FoundCaptcha>, BrowserError> {
        let work = async {
            self.no_dialog()?;
            let (_, page) = self.page()?;
            let mut all = Vec::new();
            for (index, frame) in self.0.hub.frames_of(&page, FRAMES).into_iter().enumerate() {
                let main = index == 0;
                let argument = json!({ "widgets": WIDGETS, "main": main });
                let found = page.evaluate_in::<Vec<FoundCaptcha>>(&frame, DETECT, Some(&argument));
                let found = match found.await {
                    Ok(found) => found,
                    Err(error) if main => return Err(error),
                    // It went away meanwhile.
                    Err(_) => continue,
                };
                all.extend(found.into_iter().map(|mut captcha| {
                    captcha.page_url = page.url();
                    captcha.frame_url = match main {
                        true => None,
                        false => self.0.hub.frame_url(&frame),
                    };
                    captcha
                }));
            }
            all.truncate(20);
            Ok(all)
        };
        self.run("browser.detect_captcha", "", self.action_timeout(), work)
            .await
    }

    /// The vendors of captchas on the page that cannot be dealt with here, by name.
    ///
    /// # Errors
    ///
    /// `Timeout`, `BrowserGone`.
    pub async fn other_captchas(&self) -> Result<Vec<String>, BrowserError> {
        let work = async {
            let (_, page) = self.page()?;
            let mut names = Vec::new();
            for frame in self.0.hub.frames_of(&page, FRAMES) {
                let found = page.evaluate_in::<Vec<String>>(&frame, OTHERS, None::<&()>);
                // A frame that went away shows none.
                names.extend(found.await.unwrap_or_default());
            }
            names.sort();
            names.dedup();
            Ok(names)
        };
        let limit = self.action_timeout();
        self.run("browser.other_captchas", "", limit, work).await
    }

    /// Uses the user agent that an answer is bound to, in the current page from now on.
    ///
    /// # Errors
    ///
    /// `Timeout`, `BrowserGone`.
    pub async fn adopt_user_agent(&self, user_agent: &str) -> Result<(), BrowserError> {
        let work = async {
            let (_, page) = self.page()?;
            let protocol = self.protocol(&page).await?;
            let method = "Emulation.setUserAgentOverride";
            protocol
                .send(method, json!({ "userAgent": user_agent }))
                .await
        };
        let limit = self.action_timeout();
        self.run("browser.user_agent", "", limit, work).await
    }

    /// The frame that a captcha was found in.
    fn frame_of(&self, page: &Page, found: &FoundCaptcha) -> String {
        let frames = self.0.hub.frames_of(page, FRAMES).into_iter();
        let mut same = frames.filter(|frame| self.0.hub.frame_url(frame) == found.frame_url);
        match &found.frame_url {
            None => page.main_frame().to_owned(),
            Some(_) => same.next().unwrap_or_else(|| page.main_frame().to_owned()),
        }
    }

    /// Describes a captcha for a solver.
    ///
    /// # Errors
    ///
    /// `ElementNotFound` if its picture is gone.
    pub async fn captcha_challenge(&self, found: &FoundCaptcha) -> Result<Challenge, BrowserError> {
        if found.kind == Kind::Image {
            return Ok(ImageChallenge::new(self.captcha_picture(found).await?).into());
        }
        let url = found.frame_url.as_ref().unwrap_or(&found.page_url);
        let mut token = TokenChallenge::new(found.kind, found.site_key.clone(), url.clone());
        token.invisible = found.invisible;
        token.enterprise = found.enterprise;
        token.action.clone_from(&found.action);
        match found.kind {
            Kind::Turnstile => token.cdata.clone_from(&found.data),
            _ => token.data_s.clone_from(&found.data),
        }
        token.page_data.clone_from(&found.page_data);
        token.user_agent = Some(self.user_agent().await?);
        Ok(token.into())
    }

    /// What the page says it is shown by: of the options, the device, the stealth profile, or Chromium's own.
    async fn user_agent(&self) -> Result<String, BrowserError> {
        let work = async {
            let (_, page) = self.page()?;
            page.evaluate("navigator.userAgent", None::<&()>).await
        };
        let limit = self.action_timeout();
        self.run("browser.captcha_challenge", "", limit, work).await
    }

    /// Takes a picture of a captcha, or of the page where it has none of its own.
    ///
    /// # Errors
    ///
    /// `ElementNotFound`, `Timeout`.
    pub async fn captcha_picture(&self, found: &FoundCaptcha) -> Result<Bytes, BrowserError> {
        let area = match &found.image {
            Some(selector) => Area::Element(selector.clone()),
            None => Area::Viewport,
        };
        self.screenshot(&Screenshot::of(area)).await
    }

    /// Hands an answer over: types a text into the field, or writes a token where the widget would and calls the
    /// page's callbacks; and tells what the page made of it, as far as it shows.
    ///
    /// # Errors
    ///
    /// `ElementNotFound` if the captcha is gone, `InvalidInput` for an empty answer.
    pub async fn submit_captcha(
        &self,
        found: &FoundCaptcha,
        answer: &str,
    ) -> Result<CaptchaOutcome, BrowserError> {
        let limit = self.action_timeout() + self.settle_timeout() + Duration::from_secs(2);
        let work = async {
            if answer.is_empty() || answer.len() > 16 * 1024 {
                return Err(BrowserError::new(
                    BrowserErrorKind::InvalidInput,
                    "the answer is empty or too long",
                ));
            }
            self.no_dialog()?;
            let (_, page) = self.page()?;
            let begun = self.begin();
            if let Some(field) = &found.field {
                let field = page.element(field);
                field.fill(answer).await?;
                return Ok(match field.input_value().await? == answer {
                    true => CaptchaOutcome::Unknown,
                    false => CaptchaOutcome::Rejected,
                });
            }
            let widget = WIDGETS
                .iter()
                .find(|widget| widget.kind == found.kind)
                .ok_or_else(|| {
                    BrowserError::new(BrowserErrorKind::InvalidInput, "this captcha has no widget")
                })?;
            let before = page.documents();
            let argument = json!({ "widget": widget, "key": found.site_key, "token": answer });
            let frame = self.frame_of(&page, found);
            let (called, shown): (u32, bool) =
                page.evaluate_in(&frame, SUBMIT, Some(&argument)).await?;
            self.settle(&page, &begun, Rounds::Action).await;
            if page.documents() != before {
                return Ok(CaptchaOutcome::Accepted);
            }
            // A page that goes away while it is asked has gone on.
            let holds = page
                .evaluate_in::<bool>(&frame, ANSWERED, Some(&widget.fields))
                .await;
            let Ok(holds) = holds else {
                return Ok(CaptchaOutcome::Accepted);
            };
            let gone = match shown && found.frame_url.is_none() {
                false => false,
                true => page
                    .element(widget.element)
                    .first()
                    .wait(Until::Detached, Duration::from_millis(100))
                    .await
                    .is_ok(),
            };
            Ok(match (gone, holds) {
                (true, _) => CaptchaOutcome::Accepted,
                (false, false) => CaptchaOutcome::Rejected,
                (false, true) if called > 0 => CaptchaOutcome::Accepted,
                (false, true) => CaptchaOutcome::Unknown,
            })
        };
        self.run("browser.submit_captcha", found.kind.name(), limit, work)
            .await
    }

    /// Whether the widget holds an answer, for instance because a person gave it.
    ///
    /// # Errors
    ///
    /// `Timeout`, `BrowserGone`.
    pub async fn captcha_is_answered(&self, found: &FoundCaptcha) -> Result<bool, BrowserError> {
        let work = async {
            let (_, page) = self.page()?;
            if page.url() != found.page_url {
                return Ok(true);
            }
            let widget = WIDGETS.iter().find(|widget| widget.kind == found.kind);
            let fields = widget.map(|widget| widget.fields).unwrap_or_default();
            let frame = self.frame_of(&page, found);
            page.evaluate_in(&frame, ANSWERED, Some(&fields)).await
        };
        self.run(
            "browser.captcha_answered",
            found.kind.name(),
            self.action_timeout(),
            work,
        )
        .await
    }
}

//! Making the context that a session lives in.

use std::sync::Arc;

use playwright_rs::{
    BrowserContext, BrowserContextOptions, Geolocation, RecordVideo, StorageState,
    protocol::{AcceptDownloads, ProxySettings},
    server::channel_owner::ChannelOwner as _,
};

use super::{
    Mode, SessionOptions, Viewport,
    hub::{Hub, HubConfig},
};
use crate::{
    BrowserConfig, BrowserError, BrowserErrorKind, Downloads, OriginPolicy,
    engine::BrowserHandle,
    page::Remote,
    proxy::{FilterProxy, ProxyConfig},
    stealth,
};

/// The longest list of origins or permissions: each request is compared with all of them.
const MAX_LIST: usize = 200;

/// A context with its first page, its proxy and its listeners.
pub(crate) struct Prepared {
    pub(crate) browser: Arc<BrowserHandle>,
    pub(crate) context: BrowserContext,
    pub(crate) proxy: FilterProxy,
    pub(crate) hub: Arc<Hub>,
    /// Where videos are written to.
    pub(crate) folder: Option<tempfile::TempDir>,
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> BrowserError {
    BrowserError::new(BrowserErrorKind::InvalidInput, message)
}

fn denied(message: &'static str) -> BrowserError {
    BrowserError::new(BrowserErrorKind::Denied, message)
}

impl SessionOptions {
    /// Refuses what makes no sense and what the operator has not allowed.
    pub(crate) fn check(&self, config: &BrowserConfig) -> Result<(), BrowserError> {
        if self.mode == Mode::Headed && !config.headed {
            return Err(denied(
                "mode headed is not allowed by the operator: use headless",
            ));
        }
        if self.stealth && !config.stealth {
            return Err(denied("stealth is not allowed by the operator"));
        }
        if self.profile.is_some() && config.profiles.is_none() {
            return Err(denied(
                "profile is not allowed by the operator: sessions keep nothing",
            ));
        }
        if self.video && config.driver.ffmpeg.is_none() {
            return Err(denied(
                "video is not available: the operator has configured no ffmpeg",
            ));
        }
        if let Some(viewport) = self.viewport {
            let fits = |length| (100..=4096).contains(&length);
            if !fits(viewport.width) || !fits(viewport.height) {
                return Err(invalid("viewport is not 100 to 4096 in both directions"));
            }
        }
        if let Some(place) = self.geolocation
            && !(place.latitude.abs() <= 90.0 && place.longitude.abs() <= 180.0)
        {
            return Err(invalid("geolocation is not a place on earth"));
        }
        if let Some(proxy) = &self.proxy
            && !config.proxies.contains_key(proxy)
        {
            return Err(invalid(format!(
                "proxy {proxy:?} is none of those that the operator has configured"
            )));
        }
        if let Some(scheme) = &self.color_scheme
            && !matches!(scheme.as_str(), "light" | "dark")
        {
            return Err(invalid("color_scheme is not light or dark"));
        }
        self.check_lengths()
    }

    fn check_lengths(&self) -> Result<(), BrowserError> {
        let lists = [
            self.permissions.len(),
            self.deny_origins.len(),
            self.allow_origins.as_ref().map_or(0, Vec::len),
        ];
        if lists.iter().any(|length| *length > MAX_LIST) {
            return Err(invalid(
                "permissions, allow_origins or deny_origins has more than 200 entries",
            ));
        }
        let texts = [&self.device, &self.locale, &self.timezone, &self.user_agent];
        if texts.iter().any(|text| {
            text.as_ref()
                .is_some_and(|text| text.len() > 512 || text.chars().any(char::is_control))
        }) {
            return Err(invalid(
                "device, locale, timezone or user_agent is too long or has control characters",
            ));
        }
        Ok(())
    }

    /// What this session may reach.
    pub(crate) fn policy(&self, config: &BrowserConfig) -> Result<OriginPolicy, BrowserError> {
        let bad = |error: mcp_core::ConfigError| {
            invalid(format!("allow_origins or deny_origins: {error}"))
        };
        let own = match &self.allow_origins {
            None => OriginPolicy::public(),
            Some(origins) => OriginPolicy::only(origins.iter().map(String::as_str)).map_err(bad)?,
        };
        let own = own
            .deny(self.deny_origins.iter().map(String::as_str))
            .map_err(bad)?;
        Ok(config.policy.narrowed(&own))
    }

    pub(crate) fn proxy_config(&self, config: &BrowserConfig) -> ProxyConfig {
        ProxyConfig {
            resolver: Arc::clone(&config.resolver),
            max_bytes: config.max_session_bytes,
            upstream: self
                .proxy
                .as_ref()
                .and_then(|name| config.proxies.get(name))
                .cloned(),
        }
    }

    /// What of it a context is made with. Policy and proxy are set when a context that is ready is taken.
    pub(crate) fn shape(&self) -> Self {
        Self {
            allow_origins: None,
            deny_origins: Vec::new(),
            proxy: None,
            ..self.clone()
        }
    }

    /// Whether a context can be made before the session that it is for.
    pub(crate) fn can_be_warm(&self) -> bool {
        self.mode == Mode::Headless && self.profile.is_none() && !self.video
    }

    fn context(
        &self,
        config: &BrowserConfig,
        browser: &BrowserHandle,
        proxy: &FilterProxy,
        state: Option<StorageState>,
        folder: Option<&tempfile::TempDir>,
    ) -> Result<BrowserContextOptions, BrowserError> {
        let mut options = BrowserContextOptions::builder()
            .proxy(ProxySettings::new(proxy.url()))
            .accept_downloads(match config.downloads {
                Downloads::Deny => AcceptDownloads::Deny,
                Downloads::Keep { .. } => AcceptDownloads::Accept,
            });
        if let Some(name) = &self.device {
            let devices = browser.driver().playwright().devices();
            let device = devices.get(name).ok_or_else(|| {
                invalid(format!("device {name:?} is not known: use a name of Playwright's list such as \"Pixel 7\""))
            })?;
            options = options
                .viewport(device.viewport.clone().into())
                .user_agent(device.user_agent.clone())
                .device_scale_factor(device.device_scale_factor)
                .is_mobile(device.is_mobile)
                .has_touch(device.has_touch);
        }
        if let Some(Viewport { width, height }) = self.viewport {
            options = options.viewport(playwright_rs::Viewport { width, height });
        }
        if self.stealth {
            let version = browser.browser().version();
            options = options
                .user_agent(stealth::user_agent(version))
                .extra_http_headers(stealth::headers(version));
        }
        let mut permissions = self.permissions.clone();
        if let Some(place) = self.geolocation {
            permissions.push("geolocation".to_owned());
            options = options.geolocation(Geolocation {
                latitude: place.latitude,
                longitude: place.longitude,
                accuracy: None,
            });
        }
        if !permissions.is_empty() {
            options = options.permissions(permissions);
        }
        macro_rules! pass {
            ($($field:ident => $setter:ident),*) => { $(
                if let Some(value) = &self.$field {
                    options = options.$setter(value.clone());
                }
            )* };
        }
        pass!(locale => locale, timezone => timezone_id, user_agent => user_agent, color_scheme => color_scheme);
        if config.ignore_tls_errors {
            options = options.ignore_https_errors(true);
        }
        if let Some(folder) = folder {
            options = options.record_video(RecordVideo::new(folder.path().display().to_string()));
        }
        if let Some(state) = state {
            options = options.storage_state(state);
        }
        Ok(options.build())
    }
}

/// Makes a context with one empty page. Dropping the future on the way leaves nothing open but what the driver is
/// just making; the caller therefore runs it to its end in a task.
pub(crate) async fn prepare(
    config: &BrowserConfig,
    browser: Arc<BrowserHandle>,
    options: &SessionOptions,
    state: Option<StorageState>,
) -> Result<Prepared, BrowserError> {
    let internal = |what: &'static str| {
        move |error: std::io::Error| {
            BrowserError::new(BrowserErrorKind::Driver, what).with_source(error)
        }
    };
    let proxy = FilterProxy::start(options.proxy_config(config), options.policy(config)?)
        .await
        .map_err(internal("the session's proxy cannot be started"))?;
    let folder = match options.video {
        true => Some(
            tempfile::TempDir::with_prefix("mcp-browser-video-")
                .map_err(internal("no folder for the video"))?,
        ),
        false => None,
    };
    let context_options = options.context(config, &browser, &proxy, state, folder.as_ref())?;
    let context = browser
        .browser()
        .new_context_with_options(context_options)
        .await
        .map_err(BrowserError::of)?;
    let made = furnish(config, &browser, &context, options).await;
    match made {
        Ok(hub) => Ok(Prepared {
            browser,
            context,
            proxy,
            hub,
            folder,
        }),
        Err(error) => {
            // What cannot be closed goes with the browser.
            let _ = context.close().await;
            Err(error)
        }
    }
}

async fn furnish(
    config: &BrowserConfig,
    browser: &BrowserHandle,
    context: &BrowserContext,
    options: &SessionOptions,
) -> Result<Arc<Hub>, BrowserError> {
    if options.stealth {
        stealth::context(context, browser.browser().version()).await?;
    }
    #[cfg(feature = "captcha")]
    if config.captcha_hook {
        context
            .add_init_script(crate::captcha::HOOK)
            .await
            .map_err(BrowserError::of)?;
    }
    let remote = Remote::new(
        context.connection(),
        config.action_timeout,
        config.navigation_timeout,
    );
    let prepare = options.stealth.then(|| {
        let locale = options.locale.as_deref().unwrap_or("en-US");
        stealth::each_page(&remote, browser.browser().version(), locale)
    });
    let hub_config = HubConfig {
        max_tabs: config.max_tabs,
        dialog_timeout: config.dialog_timeout,
        uploads: config.uploads > 0,
        downloads: config.downloads != Downloads::Deny,
        choosers: options.mode == Mode::Headless,
    };
    let tap = browser.driver().tap();
    let hub = Hub::listen(tap, context, remote, hub_config, prepare).await?;
    hub.open().await?;
    if let Some(locale) = &options.locale {
        check_locale(&hub, locale).await?;
    }
    Ok(hub)
}

/// Chromium takes any text for a locale and speaks another language then.
async fn check_locale(hub: &Hub, locale: &str) -> Result<(), BrowserError> {
    let known = "locale => { try { return Intl.DateTimeFormat.supportedLocalesOf([locale]).length > 0 } catch { return false } }";
    for tab in hub.tabs().0 {
        if !tab.page.evaluate::<bool>(known, Some(&locale)).await? {
            return Err(invalid(format!(
                "locale {locale:?} is none that Chromium knows: give a language and a region such as \"de-DE\""
            )));
        }
    }
    Ok(())
}

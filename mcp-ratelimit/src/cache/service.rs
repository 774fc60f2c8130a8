use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use mcp_core::{Error, Notifier, Request, Response};
use tower::ServiceExt;
use tower_service::Service;

use super::entry::{Entry, Hints, Topic, is_final};
use super::future::Fill;
use super::layer::Plan;
use super::remote::{Remote, digest};
use super::shelf::Found;
use super::{CacheLayer, ResponseFuture};

/// Answers calls from earlier answers.
#[derive(Debug, Clone)]
pub struct CacheService<S> {
    inner: S,
    layer: CacheLayer,
}

impl<S> CacheService<S> {
    pub(super) const fn new(inner: S, layer: CacheLayer) -> Self {
        Self { inner, layer }
    }

    mcp_core::inner_service!();
}

impl<S> Service<Request> for CacheService<S>
where
    S: Service<Request, Response = Response, Error = Error, Future: Send> + Clone + Send + 'static,
{
    type Response = Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Some(plan) = self.layer.plan(&request) else {
            return ResponseFuture::forward(self.inner.call(request));
        };
        let layer = &self.layer;
        let now = layer.settings.clock.now();
        let found = layer.cache.get(&plan.own);
        let found = found.or_else(|| plan.public.and_then(|key| layer.cache.get(&key)));
        if let Some(entry) = &found {
            match entry.stale_for(now) {
                None => {
                    layer.cache.count(Found::Hit);
                    return ResponseFuture::served(entry.serve(now));
                }
                Some(stale) if stale < layer.settings.while_revalidate => {
                    layer.cache.count(Found::Stale);
                    let response = entry.serve(now);
                    self.refresh(request, plan, Arc::clone(entry));
                    return ResponseFuture::served(response);
                }
                Some(_) => {}
            }
        }
        layer.cache.count(Found::Miss);
        let stale = found.filter(|_| !layer.settings.on_error.is_zero());
        let fill = Fill {
            layer: layer.clone(),
            plan,
            topic: Topic::of(&request),
            stale,
        };
        match layer.cache.remote().cloned() {
            None => ResponseFuture::fill(self.inner.call(request), fill),
            Some(remote) => {
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                ResponseFuture::remote(Box::pin(ask_remote(remote, ready, request, fill)))
            }
        }
    }
}

impl<S> CacheService<S>
where
    S: Service<Request, Response = Response, Error = Error, Future: Send> + Clone + Send + 'static,
{
    /// Fetches a new answer in the background, unless someone does so already.
    fn refresh(&self, request: Request, plan: Plan, old: Arc<Entry>) {
        if old.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (service, layer) = (self.inner.clone(), self.layer.clone());
        let topic = Topic::of(&request);
        self.layer.cache.spawn(async move {
            match service
                .oneshot(request.with_notifier(Notifier::none()))
                .await
            {
                Ok(response) => layer.store(&plan, topic, &response),
                Err(error) => {
                    tracing::debug!(%error, "a cached answer could not be renewed");
                    old.refreshing.store(false, Ordering::Release);
                }
            }
        });
    }
}

/// Looks on the shared store, and calls if nothing is there.
async fn ask_remote<S>(
    remote: Remote,
    mut service: S,
    request: Request,
    fill: Fill,
) -> Result<Response, Error>
where
    S: Service<Request, Response = Response, Error = Error>,
{
    let (digest, owner) = (digest(&request), request.principal().partition());
    let settings = Arc::clone(&fill.layer.settings);
    if let Some((response, left)) = remote.get(&owner, &digest).await {
        fill.layer.cache.count(Found::Hit);
        let entry = Entry::new(
            response,
            fill.topic,
            settings.clock.now(),
            left.min(settings.longest),
        );
        let response = entry.serve(settings.clock.now());
        fill.layer.cache.put(fill.plan.own, entry, fill.plan.epoch);
        return Ok(response);
    }
    let (layer, plan) = (fill.layer.clone(), fill.plan.clone());
    let response = fill.finish(service.call(request).await)?;
    if let Some((ttl, _)) = layer.may_keep(&plan, &response)
        && layer.cache.epoch() == plan.epoch
    {
        remote.put(&owner, &digest, &response, ttl).await;
    }
    Ok(response)
}

impl CacheLayer {
    /// Keeps an answer if it may be kept.
    pub(super) fn store(&self, plan: &Plan, topic: Topic, response: &Response) {
        let Some((ttl, public)) = self.may_keep(plan, response) else {
            return;
        };
        let key = plan.public.filter(|_| public).unwrap_or(plan.own);
        let entry = Entry::new(response.clone(), topic, self.settings.clock.now(), ttl);
        self.cache.put(key, entry, plan.epoch);
    }

    /// For how long an answer may be kept, and whether for everybody.
    fn may_keep(&self, plan: &Plan, response: &Response) -> Option<(Duration, bool)> {
        let settings = &self.settings;
        if response.result().len() > settings.max_entry || !is_final(plan.is_tool, response) {
            return None;
        }
        let asks = plan.ttl.is_none() || plan.public.is_some();
        let hints = asks.then(|| Hints::of(response));
        let ttl = plan
            .ttl
            .or(hints.map(|hints| hints.ttl))
            .unwrap_or_default()
            .min(settings.longest);
        (!ttl.is_zero()).then(|| (ttl, hints.is_some_and(|hints| hints.public)))
    }
}

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use mcp_core::clock::{SystemWallClock, WallClock};
use mcp_core::{Error, Request, Response};
use pin_project_lite::pin_project;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tower_layer::Layer;
use tower_service::Service;

use super::{ErrorRecord, ErrorRecorder};

/// How many errors may wait to be kept.
const BACKLOG: usize = 1024;

/// Applies a [`Record`].
#[must_use]
#[derive(Debug, Clone)]
pub struct RecordLayer {
    sender: mpsc::Sender<ErrorRecord>,
    clock: Arc<dyn WallClock>,
}

/// The task that hands errors to the recorder. Dropping it ends it; what still waits is then lost.
#[derive(Debug)]
pub struct RecordTask {
    task: Option<JoinHandle<()>>,
}

impl RecordLayer {
    /// Gives errors to a recorder, beside the calls: none waits for it. If more than 1,024 wait to be kept, the
    /// next ones are counted (`mcp_errors_not_recorded_total`) and lost.
    ///
    /// Spawns the task that does so; must be called within a tokio runtime.
    pub fn start(recorder: Arc<dyn ErrorRecorder>) -> (Self, RecordTask) {
        let (sender, mut receiver) = mpsc::channel(BACKLOG);
        let task = tokio::spawn(async move {
            while let Some(record) = receiver.recv().await {
                if let Err(error) = recorder.record(record).await {
                    metrics::counter!("mcp_errors_not_recorded_total").increment(1);
                    tracing::warn!(%error, "an error could not be recorded");
                }
            }
        });
        (
            Self {
                sender,
                clock: Arc::new(SystemWallClock::new()),
            },
            RecordTask { task: Some(task) },
        )
    }

    /// Dates errors by another clock. Default is the system's.
    pub fn with_clock(mut self, clock: Arc<dyn WallClock>) -> Self {
        self.clock = clock;
        self
    }
}

impl RecordTask {
    /// Waits until all layers and services are gone and all their errors are kept.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the task; what still waits is lost.
    pub async fn shutdown(mut self) {
        if let Some(task) = &mut self.task {
            // The task does not panic by itself, and a recorder that does has been reported by its panic.
            let _ = task.await;
        }
    }
}

impl Drop for RecordTask {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl<S> Layer<S> for RecordLayer {
    type Service = Record<S>;

    fn layer(&self, inner: S) -> Record<S> {
        Record {
            inner,
            layer: self.clone(),
        }
    }
}

/// Gives every error to a recorder.
#[derive(Debug, Clone)]
pub struct Record<S> {
    inner: S,
    layer: RecordLayer,
}

impl<S> Record<S> {
    mcp_core::inner_service!();
}

impl<S> Service<Request> for Record<S>
where
    S: Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let kept = Box::new((self.layer.clone(), request.clone()));
        ResponseFuture {
            future: self.inner.call(request),
            kept,
        }
    }
}

pin_project! {
    /// The answer of a [`Record`].
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        future: F,
        kept: Box<(RecordLayer, Request)>,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for ResponseFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        if let Err(error) = &result {
            let (layer, request) = &**this.kept;
            let record = ErrorRecord::new(error, request, layer.clock.now());
            if layer.sender.try_send(record).is_err() {
                metrics::counter!("mcp_errors_not_recorded_total").increment(1);
            }
        }
        Poll::Ready(result)
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("diagnose::ResponseFuture")
    }
}

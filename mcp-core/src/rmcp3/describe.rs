//! What an rmcp server says about its tools, in each call, before any layer.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use rmcp::{
    ServerHandler,
    model::{JsonObject, Tool},
};
use serde_json::Value;
use tower_layer::Layer;
use tower_service::Service;

use super::RmcpService;
use crate::{Json, Request, ToolAnnotations, ToolSchemas};

/// How many tools are remembered.
const MOST: usize = 10_000;

/// Numbers descriptions over all servers of the process, so that no two share a number.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// Puts a tool's annotations and schemas into each call of it, for the inner layers. [`serve`](super::serve) puts it
/// outermost.
///
/// The server is asked by `ServerHandler::get_tool`, which rmcp's macro `tool_handler` implements. A tool that is not known
/// there is called without annotations, and layers take it for one that changes things.
pub struct DescribeLayer<H>(Arc<Shared<H>>);

struct Shared<H> {
    server: RmcpService<H>,
    known: RwLock<HashMap<Box<str>, Known>>,
}

/// A tool as it was described last.
#[derive(Clone)]
struct Known {
    /// By which the description is known to be the same.
    input: Arc<JsonObject>,
    output: Option<Arc<JsonObject>>,
    schemas: Arc<ToolSchemas>,
}

impl Known {
    fn is_of(&self, tool: &Tool) -> bool {
        let same =
            |one: &Option<Arc<JsonObject>>, other: &Option<Arc<JsonObject>>| match (one, other) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
                (None, None) => true,
                _ => false,
            };
        let input = Arc::ptr_eq(&self.input, &tool.input_schema) || self.input == tool.input_schema;
        input && same(&self.output, &tool.output_schema)
    }

    fn of(tool: &Tool) -> Self {
        let json = |schema: &Arc<JsonObject>| Json::from(Value::Object(schema.as_ref().clone()));
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        let input = Some(json(&tool.input_schema));
        let output = tool.output_schema.as_ref().map(json);
        Self {
            input: Arc::clone(&tool.input_schema),
            output: tool.output_schema.clone(),
            schemas: Arc::new(ToolSchemas::new(generation, input, output)),
        }
    }
}

fn annotations(tool: &Tool) -> ToolAnnotations {
    let mut own = ToolAnnotations::default();
    if let Some(said) = &tool.annotations {
        own.read_only = said.read_only_hint;
        own.destructive = said.destructive_hint;
        own.idempotent = said.idempotent_hint;
        own.open_world = said.open_world_hint;
    }
    own
}

impl<H: ServerHandler> DescribeLayer<H> {
    /// Describes the tools of a server.
    pub fn new(server: RmcpService<H>) -> Self {
        Self(Arc::new(Shared {
            server,
            known: RwLock::default(),
        }))
    }

    fn describe(&self, request: Request) -> Request {
        let Some(tool) = request.tool() else {
            return request;
        };
        let found = self.0.server.shared_handler().ok();
        let Some(tool) = found.and_then(|handler| handler.get_tool(tool)) else {
            return request;
        };
        let schemas = self.schemas(&tool);
        request
            .with_annotations(annotations(&tool))
            .with_schemas(schemas)
    }

    fn schemas(&self, tool: &Tool) -> Arc<ToolSchemas> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&*tool.name).filter(|known| known.is_of(tool)) {
            return Arc::clone(&known.schemas);
        }
        drop(known);
        let new = Known::of(tool);
        let schemas = Arc::clone(&new.schemas);
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(Box::from(&*tool.name), new);
        schemas
    }
}

impl<H> Clone for DescribeLayer<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H> fmt::Debug for DescribeLayer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DescribeLayer")
    }
}

impl<H, S> Layer<S> for DescribeLayer<H> {
    type Service = Describe<H, S>;

    fn layer(&self, inner: S) -> Describe<H, S> {
        Describe {
            inner,
            layer: self.clone(),
        }
    }
}

/// Puts a tool's annotations and schemas into each call of it.
pub struct Describe<H, S> {
    inner: S,
    layer: DescribeLayer<H>,
}

impl<H, S> Describe<H, S> {
    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<H, S: Clone> Clone for Describe<H, S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<H, S: fmt::Debug> fmt::Debug for Describe<H, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Describe")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<H: ServerHandler, S: Service<Request>> Service<Request> for Describe<H, S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> S::Future {
        let request = self.layer.describe(request);
        self.inner.call(request)
    }
}

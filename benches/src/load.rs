//! The load: so many connections, each with one request in flight at any time.

use std::{error::Error, fmt, io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, sync::watch, task::JoinSet, time::Instant};

use crate::{
    calls::{Call, Client, Era, Shape},
    serve::say,
    stats::percentile,
};

/// Errors of a connection, of whichever layer.
type Failure = Box<dyn Error + Send + Sync>;

/// No reply may take longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum What {
    /// Call the echo tool.
    Call,
    /// List the tools.
    List,
}

/// Puts load on an MCP endpoint and checks every reply.
///
/// Prints `start` when the measurement begins and `stop` when it ends, then a report as one line
/// of JSON.
#[derive(Clone, Debug, Parser)]
#[non_exhaustive]
pub struct Plan {
    /// The endpoint.
    pub url: Uri,
    /// What to ask for.
    #[arg(long, value_enum, default_value = "call")]
    pub what: What,
    /// How requests relate to each other.
    #[arg(long, value_enum, default_value = "session")]
    pub era: Era,
    /// Connections, each with one request in flight.
    #[arg(long, default_value_t = 16)]
    pub connections: u32,
    /// Seconds that count.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Seconds before that, which do not count.
    #[arg(long, default_value_t = 0.7)]
    pub warmup: f64,
    /// Name of the echo tool; default is `echo`, or `echo_json` for structured arguments.
    #[arg(long)]
    pub tool: Option<String>,
    /// What the arguments look like.
    #[arg(long, value_enum, default_value = "string")]
    pub shape: Shape,
    /// Size of the arguments in bytes.
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    /// How many tools a list must hold.
    #[arg(long, default_value_t = 2)]
    pub tools: usize,
    /// Open this many sessions instead, print `ready`, and keep them until stdin ends.
    #[arg(long)]
    pub idle_sessions: Option<u32>,
    /// Let each idle session have its event stream open, as clients do.
    #[arg(long)]
    pub idle_streams: bool,
    /// Write the first reply's body to this file.
    #[arg(long)]
    pub save_reply: Option<PathBuf>,
}

/// What came of it. Times are in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// Replies that were right.
    pub replies: u64,
    /// Replies that were not.
    pub wrong: u64,
    /// Requests without a reply.
    pub errors: u64,
    /// The last error.
    pub last_error: Option<String>,
    /// Seconds that counted.
    pub seconds: f64,
    /// Right replies per second.
    pub per_second: f64,
    /// Half of the replies came faster.
    pub p50: u32,
    /// 95 of 100 replies came faster.
    pub p95: u32,
    /// 99 of 100 replies came faster.
    pub p99: u32,
}

impl Plan {
    /// The request to make.
    #[must_use]
    pub fn call(&self) -> Call {
        let tool = match (&self.tool, self.shape) {
            (Some(tool), _) => tool,
            (None, Shape::String) => "echo",
            (None, Shape::Structured) => "echo_json",
        };
        match self.what {
            What::Call => Call::echo(self.era, tool, self.shape, self.size),
            What::List => Call::list(self.era, self.tools),
        }
    }
}

/// Runs the plan; `mark` hears when the measurement starts and stops.
///
/// # Errors
///
/// Fails when the connections cannot be set up, and when `mark` does; what fails later is counted.
pub async fn run(
    plan: &Plan,
    mut mark: impl FnMut(&str) -> io::Result<()>,
) -> Result<Report, Failure> {
    let call = Arc::new(plan.call());
    let mut connections = Vec::new();
    for number in 0..plan.connections {
        let mut connection = Connection::open(plan, number).await?;
        let (id, reply) = connection.ask(&call).await?;
        if !call.is_answered(id, &reply) {
            let start = String::from_utf8_lossy(&reply[..reply.len().min(500)]);
            return Err(format!("the first reply is wrong: {start}").into());
        }
        if let Some(file) = plan.save_reply.as_ref().filter(|_| number == 0) {
            std::fs::write(file, &reply)?;
        }
        connections.push(connection);
    }
    let (phase, watched) = watch::channel(Phase::Warmup);
    let mut workers = JoinSet::new();
    for connection in connections {
        workers.spawn(work(connection, Arc::clone(&call), watched.clone()));
    }
    tokio::time::sleep(Duration::from_secs_f64(plan.warmup)).await;
    mark("start")?;
    phase.send_replace(Phase::Measured);
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(plan.seconds)).await;
    phase.send_replace(Phase::Over);
    let seconds = start.elapsed().as_secs_f64();
    mark("stop")?;
    let mut total = Tally::default();
    while let Some(tally) = workers.join_next().await {
        total.add(tally?);
    }
    Ok(total.report(seconds))
}

/// Opens sessions and keeps them until stdin ends.
///
/// # Errors
///
/// Fails when a session or its stream cannot be opened.
pub async fn idle(plan: &Plan, sessions: u32) -> Result<(), Failure> {
    let mut connection = Connection::open(plan, 0).await?;
    let mut streams = Vec::new();
    for number in 0..sessions {
        if number > 0 {
            connection.client = Client::new(plan.era, plan.url.clone(), 0);
            connection.initialize().await?;
        }
        if plan.idle_streams {
            let mut sender = connect(&plan.url).await?;
            let response = sender.send_request(connection.client.listen()).await?;
            if response.status() != StatusCode::OK {
                return Err(format!("stream: status {}", response.status()).into());
            }
            streams.push((sender, response));
        }
    }
    say("ready")?;
    let stdin = tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink()));
    stdin.await??;
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warmup,
    Measured,
    Over,
}

#[derive(Default)]
struct Tally {
    latencies: Vec<u32>,
    wrong: u64,
    errors: u64,
    last_error: Option<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.wrong += other.wrong;
        self.errors += other.errors;
        self.last_error = other.last_error.or(self.last_error.take());
    }

    fn report(mut self, seconds: f64) -> Report {
        self.latencies.sort_unstable();
        let replies = self.latencies.len() as u64;
        Report {
            replies,
            wrong: self.wrong,
            errors: self.errors,
            last_error: self.last_error,
            seconds,
            per_second: replies as f64 / seconds,
            p50: percentile(&self.latencies, 50.0),
            p95: percentile(&self.latencies, 95.0),
            p99: percentile(&self.latencies, 99.0),
        }
    }
}

async fn work(mut connection: Connection, call: Arc<Call>, phase: watch::Receiver<Phase>) -> Tally {
    let mut tally = Tally::default();
    loop {
        let start = Instant::now();
        let asked = connection.ask(&call).await;
        let took = start.elapsed();
        let now = *phase.borrow();
        if now == Phase::Over {
            connection.close().await;
            return tally;
        }
        // What went wrong counts also while warming up.
        match asked {
            Ok((id, reply)) if call.is_answered(id, &reply) => {
                if now == Phase::Measured {
                    let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
                    tally.latencies.push(micros);
                }
            }
            Ok((_, reply)) => {
                tally.wrong += 1;
                let start = &reply[..reply.len().min(300)];
                tally.last_error = Some(String::from_utf8_lossy(start).into_owned());
            }
            Err(error) => {
                tally.errors += 1;
                tally.last_error = Some(error.to_string());
                if connection.reconnect().await.is_err() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// One connection, and the client that uses it.
pub struct Connection {
    uri: Uri,
    client: Client,
    sender: SendRequest<Full<Bytes>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, and in the session era opens a session.
    ///
    /// # Errors
    ///
    /// Fails when the endpoint does not answer as it must.
    pub async fn open(plan: &Plan, number: u32) -> Result<Self, Failure> {
        // Far enough apart that ids of different connections never meet.
        let first_id = u64::from(number) * 10_000_000;
        let mut connection = Self {
            uri: plan.url.clone(),
            client: Client::new(plan.era, plan.url.clone(), first_id),
            sender: connect(&plan.url).await?,
        };
        if plan.era == Era::Session {
            connection.initialize().await?;
        }
        Ok(connection)
    }

    /// Makes one call; returns its id and the body of the reply.
    ///
    /// # Errors
    ///
    /// Fails without a reply, and with one that is not a success.
    pub async fn ask(&mut self, call: &Call) -> Result<(u64, Bytes), Failure> {
        let (id, request) = self.client.request(call);
        let (response, body) = self.send(request).await?;
        if response != StatusCode::OK {
            let start = String::from_utf8_lossy(&body[..body.len().min(300)]);
            return Err(format!("status {response}: {start}").into());
        }
        Ok((id, body))
    }

    async fn initialize(&mut self) -> Result<(), Failure> {
        let response = self.response(self.client.open()).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("initialize: status {}", response.status()).into());
        }
        let initialized = self.client.opened(&response);
        response.into_body().collect().await?;
        let (status, _) = self.send(initialized).await?;
        if !status.is_success() {
            return Err(format!("initialized: status {status}").into());
        }
        Ok(())
    }

    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let response = self.response(request).await?;
        let status = response.status();
        let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await??;
        Ok((status, body.to_bytes()))
    }

    async fn response(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<hyper::body::Incoming>, Failure> {
        if self.sender.ready().await.is_err() {
            self.reconnect().await?;
        }
        Ok(tokio::time::timeout(PATIENCE, self.sender.send_request(request)).await??)
    }

    async fn reconnect(&mut self) -> Result<(), Failure> {
        self.sender = connect(&self.uri).await?;
        Ok(())
    }

    async fn close(mut self) {
        if let Some(request) = self.client.close() {
            // The measurement is over: how the session ends does not matter.
            let _ = self.send(request).await;
        }
    }
}

async fn connect(uri: &Uri) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let host = uri.authority().ok_or("the URL has no host")?.as_str();
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

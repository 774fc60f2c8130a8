use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mcp_core::{Partition, Principal, PrincipalKind};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    BrowserConfig, BrowserError, BrowserErrorKind, Isolation, Mode, Session, SessionOptions,
    engine::{Engine, EngineConfig, Slot},
    session::{Prepared, prepare},
};

/// How long the session that took a ready context has the machine to itself before the next is made: it is about to
/// load its first page.
const REFILL: Duration = Duration::from_millis(250);

/// Leases browser sessions to principals. Clones share everything.
///
/// 1. The number of sessions is bounded, for all and for each principal; above it a request is refused at once.
/// 2. A session belongs to the principal that created it. To another it does not exist.
/// 3. A session ends when it is closed, idle or old; and with its browser. What a dropped [`create`](Self::create)
///    has opened is closed.
/// 4. A driver or browser that ended is started again for the next session.
///
/// Needs a tokio runtime with timers and I/O. Dropping the last clone kills the driver and its browsers; use
/// [`shutdown`](Self::shutdown) to have profiles saved.
#[derive(Clone)]
pub struct BrowserService(Arc<Inner>);

struct Inner {
    config: Arc<BrowserConfig>,
    engine: Engine,
    leases: Arc<Mutex<Leases>>,
    /// Contexts that are ready, and what they are like.
    warm: Arc<tokio::sync::Mutex<Vec<(SessionOptions, Prepared)>>>,
    /// What the latest sessions were like, the latest first.
    shapes: Mutex<VecDeque<SessionOptions>>,
    refilling: AtomicBool,
    /// Held while a warm context is being made: who needs one waits for it rather than making another.
    making: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Leases {
    sessions: HashMap<String, Session>,
    /// Sessions that are being made.
    pending: HashMap<Partition, usize>,
}

impl Leases {
    fn count(&self, owner: Partition) -> usize {
        let own = self
            .sessions
            .values()
            .filter(|session| session.owner() == owner)
            .count();
        own + self.pending.get(&owner).copied().unwrap_or_default()
    }

    fn total(&self) -> usize {
        self.sessions.len() + self.pending.values().sum::<usize>()
    }
}

/// A place among the sessions, given back when it is dropped.
struct Place {
    leases: Arc<Mutex<Leases>>,
    owner: Partition,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut leases = lock(&self.leases);
        if let Some(count) = leases.pending.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                leases.pending.remove(&self.owner);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BrowserService {
    /// Makes a service. Nothing is started yet.
    ///
    /// # Errors
    ///
    /// What [`DriverConfig::check`](crate::DriverConfig::check) finds missing.
    pub fn new(config: BrowserConfig) -> Result<Self, BrowserError> {
        config.driver.check()?;
        let engine = Engine::new(EngineConfig {
            driver: config.driver.clone(),
            sandbox: config.sandbox,
            limits: config.limits,
        });
        Ok(Self(Arc::new(Inner {
            config: Arc::new(config),
            engine,
            leases: Arc::default(),
            warm: Arc::default(),
            shapes: Mutex::new([SessionOptions::default()].into()),
            refilling: AtomicBool::new(false),
            making: tokio::sync::Mutex::default(),
        })))
    }

    /// How sessions are governed.
    #[must_use]
    pub fn config(&self) -> &BrowserConfig {
        &self.0.config
    }

    /// Starts the driver, the shared browser and the warm contexts, so that the first session need not wait.
    ///
    /// # Errors
    ///
    /// `StartFailed`.
    pub async fn warm_up(&self) -> Result<(), BrowserError> {
        let slot = Slot {
            owner: None,
            headed: false,
        };
        match self.0.config.isolation {
            Isolation::Shared => {
                if self.0.config.warm > 0 {
                    self.refill().await;
                }
                self.0.engine.browser(slot).await?;
            }
            Isolation::PerPrincipal => {
                self.0.engine.driver().await?;
            }
        }
        Ok(())
    }

    /// Creates a session for a principal.
    ///
    /// # Errors
    ///
    /// `LimitReached`, `Denied` for what the operator has not allowed, `InvalidInput`, `StartFailed`.
    ///
    /// # Cancel safety
    ///
    /// What a dropped future has opened is closed.
    pub async fn create(
        &self,
        principal: &Principal,
        options: SessionOptions,
    ) -> Result<Session, BrowserError> {
        if principal.kind() == PrincipalKind::Anonymous && !self.0.config.allow_anonymous {
            return Err(BrowserError::new(
                BrowserErrorKind::Denied,
                "a browser session needs to know whose it is: authenticate, or use a client with sessions",
            ));
        }
        options.check(&self.0.config)?;
        options.policy(&self.0.config)?;
        let place = self.place(principal.partition())?;
        let (sender, made) = oneshot::channel();
        let (service, principal) = (self.clone(), principal.clone());
        // In a task of its own, so that what has been opened is closed when the caller goes away.
        tokio::spawn(async move {
            let result = service.make(principal, options, place).await;
            if let Err(Ok(session)) = sender.send(result) {
                service.end(&session).await;
            }
        });
        made.await.unwrap_or_else(|_| Err(BrowserError::gone()))
    }

    fn place(&self, owner: Partition) -> Result<Place, BrowserError> {
        let mut leases = lock(&self.0.leases);
        let (all, each) = (self.0.config.max_sessions, self.0.config.max_per_principal);
        if leases.count(owner) >= each {
            return Err(BrowserError::new(
                BrowserErrorKind::LimitReached,
                format!("you have {each} sessions, as many as you may: close one"),
            ));
        }
        if leases.total() >= all {
            return Err(BrowserError::new(
                BrowserErrorKind::LimitReached,
                "all browser sessions are in use: try again later",
            ));
        }
        *leases.pending.entry(owner).or_default() += 1;
        Ok(Place {
            leases: Arc::clone(&self.0.leases),
            owner,
        })
    }

    async fn make(
        &self,
        principal: Principal,
        options: SessionOptions,
        place: Place,
    ) -> Result<Session, BrowserError> {
        let owner = principal.partition();
        let state = match (&options.profile, &self.0.config.profiles) {
            (Some(name), Some(profiles)) => profiles.load(owner, name).await?,
            _ => None,
        };
        let prepared = match self.take_warm(&options).await? {
            Some(prepared) => prepared,
            None => {
                let slot = Slot {
                    owner: (self.0.config.isolation == Isolation::PerPrincipal).then_some(owner),
                    headed: options.mode == Mode::Headed,
                };
                let browser = self.0.engine.browser(slot).await?;
                let limit = self.0.config.navigation_timeout;
                let making = prepare(&self.0.config, browser, &options, state);
                tokio::time::timeout(limit, making).await.map_err(|_| {
                    BrowserError::new(
                        BrowserErrorKind::Timeout,
                        "the browser did not make a session in time",
                    )
                })??
            }
        };
        self.make_ready(&options);
        let id = format!("{:032x}", rand::random::<u128>());
        let session = Session::new(
            id.clone(),
            principal,
            Arc::clone(&self.0.config),
            options,
            prepared,
        );
        lock(&self.0.leases).sessions.insert(id, session.clone());
        drop(place);
        self.watch(&session);
        Ok(session)
    }

    /// Takes a context that is ready for such a session.
    async fn take_warm(&self, options: &SessionOptions) -> Result<Option<Prepared>, BrowserError> {
        if !self.keeps_warm(options) {
            return Ok(None);
        }
        let shape = options.shape();
        let mut taken = self.pop_warm(&shape).await;
        if taken.is_none() && lock(&self.0.shapes).contains(&shape) {
            // Nothing is waited for where nothing is being made.
            let _made = self.0.making.lock().await;
            taken = self.pop_warm(&shape).await;
        }
        if let Some(prepared) = &taken {
            prepared.proxy.set(
                options.proxy_config(&self.0.config),
                options.policy(&self.0.config)?,
            );
        }
        Ok(taken)
    }

    fn keeps_warm(&self, options: &SessionOptions) -> bool {
        let config = &self.0.config;
        config.warm > 0 && options.can_be_warm() && config.isolation == Isolation::Shared
    }

    /// Has contexts made for sessions like the latest ones.
    fn make_ready(&self, options: &SessionOptions) {
        if !self.keeps_warm(options) {
            return;
        }
        {
            let mut shapes = lock(&self.0.shapes);
            let shape = options.shape();
            shapes.retain(|known| *known != shape);
            shapes.push_front(shape);
            shapes.truncate(self.0.config.warm);
        }
        if !self.0.refilling.swap(true, Ordering::AcqRel) {
            let service = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(REFILL).await;
                service.refill().await;
                service.0.refilling.store(false, Ordering::Release);
            });
        }
    }

    async fn pop_warm(&self, shape: &SessionOptions) -> Option<Prepared> {
        let mut warm = self.0.warm.lock().await;
        warm.retain(|(_, prepared)| prepared.browser.is_alive());
        let at = warm.iter().position(|(known, _)| known == shape)?;
        Some(warm.remove(at).1)
    }

    /// What the next context is to be like, if one is missing.
    async fn next_shape(&self) -> Option<SessionOptions> {
        let wanted: Vec<SessionOptions> = {
            let shapes = lock(&self.0.shapes);
            let all = shapes.iter().cycle();
            all.take(self.0.config.warm).cloned().collect()
        };
        let mut warm = self.0.warm.lock().await;
        let count = |shape: &SessionOptions, all: &[SessionOptions]| {
            all.iter().filter(|known| *known == shape).count()
        };
        let made: Vec<SessionOptions> = warm.iter().map(|(shape, _)| shape.clone()).collect();
        let next = wanted
            .iter()
            .find(|shape| count(shape, &made) < count(shape, &wanted))?;
        if made.len() >= self.0.config.warm {
            let spare = made
                .iter()
                .position(|shape| count(shape, &made) > count(shape, &wanted))?;
            let (_, spare) = warm.remove(spare);
            // What cannot be closed goes with the browser.
            tokio::spawn(async move { spare.context.close().await });
        }
        Some(next.clone())
    }

    async fn refill(&self) {
        let slot = Slot {
            owner: None,
            headed: false,
        };
        while let Some(shape) = self.next_shape().await {
            let _making = self.0.making.lock().await;
            let made = async {
                let browser = self.0.engine.browser(slot).await?;
                prepare(&self.0.config, browser, &shape, None).await
            };
            match made.await {
                Ok(prepared) => self.0.warm.lock().await.push((shape, prepared)),
                Err(error) => {
                    tracing::warn!(%error, "no warm browser context");
                    return;
                }
            }
        }
    }

    /// Ends the session when its time has come or its browser is gone.
    fn watch(&self, session: &Session) {
        let weak = Arc::downgrade(&session.0);
        let service = Arc::downgrade(&self.0);
        let mut gone = session.0.browser.gone();
        let watching = tokio::spawn(async move {
            loop {
                let Some(deadline) = weak.upgrade().map(|inner| Session::of(inner).deadline())
                else {
                    return;
                };
                tokio::select! {
                    () = tokio::time::sleep_until(deadline) => {}
                    _ = gone.wait_for(|gone| *gone) => {}
                }
                let (Some(inner), Some(service)) = (weak.upgrade(), service.upgrade()) else {
                    return;
                };
                let session = Session::of(inner);
                if !session.is_open() || session.deadline() <= Instant::now() {
                    Self(service).end(&session).await;
                    return;
                }
            }
        });
        // Set once, here.
        let _ = session.0.watching.set(watching.abort_handle());
    }

    /// Finds a principal's session.
    ///
    /// # Errors
    ///
    /// `SessionNotFound`, also for one that is another's.
    pub fn session(&self, principal: &Principal, id: &str) -> Result<Session, BrowserError> {
        let found = lock(&self.0.leases).sessions.get(id).cloned();
        found
            .filter(|session| session.owner() == principal.partition())
            .ok_or_else(|| {
                BrowserError::new(
                    BrowserErrorKind::SessionNotFound,
                    "no such session: it was closed, has timed out, or never was; create a new one",
                )
            })
    }

    /// The ids of a principal's sessions.
    #[must_use]
    pub fn sessions(&self, principal: &Principal) -> Vec<String> {
        let leases = lock(&self.0.leases);
        let own = leases
            .sessions
            .values()
            .filter(|session| session.owner() == principal.partition());
        let mut own: Vec<(Instant, String)> = own
            .map(|session| (session.0.started, session.id().to_owned()))
            .collect();
        own.sort();
        own.into_iter().map(|(_, id)| id).collect()
    }

    /// How many sessions there are, of all principals.
    #[must_use]
    pub fn session_count(&self) -> usize {
        lock(&self.0.leases).total()
    }

    /// How many contexts are ready for new sessions. While one is being taken or put it may be one less.
    #[must_use]
    pub fn warm_contexts(&self) -> usize {
        self.0.warm.try_lock().map_or(0, |warm| warm.len())
    }

    /// Closes a principal's session and returns its videos, if it recorded any.
    ///
    /// # Errors
    ///
    /// `SessionNotFound`; `StoreAway` if its profile could not be saved.
    pub async fn close(
        &self,
        principal: &Principal,
        id: &str,
    ) -> Result<Vec<bytes::Bytes>, BrowserError> {
        let session = self.session(principal, id)?;
        let closed = session.close().await;
        self.forget(session).await;
        closed
    }

    async fn end(&self, session: &Session) {
        if let Err(error) = session.close().await {
            tracing::warn!(%error, "a session ended without its profile being saved");
        }
        self.forget(session.clone()).await;
    }

    async fn forget(&self, session: Session) {
        let slot = session.0.browser.slot();
        let unused = {
            let mut leases = lock(&self.0.leases);
            leases.sessions.remove(session.id());
            let others = leases
                .sessions
                .values()
                .any(|other| other.0.browser.slot() == slot);
            !others && !leases.pending.contains_key(&session.owner())
        };
        if unused {
            self.0.engine.release(slot).await;
        }
    }

    /// Closes all sessions, the browsers and the driver. Sessions cannot be created afterwards.
    pub async fn shutdown(&self) {
        let sessions: Vec<Session> = lock(&self.0.leases).sessions.values().cloned().collect();
        futures_util::future::join_all(sessions.iter().map(|session| self.end(session))).await;
        self.0.warm.lock().await.clear();
        self.0.engine.shutdown().await;
    }
}

impl fmt::Debug for BrowserService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrowserService")
            .field("sessions", &self.session_count())
            .finish_non_exhaustive()
    }
}

use std::net::IpAddr;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, FromRequestParts, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use mcp_core::secret::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Attempt, Login, UserError, Users, Who, record::seconds};
use crate::peer;

/// The largest body that is read, in bytes.
const MAX_BODY: usize = 16 << 10;

impl Users {
    /// Returns routes by which programs log users in, below `/api/v1/auth`. Bodies and answers are JSON objects; tokens stand in
    /// `Authorization: Bearer`.
    ///
    /// | Route | Body | Answer |
    /// |---|---|---|
    /// | `POST /login` | `name`, `password`, `tenant`, `code` | `accessToken`, `expiresAt`, `refreshToken`, `user` |
    /// | `POST /refresh` | `refreshToken` | the same |
    /// | `POST /logout` | | 204 |
    /// | `GET /me` | | `user`, `expiresAt`, `secondFactor` |
    /// | `GET /permissions` | | `roles`: those that the login holds, `withoutSecondFactor`: those that it lacks for want of one |
    ///
    /// Refusals have `error` and `message`: 401 (`refused`, `second_factor_needed`, `bad_token`), 429 with `Retry-After`
    /// (`locked`), 503 (`busy`, `unavailable`). There are no cookies, so that other sites cannot make a browser act for its user.
    ///
    /// The address that failures are counted by is that of the connection, where `mcp_core::serve` or axum's `ConnectInfo`
    /// tells it. Behind a proxy put the client's into the request as a [`PeerAddr`](mcp_core::transport::http::PeerAddr), and limit attempts with an
    /// [`AttemptLimitLayer`](crate::edge::AttemptLimitLayer).
    pub fn router(&self) -> Router {
        let routes = Router::new()
            .route("/login", post(login))
            .route("/refresh", post(refresh))
            .route("/logout", post(logout))
            .route("/me", get(me))
            .route("/permissions", get(permissions))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self.clone());
        Router::new().nest("/api/v1/auth", routes)
    }
}

/// The address of the other end, where the server tells it.
struct Peer(Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(peer::address(parts)))
    }
}

#[derive(Deserialize)]
struct LogIn {
    name: String,
    password: Secret,
    tenant: Option<String>,
    code: Option<Secret>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refresh {
    refresh_token: Secret,
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}

fn refused(error: &UserError) -> Response {
    let (status, code) = match error {
        UserError::Refused => (StatusCode::UNAUTHORIZED, "refused"),
        UserError::SecondFactorNeeded => (StatusCode::UNAUTHORIZED, "second_factor_needed"),
        UserError::BadToken => (StatusCode::UNAUTHORIZED, "bad_token"),
        UserError::Locked(_) => (StatusCode::TOO_MANY_REQUESTS, "locked"),
        UserError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        UserError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        _ => (StatusCode::BAD_REQUEST, "invalid"),
    };
    let message = match error {
        // What the store says is for the log.
        UserError::Store(error) => {
            tracing::warn!(%error, "users cannot be looked up");
            "users cannot be looked up now; try again later".to_owned()
        }
        error => error.to_string(),
    };
    let mut response = answer(status, &json!({ "error": code, "message": message }));
    let wait = match error {
        UserError::Locked(wait) => Some(wait.as_secs().max(1)),
        _ if status == StatusCode::SERVICE_UNAVAILABLE => Some(5),
        _ => None,
    };
    if let Some(wait) = wait {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
    }
    response
}

fn logged_in(made: &Login) -> Response {
    let body = json!({
        "accessToken": made.access.secret(), "tokenType": "Bearer",
        "expiresAt": seconds(made.expires),
        "refreshToken": made.refresh.secret(),
        "secondFactor": made.second_factor,
        "user": made.user,
    });
    answer(StatusCode::OK, &body)
}

async fn login(
    State(users): State<Users>,
    Peer(address): Peer,
    Json(body): Json<LogIn>,
) -> Response {
    let mut attempt = Attempt::new(&body.name, body.password);
    if let Some(tenant) = &body.tenant {
        attempt = attempt.in_tenant(tenant);
    }
    if let Some(code) = body.code {
        attempt = attempt.with_code(code);
    }
    if let Some(address) = address {
        attempt = attempt.from_address(address);
    }
    match users.log_in(&attempt).await {
        Ok(made) => logged_in(&made),
        Err(error) => refused(&error),
    }
}

async fn refresh(State(users): State<Users>, Json(body): Json<Refresh>) -> Response {
    match users.refresh(&body.refresh_token).await {
        Ok(made) => logged_in(&made),
        Err(error) => refused(&error),
    }
}

/// Returns the access token of a request.
fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let own = scheme.eq_ignore_ascii_case("bearer");
    own.then(|| Secret::new(token.trim()))
}

async fn asker(users: &Users, headers: &HeaderMap) -> Result<Who, UserError> {
    let token = bearer(headers).ok_or(UserError::BadToken)?;
    users.who(&token).await?.ok_or(UserError::BadToken)
}

async fn logout(State(users): State<Users>, headers: HeaderMap) -> Response {
    let token = bearer(&headers).unwrap_or_else(|| Secret::new(""));
    match users.log_out(&token).await {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => refused(&UserError::BadToken),
        Err(error) => refused(&error),
    }
}

async fn me(State(users): State<Users>, headers: HeaderMap) -> Response {
    match asker(&users, &headers).await {
        Ok(who) => {
            let body = json!({
                "user": who.user, "expiresAt": seconds(who.expires),
                "secondFactor": who.second_factor,
            });
            answer(StatusCode::OK, &body)
        }
        Err(error) => refused(&error),
    }
}

async fn permissions(State(users): State<Users>, headers: HeaderMap) -> Response {
    match asker(&users, &headers).await {
        Ok(who) => {
            let held = |role: &&String| who.principal().has_scope(&format!("role:{role}"));
            let (roles, without): (Vec<_>, Vec<_>) = who.user.roles.iter().partition(held);
            let body = json!({ "roles": roles, "withoutSecondFactor": without });
            answer(StatusCode::OK, &body)
        }
        Err(error) => refused(&error),
    }
}

//! What a user sees of their connected accounts, and the document that names the gateway as a client.

use std::sync::Arc;

use axum::{
    Form, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use mcp_core::secret::Secret;
use serde::Deserialize;

use super::{
    pages,
    router::{Shared, bad_form, failed, redirect},
};
use crate::oauth::random;

pub(super) async fn connections(State(own): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let cookie = own
        .cookie(&headers)
        .unwrap_or_else(|| Secret::new(random(32)));
    let who = match own.guard.who(&cookie).await {
        Ok(Some(who)) => who,
        Ok(None) => {
            let response = match own.guard.login(&cookie, "connections").await {
                Ok(url) => redirect(url.as_str()),
                Err(error) => failed(&error),
            };
            return own.set_cookie(response, &cookie);
        }
        Err(error) => return failed(&error),
    };
    let mut body = String::from("<ul>");
    let base = own.base.path().trim_end_matches('/');
    for name in own.manager.relations() {
        let there = match own.manager.has_authorized(&who, name).await {
            Ok(there) => there,
            Err(error) => return failed(&error),
        };
        let shown = pages::escape(name);
        body.push_str(&match there {
            true => format!(
                "<li>{shown}: connected <form method=\"post\" action=\"{base}/revoke\">\
                 <input type=\"hidden\" name=\"relation\" value=\"{shown}\">\
                 <input type=\"hidden\" name=\"proof\" value=\"{}\">\
                 <button type=\"submit\">Disconnect {shown}</button></form></li>",
                own.proof(&cookie, &format!("revoke {name}"))
            ),
            false => format!(
                "<li>{shown}: <a href=\"{base}/start?provider={shown}\">connect {shown}</a></li>"
            ),
        });
    }
    body.push_str("</ul>");
    own.set_cookie(
        pages::page(StatusCode::OK, "Connected accounts", &body),
        &cookie,
    )
}

#[derive(Deserialize)]
pub(super) struct Revoke {
    relation: String,
    proof: String,
}

pub(super) async fn revoke(
    State(own): State<Arc<Shared>>,
    headers: HeaderMap,
    Form(form): Form<Revoke>,
) -> Response {
    let Some(cookie) = own.cookie(&headers) else {
        return bad_form();
    };
    let about = format!("revoke {}", form.relation);
    if !own.is_own(&headers, &cookie, &about, &form.proof) {
        return bad_form();
    }
    let who = match own.guard.who(&cookie).await {
        Ok(Some(who)) => who,
        Ok(None) => return bad_form(),
        Err(error) => return failed(&error),
    };
    match own.manager.revoke(&who, &form.relation).await {
        Ok(_) => pages::page(
            StatusCode::OK,
            "Disconnected",
            "<p>The account is disconnected.</p>",
        ),
        Err(error) => {
            tracing::warn!(%error, "a revocation did not reach its server");
            pages::problem(
                StatusCode::BAD_GATEWAY,
                "The account is disconnected here, but the other side did not confirm that it has forgotten the access. \
                 Remove it there too.",
            )
        }
    }
}

pub(super) async fn client(State(own): State<Arc<Shared>>) -> Response {
    match own.manager.client_document() {
        Some(document) => Json(document).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

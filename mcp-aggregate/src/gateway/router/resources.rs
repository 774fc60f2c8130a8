//! Reading resources, and files of skills.

use mcp_core::{Entry, EntryKind, Era, Error, ErrorKind, Json, Request, Response, RpcCode};
use serde_json::json;

use super::Router;
use crate::catalogue::{Place, Snapshot};

impl Router {
    /// Reads a resource, a skill or a folder of one from the upstream that has it.
    pub(super) async fn read(&self, request: Request) -> Result<Response, Error> {
        let uri = request.param("uri").and_then(|uri| uri.to_text());
        let uri = uri.ok_or_else(|| {
            let text = format!("{} needs the string `params.uri`", request.method());
            Error::new(ErrorKind::InvalidParams, text)
        })?;
        let now = self.0.snapshot_now(&request);
        let mut candidates = visible_places(&now, &uri, &request);
        if candidates.is_empty() || candidates.iter().any(|place| place.node.is_retired()) {
            let snapshot = self.0.snapshot(&request).await;
            candidates = visible_places(&snapshot, &uri, &request);
        }
        let Some((last, others)) = candidates.split_last() else {
            return Err(self.no_resource(&uri, &request));
        };
        for place in others {
            match self.read_at(place, &uri, request.clone()).await {
                Err(error) if is_not_found(&error) && request.notifier().sent() == 0 => {}
                answer => return answer,
            }
        }
        self.read_at(last, &uri, request).await
    }

    async fn read_at(
        &self,
        place: &Place,
        uri: &str,
        mut request: Request,
    ) -> Result<Response, Error> {
        let renamed = place.skill.as_ref().filter(|skill| skill.is_renamed());
        let Some(skill) = renamed else {
            return self.forward_to(&place.node, request).await;
        };
        let original = skill.original_of(uri).unwrap_or_else(|| uri.to_owned());
        request.set_name(original.as_str());
        request.params_mut().set("uri", Json::string(&original));
        let answer = self.forward_to(&place.node, request).await?;
        let public = skill.publish(answer.result());
        Ok(answer.with_result(public))
    }

    fn no_resource(&self, uri: &str, request: &Request) -> Error {
        let text = match self.unavailable(request) {
            None => "there is no such resource".to_owned(),
            Some(missing) => {
                format!("there is no such resource; these upstreams are not available: {missing}")
            }
        };
        Error::new(ErrorKind::ResourceNotFound, text).with_data(json!({ "uri": uri }).into())
    }
}

/// Finds the upstreams that may have a resource, unless it is hidden from the caller.
pub(crate) fn visible_places(snapshot: &Snapshot, uri: &str, request: &Request) -> Vec<Place> {
    let mut places = snapshot.find_resource(uri);
    if !request.visibility().is_all() {
        places.retain(|place| {
            let described = Entry::new(EntryKind::Resource, uri).with_upstream(&place.node.id);
            request.visibility().allows(&described)
        });
    }
    places
}

/// Whether an upstream says that it does not have a resource: -32002 before revision 2026-07-28, -32602 since.
fn is_not_found(error: &Error) -> bool {
    matches!(
        error.code(Era::Session),
        RpcCode::RESOURCE_NOT_FOUND | RpcCode::INVALID_PARAMS
    )
}

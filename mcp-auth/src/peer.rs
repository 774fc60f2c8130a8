use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::request::Parts;
use mcp_core::transport::http::PeerAddr;

/// The address of the other end: what `mcp_core::serve` or axum's `ConnectInfo` has put into a request.
pub(crate) fn address(parts: &Parts) -> Option<IpAddr> {
    let served = || parts.extensions.get::<PeerAddr>().map(|peer| peer.0);
    let axums = || {
        let info = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        info.map(|info| info.0.ip())
    };
    served().or_else(axums)
}

//! Many MCP servers behind one endpoint.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod connector;

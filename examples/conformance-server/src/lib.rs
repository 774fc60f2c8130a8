//! An rmcp server that offers everything the official conformance suite calls.

//! Server transports: Streamable HTTP and stdio.
//!
//! Each speaks every revision of the protocol, recognises the era of a client by how it opens, and
//! turns each call into a [`Request`](crate::Request) for the stack behind it.

#[cfg(any(feature = "http", feature = "stdio"))]
mod call;
#[cfg(any(feature = "http", feature = "stdio"))]
mod caller;
#[cfg(any(feature = "http", feature = "stdio"))]
mod exchange;
#[cfg(feature = "http")]
pub mod http;
#[cfg(any(feature = "http", feature = "stdio"))]
mod lifecycle;
#[cfg(any(feature = "http", feature = "stdio"))]
mod outlet;
#[cfg(any(feature = "http", feature = "stdio"))]
mod own;
#[cfg(any(feature = "http", feature = "stdio"))]
mod params;
#[cfg(any(feature = "http", feature = "stdio"))]
mod session;
#[cfg(any(feature = "http", feature = "stdio"))]
mod standalone;
#[cfg(any(feature = "http", feature = "stdio"))]
mod stateless;
#[cfg(feature = "stdio")]
pub mod stdio;
#[cfg(any(feature = "http", feature = "stdio"))]
mod text;

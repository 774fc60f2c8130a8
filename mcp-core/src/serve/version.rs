//! Which version of HTTP a client speaks.

use std::{io, time::Duration};

use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

/// How an HTTP/2 connection begins (RFC 9113, 3.4); no method of HTTP/1.1 has this name.
const PREFACE: &[u8] = b"PRI";
/// Delay before another look at a connection of which less than that has arrived.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Looks at what has arrived, without taking it: `None` where that does not decide.
fn decide(arrived: &[u8]) -> Option<Version> {
    match arrived.len().min(PREFACE.len()) {
        0 => None,
        len if arrived[..len] != PREFACE[..len] => Some(Version::Http1),
        len => (len == PREFACE.len()).then_some(Version::Http2),
    }
}

/// Waits until the client's version is known.
///
/// # Errors
///
/// The connection broke, ended, or nothing that decides arrived `within` the time.
///
/// # Cancel safety
///
/// This method is cancel safe: nothing is read.
pub(super) async fn of(stream: &TcpStream, within: Duration) -> io::Result<Version> {
    let look = async {
        let mut arrived = [0; PREFACE.len()];
        loop {
            let len = stream.peek(&mut arrived).await?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match decide(&arrived[..len]) {
                Some(version) => return Ok(version),
                // What is there already does not wake anyone again.
                None => sleep(LOOK_AGAIN).await,
            }
        }
    };
    timeout(within, look).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_decide_and_fewer_do_not() {
        for (arrived, version) in [
            ("", None),
            ("P", None),
            ("PR", None),
            ("PRI", Some(Version::Http2)),
            ("PO", Some(Version::Http1)),
            ("PROPFIND", Some(Version::Http1)),
            ("G", Some(Version::Http1)),
            ("\r\n", Some(Version::Http1)),
        ] {
            assert_eq!(decide(arrived.as_bytes()), version, "{arrived:?}");
        }
    }
}

//! Who is at the other end of a connection on loopback.

/// Whether a connection is one of this process's own user, as far as the system tells. A proxy listens on loopback,
/// where other users of the machine could find it.
///
/// Chromium takes no password for a context's proxy without having every request pass through the driver and its cache
/// turned off, so that the system is asked instead of the client.
#[cfg(target_os = "linux")]
pub(super) fn is_own(peer: std::net::SocketAddr, own: std::net::SocketAddr) -> bool {
    let table = match std::fs::read_to_string("/proc/net/tcp") {
        Ok(table) => table,
        Err(error) => {
            tracing::warn!(%error, "whose a connection to a session's proxy is cannot be told");
            return true;
        }
    };
    owner(&table, peer, own) == Some(rustix::process::geteuid().as_raw())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_own(_: std::net::SocketAddr, _: std::net::SocketAddr) -> bool {
    true
}

/// Finds the user of the socket that is bound to `peer` and connected to `own`, in the kernel's table of sockets
/// (proc(5), `/proc/net/tcp`).
#[cfg(target_os = "linux")]
fn owner(table: &str, peer: std::net::SocketAddr, own: std::net::SocketAddr) -> Option<u32> {
    let (peer, own) = (written(peer)?, written(own)?);
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let same = fields.next()? == peer && fields.next()? == own;
        // State, queues, timer, retransmissions come before the user.
        same.then(|| fields.nth(4)?.parse().ok()).flatten()
    })
}

/// An address as the table has it: the bytes of a word in the machine's order, and the port.
#[cfg(target_os = "linux")]
fn written(address: std::net::SocketAddr) -> Option<String> {
    let std::net::SocketAddr::V4(address) = address else {
        return None;
    };
    let word = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{word:08X}:{:04X}", address.port()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_connection_is_known() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let stream = std::net::TcpStream::connect(own).unwrap();
        let (_kept, peer) = listener.accept().unwrap();
        assert_eq!(peer, stream.local_addr().unwrap());
        assert!(is_own(peer, own));
        // A connection that is not in the table, or another user's.
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        assert_eq!(owner(&table, own, own), None);
        let line = format!(
            "head\n 0: {} {} 01 00000000:00000000 00:00000000 00000000  4711        0 1 1 0 20 4 30 10 -1\n",
            written(peer).unwrap(),
            written(own).unwrap()
        );
        assert_eq!(owner(&line, peer, own), Some(4711));
        assert_eq!(owner("", peer, own), None);
    }
}

//! What a socket is told once it is accepted.

use tokio::net::TcpStream;

use super::config::ListenConfig;

/// Sends at once, and finds out about peers that are gone. Where the system refuses one of these, the
/// connection works without.
#[cfg(target_os = "linux")]
pub(super) fn prepare(socket: &TcpStream, config: &ListenConfig) {
    use rustix::net::sockopt;

    let _ = socket.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, config.keep_alive);
    let millis = u32::try_from(config.user_timeout.as_millis()).unwrap_or(u32::MAX);
    let _ = sockopt::set_tcp_user_timeout(socket, millis);
}

/// Sends at once.
#[cfg(not(target_os = "linux"))]
pub(super) fn prepare(socket: &TcpStream, _config: &ListenConfig) {
    let _ = socket.set_nodelay(true);
}

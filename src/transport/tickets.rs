//! The TLS sessions that a reconnect resumes.
//!
//! The store that comes with rustls keeps eight tickets per host, and a ticket of TLS 1.3 is used
//! once (RFC 8446, appendix C.4): of any number of sockets that come back to one host at once, it has
//! eight resume. This one keeps a ticket for each.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Tickets kept per host, the latest. Servers send about two with each handshake.
const TICKETS: usize = 1024;

/// Hosts whose sessions are kept: those that were heard of last.
const HOSTS: usize = 64;

#[derive(Default)]
pub(super) struct Tickets(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    hosts: HashMap<ServerName<'static>, Host>,
    /// Counts what was heard of hosts.
    turn: u64,
}

#[derive(Default)]
struct Host {
    group: Option<NamedGroup>,
    heard_at: u64,
    /// Of TLS 1.2, which may be resumed again and again.
    session: Option<Tls12ClientSessionValue>,
    /// Of TLS 1.3, the oldest first.
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl Tickets {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self, host: ServerName<'static>, edit: impl FnOnce(&mut Host)) {
        let mut kept = self.lock();
        kept.turn += 1;
        let turn = kept.turn;
        if kept.hosts.len() >= HOSTS && !kept.hosts.contains_key(&host) {
            kept.forget_one();
        }
        let host = kept.hosts.entry(host).or_default();
        host.heard_at = turn;
        edit(host);
    }
}

impl Kept {
    /// Forgets the host that was heard of longest ago.
    fn forget_one(&mut self) {
        let oldest = self.hosts.iter().min_by_key(|(_, host)| host.heard_at);
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.hosts.remove(&name);
        }
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, host: ServerName<'static>, group: NamedGroup) {
        self.edit(host, |host| host.group = Some(group));
    }

    fn kx_hint(&self, host: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().hosts.get(&host.to_owned())?.group
    }

    fn set_tls12_session(&self, host: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.edit(host, |host| host.session = Some(session));
    }

    fn tls12_session(&self, host: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lock().hosts.get(&host.to_owned())?.session.clone()
    }

    fn remove_tls12_session(&self, host: &ServerName<'static>) {
        if let Some(host) = self.lock().hosts.get_mut(host) {
            host.session = None;
        }
    }

    fn insert_tls13_ticket(&self, host: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.edit(host, |host| {
            if host.tickets.len() >= TICKETS {
                host.tickets.pop_front();
            }
            host.tickets.push_back(ticket);
        });
    }

    /// The latest, since it is the last to expire.
    fn take_tls13_ticket(&self, host: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.lock().hosts.get_mut(host)?.tickets.pop_back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_that_were_heard_of_last_are_kept() {
        let tickets = Tickets::default();
        let name = |n: usize| ServerName::try_from(format!("host{n}")).unwrap();
        for n in 0..HOSTS {
            tickets.set_kx_hint(name(n), NamedGroup::X25519);
        }
        tickets.set_kx_hint(name(0), NamedGroup::secp256r1);
        tickets.set_kx_hint(name(HOSTS), NamedGroup::X25519);
        assert_eq!(tickets.kx_hint(&name(0)), Some(NamedGroup::secp256r1));
        assert_eq!(tickets.kx_hint(&name(1)), None);
        assert_eq!(tickets.kx_hint(&name(HOSTS)), Some(NamedGroup::X25519));
        assert_eq!(tickets.lock().hosts.len(), HOSTS);
    }
}

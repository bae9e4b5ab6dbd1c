//! A connection that can be ended whatever the broker does. The client library waits for the end of a silent connection with
//! a thread and a socket: for an answer to its greeting, which never has a deadline, or to its goodbye, which turns the heartbeats
//! off. Knows no queue.

use std::{
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
};

use lapin::Connection;

/// An open connection. Its socket is shut down when this is dropped; say goodbye before, by [`super::Broker::close`].
pub(super) struct Link {
    pub(super) connection: Connection,
    _hang_up: HangUp,
}

impl Link {
    pub(super) fn new(connection: Connection, hang_up: HangUp) -> Self {
        Self { connection, _hang_up: hang_up }
    }
}

/// Where the socket of a connection in the making will be.
#[derive(Clone, Default)]
pub(super) struct Socket(Arc<Mutex<State>>);

#[derive(Default)]
enum State {
    /// Not opened yet.
    #[default]
    Awaited,
    /// A second handle on it.
    Open(TcpStream),
    /// Nobody wants it any more.
    HungUp,
}

impl Socket {
    /// Shuts the socket down when dropped, now or as soon as it is there.
    pub(super) fn hang_up_on_drop(&self) -> HangUp {
        HangUp(self.clone())
    }

    /// Takes a second handle on the socket.
    pub(super) fn keep(&self, socket: &impl AsFd) -> std::io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::HungUp) {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        *state = State::Open(socket.as_fd().try_clone_to_owned()?.into());
        Ok(())
    }
}

/// See [`Socket::hang_up_on_drop`].
pub(super) struct HangUp(Socket);

impl Drop for HangUp {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut *self.0.0.lock().unwrap_or_else(PoisonError::into_inner), State::HungUp);
        if let State::Open(socket) = state {
            // It fails when the connection has ended already, which is as good.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

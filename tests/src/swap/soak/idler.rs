//! A session that idles on INBOX and is told of everything.

use std::sync::atomic::{AtomicBool, Ordering};

use super::World;
use super::imap::Session;
use super::servers::Side;

pub struct Idler<'world> {
    pub session: Session<'world>,
}

impl<'world> Idler<'world> {
    pub fn new(world: &'world World, side: Side) -> Self {
        let mut session = Session::open(world, side);
        assert!(session.select("SELECT", "INBOX"));
        Self { session }
    }

    /// Idles again and again; after the round has ended, a last delivery wakes it.
    pub fn watch(&mut self, ended: &AtomicBool) {
        while !ended.load(Ordering::SeqCst) {
            self.session.idle(|| ended.load(Ordering::SeqCst));
        }
    }
}

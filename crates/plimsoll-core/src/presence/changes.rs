//! Joins and leaves of one channel that wait to be told.

use crate::limits;
use crate::model::{ClientId, ClientInfo};
use std::sync::Arc;

/// One thing that happened to an entry of the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Join(Arc<ClientInfo>),
    /// It is gone.
    Leave(Arc<ClientInfo>),
}

impl Change {
    fn client(&self) -> ClientId {
        match self {
            Self::Join(info) | Self::Leave(info) => info.client,
        }
    }
}

/// Changes in order. What cancels out is not there: who applies the rest to what was told before
/// has the roster as it is.
#[derive(Debug, Default)]
pub struct Changes {
    list: Vec<Change>,
    /// So many of them are known to somebody already.
    sealed: usize,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It waits.
    Waits,
    /// It and an earlier one cancel out.
    Cancelled,
    /// There is no room: see [`limits::PRESENCE_CHANGES_MAX`].
    Full,
}

impl Changes {
    /// Adds one, or cancels the one it undoes.
    pub fn add(&mut self, change: Change) -> Added {
        let client = change.client();
        let last = self.list.iter().rposition(|c| c.client() == client);
        let undoes = last.and_then(|at| self.list.get(at)).is_some_and(|last| {
            match (last, &change) {
                (Change::Join(_), Change::Leave(_)) => true,
                // Who is back with other info is told anew.
                (Change::Leave(old), Change::Join(new)) => old == new,
                _ => false,
            }
        });
        if let Some(at) = last.filter(|at| undoes && *at >= self.sealed) {
            self.list.remove(at);
            return Added::Cancelled;
        }
        if self.list.len() >= limits::PRESENCE_CHANGES_MAX {
            return Added::Full;
        }
        self.list.push(change);
        Added::Waits
    }

    /// Somebody has seen the roster as it is, ahead of what is told: for him what waits now has
    /// happened, and what undoes it must be told too.
    pub fn seal(&mut self) {
        self.sealed = self.list.len();
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Forgets all, and how many they were.
    pub fn forget(&mut self) -> usize {
        self.take().len()
    }

    /// Takes all, in order.
    pub fn take(&mut self) -> Vec<Change> {
        self.sealed = 0;
        std::mem::take(&mut self.list)
    }
}

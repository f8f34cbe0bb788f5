//! Entries by the connections that are there.

use super::Roster;
use crate::model::{ClientId, ClientInfo};

impl Roster {
    /// Whose connection this is, with the connection's own id.
    pub fn member(&self, client: ClientId) -> Option<ClientInfo> {
        self.members.get(&client).map(|info| ClientInfo { client, ..info.clone() })
    }

    /// All whose connections are there, with their own ids.
    pub fn connected(&self) -> Vec<ClientInfo> {
        let own = |(client, info): (&ClientId, &ClientInfo)| ClientInfo {
            client: *client,
            ..info.clone()
        };
        self.members.iter().map(own).collect()
    }
}

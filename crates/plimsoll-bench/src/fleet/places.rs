//! Which thread has which client. Pure.

use crate::topology::{ChannelId, ClientId, Topology};

/// Clients over processes (a contiguous share each) and their threads (every n-th of the share).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    clients: u32,
    processes: u32,
    threads: u32,
}

impl Places {
    pub fn new(clients: u32, processes: usize, threads: usize) -> Self {
        let at_least_one = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).max(1);
        Self { clients, processes: at_least_one(processes), threads: at_least_one(threads) }
    }

    /// All threads of all processes.
    pub fn threads(&self) -> u32 {
        self.processes.saturating_mul(self.threads)
    }

    /// First client of a process; for the number of processes: the number of clients.
    fn first(&self, process: u32) -> u32 {
        (u64::from(self.clients) * u64::from(process) / u64::from(self.processes)) as u32
    }

    /// The process of a client.
    pub fn process_of(&self, client: ClientId) -> u32 {
        let guess = u64::from(client) * u64::from(self.processes) / u64::from(self.clients.max(1));
        let mut process = (guess as u32).min(self.processes - 1);
        // Rounding makes the guess too low: by one, or by more where processes have no client.
        while process + 1 < self.processes && client >= self.first(process + 1) {
            process += 1;
        }
        process
    }

    /// The thread of a client, counted over all processes.
    pub fn thread_of(&self, client: ClientId) -> u32 {
        let process = self.process_of(client);
        process * self.threads + (client - self.first(process)) % self.threads
    }

    /// How many clients a thread has.
    pub fn count(&self, thread: u32) -> usize {
        let process = thread / self.threads;
        let share = self.first(process + 1) - self.first(process);
        let of_thread = share.saturating_sub(thread % self.threads).div_ceil(self.threads);
        of_thread as usize
    }

    /// How many of a thread's clients have a number below `clients`.
    pub fn count_below(&self, thread: u32, clients: u32) -> usize {
        let below = clients.saturating_sub(self.client(thread, 0)).div_ceil(self.threads);
        self.count(thread).min(below as usize)
    }

    /// Processes.
    pub fn processes(&self) -> u32 {
        self.processes
    }

    /// All clients.
    pub fn clients(&self) -> u32 {
        self.clients
    }

    /// The number of a thread's `at`-th client.
    pub fn client(&self, thread: u32, at: usize) -> ClientId {
        self.first(thread / self.threads) + thread % self.threads + at as u32 * self.threads
    }

    /// For each channel the thread that publishes into it for "any member"; none for an empty one.
    ///
    /// It is the thread of one of its members, and another member from channel to channel.
    pub fn owners(&self, topology: &Topology) -> Vec<Option<u32>> {
        let mut left: Vec<u32> = topology
            .all_channels()
            .map(|channel| channel.checked_rem(topology.size(channel)).unwrap_or(0))
            .collect();
        let mut owners = vec![None; left.len()];
        for client in 0..topology.clients() {
            for channel in topology.channels_of(client) {
                let at = *channel as usize;
                let (Some(left), Some(owner)) = (left.get_mut(at), owners.get_mut(at)) else {
                    continue;
                };
                if *left == 0 && owner.is_none() {
                    *owner = Some(self.thread_of(client));
                }
                *left = left.saturating_sub(1);
            }
        }
        owners
    }
}

/// The members of each channel among a thread's clients.
#[derive(Debug)]
pub struct Members {
    starts: Vec<u32>,
    clients: Vec<u32>,
}

impl Members {
    pub fn new(topology: &Topology, places: Places, thread: u32) -> Self {
        let mine = || (0..places.count(thread)).map(|at| (at, places.client(thread, at)));
        let mut starts = vec![0u32; topology.all_channels().len() + 1];
        for (_, client) in mine() {
            for channel in topology.channels_of(client) {
                if let Some(count) = starts.get_mut(*channel as usize + 1) {
                    *count += 1;
                }
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let (mut next, mut clients) = (starts.clone(), vec![0; sum as usize]);
        for (at, client) in mine() {
            for channel in topology.channels_of(client) {
                let Some(place) = next.get_mut(*channel as usize) else { continue };
                if let Some(slot) = clients.get_mut(*place as usize) {
                    *slot = at as u32;
                    *place += 1;
                }
            }
        }
        Self { starts, clients }
    }

    /// Places of the channel's members.
    pub fn of(&self, channel: ChannelId) -> &[u32] {
        let at = channel as usize;
        let range = self.starts.get(at).zip(self.starts.get(at + 1));
        range.and_then(|(a, b)| self.clients.get(*a as usize..*b as usize)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_client_has_one_place(
            clients in 0u32..300, processes in 1usize..5, threads in 1usize..5,
        ) {
            let places = Places::new(clients, processes, threads);
            let mut seen = vec![0; clients as usize];
            for thread in 0..places.threads() {
                let mine = |client| places.thread_of(client) == thread;
                for below in [0, clients / 3, clients] {
                    let expect = (0..below).filter(|client| mine(*client)).count();
                    prop_assert_eq!(places.count_below(thread, below), expect);
                }
                for at in 0..places.count(thread) {
                    let client = places.client(thread, at);
                    prop_assert_eq!(places.thread_of(client), thread);
                    seen[client as usize] += 1;
                }
            }
            prop_assert!(seen.iter().all(|times| *times == 1));
        }

        #[test]
        fn owners_have_a_member(rooms in 1u32..20, size in 1u32..8, threads in 1usize..4) {
            let topology = Topology::rooms("r", rooms, size);
            let places = Places::new(topology.clients(), 1, threads);
            for (channel, owner) in places.owners(&topology).into_iter().enumerate() {
                let members = Members::new(&topology, places, owner.unwrap());
                prop_assert!(!members.of(channel as u32).is_empty());
            }
        }
    }

    #[test]
    fn members_are_split_over_threads() {
        let topology = Topology::rooms("r", 2, 3);
        let places = Places::new(6, 1, 2);
        // Thread 0 has clients 0, 2, 4; thread 1 has 1, 3, 5.
        let members = Members::new(&topology, places, 0);
        assert_eq!((members.of(0), members.of(1)), (&[0, 1][..], &[2][..]));
        let members = Members::new(&topology, places, 1);
        assert_eq!((members.of(0), members.of(1)), (&[0][..], &[1, 2][..]));
        assert_eq!(members.of(9), &[] as &[u32]);
    }

    #[test]
    fn more_processes_than_clients_leave_some_without() {
        let places = Places::new(1, 3, 1);
        assert_eq!(places.thread_of(0), 2);
        assert_eq!([0, 1, 2].map(|t| places.count(t)), [0, 0, 1]);
    }

    #[test]
    fn an_empty_channel_has_no_owner() {
        let topology = Topology::new(vec!["a".into(), "b".into()], [vec![1]]);
        assert_eq!(Places::new(1, 1, 1).owners(&topology), [None, Some(0)]);
    }
}

//! The processes of a local stack, found by their connections, and what is done to them.
//!
//! Whoever has a connection is found by its two ends, so that a test reaches the very process that works for it. One end
//! is not enough: connections to different servers may have the same local port.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::world::{LOOK_AGAIN, until};

/// How long a signal may take to be seen.
const SEEN: Duration = Duration::from_secs(10);

/// A process of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process(u32);

impl Process {
    /// Who has the connection from the one address to the other; nobody if it is gone.
    pub(super) fn connected(from: SocketAddr, to: SocketAddr) -> Option<Self> {
        Self::of_socket(from, to, ESTABLISHED)
    }

    /// Who listens at an address.
    pub(super) fn listening_at(address: SocketAddr) -> Option<Self> {
        Self::of_socket(address, (Ipv4Addr::UNSPECIFIED, 0).into(), LISTENING)
    }

    fn of_socket(local: SocketAddr, remote: SocketAddr, state: &str) -> Option<Self> {
        let table = fs::read_to_string("/proc/net/tcp").ok()?;
        let inode = inode_of(&table, local, remote, state)?;
        let link = format!("socket:[{inode}]");
        let processes = fs::read_dir("/proc").ok()?;
        let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        ids.filter(|id| *id != std::process::id()).find(|id| has_file(*id, &link)).map(Self)
    }

    /// Ends it at once, whatever it is doing. Returns when it does nothing more.
    pub(super) async fn kill(self) {
        self.signal("KILL");
        self.until_state("dead", is_gone).await;
    }

    /// Stops it where it is, until the result is dropped. Returns when it has stopped; `None` if it is gone: another test
    /// may have killed it at this moment, for what else it did.
    pub(super) async fn freeze(self) -> Option<Frozen> {
        // First, so that it goes on even if the rest fails.
        let frozen = Frozen(self);
        self.signal("STOP");
        self.until_state("stopped or gone", |state| state == Some('T') || is_gone(state)).await;
        (self.state() == Some('T')).then_some(frozen)
    }

    fn signal(self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.0.to_string()).status();
        assert!(sent.unwrap().success() || is_gone(self.state()), "{self:?} could not be sent {name}");
    }

    async fn until_state(self, what: &str, is_it: impl Fn(Option<char>) -> bool) {
        until(SEEN, LOOK_AGAIN, &format!("{self:?} is {what}"), async || {
            let state = self.state();
            if is_it(state) { Ok(()) } else { Err(json!(format!("{state:?}"))) }
        })
        .await;
    }

    /// As `/proc/<pid>/stat` has it; `None` if there is no such process.
    fn state(self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        // The name before may have anything in it.
        stat.rsplit(") ").next()?.chars().next()
    }
}

/// Whether a process of this state is none any more.
fn is_gone(state: Option<char>) -> bool {
    matches!(state, None | Some('Z' | 'X'))
}

/// A process that has stopped. It goes on when this is dropped, also if the test fails.
#[derive(Debug)]
pub(super) struct Frozen(Process);

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may have been ended meanwhile.
        Command::new("kill").arg("-CONT").arg(self.0.0.to_string()).output().ok();
    }
}

/// States of sockets, as `/proc/net/tcp` has them.
const ESTABLISHED: &str = "01";
const LISTENING: &str = "0A";

fn inode_of(table: &str, local: SocketAddr, remote: SocketAddr, state: &str) -> Option<String> {
    let wanted = [shown(local)?, shown(remote)?, state.to_owned()];
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1..4)? == wanted;
        is_it.then(|| fields.get(9).map(ToString::to_string)).flatten()
    })
}

/// An address as the table has it: as a number of the machine's own byte order.
fn shown(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
}

fn has_file(id: u32, wanted: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{id}/fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted))
}

#[test]
fn a_connection_is_found_by_both_its_ends() {
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let line = |local: u16, remote: u16, state: &str, inode: u32| {
        let (local, remote) = (shown(at(local)).unwrap(), shown(at(remote)).unwrap());
        format!(
            "   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1"
        )
    };
    let table = [
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
            .to_owned(),
        line(40_000, 5_001, ESTABLISHED, 11),
        line(40_000, 5_002, "06", 12),
        line(40_000, 5_002, ESTABLISHED, 13),
        line(5_002, 40_000, ESTABLISHED, 14),
    ]
    .join("\n");
    let found = |local: u16, remote: u16| inode_of(&table, at(local), at(remote), ESTABLISHED);
    assert_eq!(found(40_000, 5_002).as_deref(), Some("13"));
    assert_eq!(found(40_000, 5_001).as_deref(), Some("11"));
    assert_eq!(found(40_000, 5_003), None);
}

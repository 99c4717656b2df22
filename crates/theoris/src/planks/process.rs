//! What /proc tells of the originals and of ours: who listens where, and who is still being served.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde::{Deserialize, Serialize};

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => path.display().fmt(out),
        }
    }
}

/// A listening socket in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    pub pid: i32,
    pub descriptor: i32,
    pub inode: u64,
}

/// One line of /proc/net/unix or /proc/net/tcp.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    listens: bool,
    /// 0: nobody has accepted it yet.
    inode: u64,
    at: Address,
}

/// The kernel's names for a socket that is connected: accepted, or not yet.
const CONNECTED: [&str; 2] = ["03", "02"];
const UNIX_LISTENS: &str = "00010000";
const TCP_ESTABLISHED: &str = "01";
const TCP_LISTENS: &str = "0A";

/// What a socket's name has in front that was bound beside its path and then renamed over it.
const GIVEN: &str = ".theoris-given-";

/// Where a socket is bound that an original gets from us: the kernel keeps that name for ever.
pub fn given_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{GIVEN}{name}"))
}

/// Where a socket of that name is found.
fn placed(bound: &str) -> PathBuf {
    let path = Path::new(bound);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix(GIVEN).map_or_else(|| path.to_owned(), |name| path.with_file_name(name))
}

fn unix_rows(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let flags = words.nth(3)?;
        let state = words.nth(1)?;
        let inode = words.next()?.parse().ok()?;
        let path = words.next()?;
        let listens = flags == UNIX_LISTENS;
        (listens || CONNECTED.contains(&state)).then(|| Row {
            listens,
            inode,
            at: Address::Unix(placed(path)),
        })
    };
    text.lines().skip(1).filter_map(row).collect()
}

fn tcp_rows(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (words.get(1)?, *words.get(3)?, words.get(9)?);
        let listens = state == TCP_LISTENS;
        (listens || state == TCP_ESTABLISHED).then_some(())?;
        Some(Row { listens, inode: inode.parse().ok()?, at: Address::Tcp(hex_address(local)?) })
    };
    text.lines().skip(1).filter_map(row).collect()
}

/// `0100007F:0019`: each 32 bits in the machine's order.
fn hex_address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = host.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let host: IpAddr = match host.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut octets = [0; 16];
            for (index, four) in octets.chunks_mut(4).enumerate() {
                four.copy_from_slice(&word(index)?);
            }
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(host, port))
}

/// The sockets of the name space that a process lives in.
fn rows(pid: i32) -> Vec<Row> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}"));
    let mut rows = unix_rows(&read("unix").unwrap_or_default());
    for name in ["tcp", "tcp6"] {
        rows.extend(tcp_rows(&read(name).unwrap_or_default()));
    }
    rows
}

/// The sockets that a process has open: descriptor and inode.
fn sockets(pid: i32) -> Vec<(i32, u64)> {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let socket = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, inode))
    };
    open.flatten().filter_map(socket).collect()
}

fn is_at(row: &Row, wanted: &Address) -> bool {
    match (&row.at, wanted) {
        (Address::Tcp(have), Address::Tcp(want)) if !row.listens => {
            have.port() == want.port()
                && (want.ip().is_unspecified()
                    || have.ip().to_canonical() == want.ip().to_canonical())
        }
        (have, want) => have == want,
    }
}

/// Who listens on all addresses, and as IPv6 for both kinds, listens on this one too.
fn is_everywhere(row: &Row, wanted: &Address) -> bool {
    match (&row.at, wanted) {
        (Address::Tcp(have), Address::Tcp(want)) => {
            have.port() == want.port() && have.ip().is_unspecified()
        }
        _ => false,
    }
}

/// The listening sockets of a process at an address, as it named it itself.
pub fn listening(pid: i32, at: &Address) -> Vec<Listening> {
    listening_among(pid, &rows(pid), at)
}

fn listening_among(pid: i32, rows: &[Row], at: &Address) -> Vec<Listening> {
    let open = sockets(pid);
    let held = |fits: fn(&Row, &Address) -> bool| -> Vec<Listening> {
        let fitting = rows.iter().filter(|row| row.listens && fits(row, at));
        let inodes: BTreeSet<u64> = fitting.map(|row| row.inode).collect();
        let held = open.iter().filter(|(_, inode)| inodes.contains(inode));
        held.map(|&(descriptor, inode)| Listening { pid, descriptor, inode }).collect()
    };
    let exactly = held(is_at);
    if exactly.is_empty() { held(is_everywhere) } else { exactly }
}

/// Every process of the machine that listens there.
pub fn listeners(at: &Address) -> Vec<Listening> {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    // The tables are those of a network name space, and may be long: each is read once.
    let mut tables: BTreeMap<PathBuf, Vec<Row>> = BTreeMap::new();
    let mut found = Vec::new();
    for pid in all().into_iter().filter(|pid| *pid != me) {
        let Ok(space) = fs::read_link(format!("/proc/{pid}/ns/net")) else { continue };
        let rows = tables.entry(space).or_insert_with(|| rows(pid));
        found.extend(listening_among(pid, rows, at));
    }
    found
}

/// Whether both live in one network: the ports of a container are its own.
pub fn share_network(one: i32, other: i32) -> bool {
    let of = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    of(one).is_some_and(|network| of(other) == Some(network))
}

/// Connections that these processes have accepted at an address.
pub fn accepted(pids: &[i32], at: &Address) -> usize {
    let Some(first) = pids.first() else { return 0 };
    let held: BTreeSet<u64> =
        pids.iter().flat_map(|pid| sockets(*pid)).map(|(_, inode)| inode).collect();
    let counts = |row: &&Row| !row.listens && held.contains(&row.inode) && is_at(row, at);
    rows(*first).iter().filter(counts).count()
}

/// Whether any process of the machine has a file open below this directory.
pub fn is_open_below(directory: &Path) -> bool {
    let below = |pid: i32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|target| target.starts_with(directory))
    };
    all().into_iter().any(below)
}

/// Connections that these processes serve at these addresses; on unix sockets also those that wait to be accepted.
/// Without addresses: all that any of their unix sockets accepted.
pub fn served(pids: &[i32], at: &[Address]) -> usize {
    let Some(first) = pids.first() else { return 0 };
    let held: BTreeSet<u64> =
        pids.iter().flat_map(|pid| sockets(*pid)).map(|(_, inode)| inode).collect();
    let counts = |row: &&Row| {
        let here = match &row.at {
            Address::Unix(_) if at.is_empty() => held.contains(&row.inode),
            // Nobody's yet: it waits in the listening socket's queue.
            Address::Unix(_) => row.inode == 0 || held.contains(&row.inode),
            Address::Tcp(_) => held.contains(&row.inode),
        };
        !row.listens && here && (at.is_empty() || at.iter().any(|at| is_at(row, at)))
    };
    rows(*first).iter().filter(counts).count()
}

/// Clients that have reached the unix sockets of one of our daemons, whose names are made of its pid, and that nobody has
/// accepted yet.
pub fn waiting(pid: i32) -> usize {
    let name = format!("/.theoris-{pid}-");
    let ours = |row: &&Row| {
        row.inode == 0
            && matches!(&row.at, Address::Unix(path) if path.to_string_lossy().contains(&name))
    };
    rows(pid).iter().filter(ours).count()
}

/// Whether anybody listens there. (Who that is takes much longer to tell.)
pub fn is_listened(at: &Address) -> bool {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    rows(me).iter().any(|row| row.listens && (is_at(row, at) || is_everywhere(row, at)))
}

/// A process and all that descend from it.
pub fn tree(root: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> =
        all().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(of) = found.get(next).copied() {
        next += 1;
        for (pid, parent) in &parents {
            if *parent == of && !found.contains(pid) {
                found.push(*pid);
            }
        }
    }
    found
}

fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The fields of /proc/PID/stat behind the name.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

fn parent(pid: i32) -> Option<i32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// When it started, in clock ticks since the boot: with the pid, one process and no other.
pub fn started(pid: i32) -> Option<u64> {
    stat(pid)?.get(19)?.parse().ok()
}

/// Whether it lives; a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields.first().is_some_and(|state| state != "Z"))
}

/// Whether it waits for something to do, and no signal is on its way to it. One with an event loop waits at its epoll(7)
/// descriptor; a sleep in the middle of its work is no rest.
pub fn is_at_rest(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let is = |name: &str, wanted: fn(&str) -> bool| {
        text.lines().filter_map(|line| line.strip_prefix(name)).all(|value| wanted(value.trim()))
    };
    is("State:", |state| state.starts_with('S'))
        && ["SigPnd:", "ShdPnd:"].iter().all(|name| is(name, |set| set.bytes().all(|b| b == b'0')))
        && is_awaiting_events(pid)
}

/// Whether the system call that it sleeps in is one upon an epoll(7) descriptor: the first argument of all of them.
fn is_awaiting_events(pid: i32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let first = call.split_ascii_whitespace().nth(1).and_then(|word| word.strip_prefix("0x"));
    let Some(descriptor) = first.and_then(|digits| u32::from_str_radix(digits, 16).ok()) else {
        return false;
    };
    let target = fs::read_link(format!("/proc/{pid}/fd/{descriptor}"));
    target.is_ok_and(|target| target.as_os_str() == "anon_inode:[eventpoll]")
}

/// Whether all its threads have been stopped, by a signal or a tracer.
pub fn is_stopped(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let text = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
        state.starts_with(['T', 't'])
    })
}

/// The children of a process that have this name.
pub fn children(of: i32, name: &str) -> Vec<i32> {
    let child = |pid: &i32| parent(*pid) == Some(of) && command(*pid) == name;
    all().into_iter().filter(child).collect()
}

/// The name of its program, as the kernel keeps it.
pub fn command(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// The systemd unit that it belongs to.
pub fn unit(pid: i32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    unit_of(&groups)
}

fn unit_of(groups: &str) -> Option<String> {
    let named =
        groups.lines().find(|line| line.starts_with("0::") || line.contains(":name=systemd:"))?;
    let path = Path::new(named.rsplit_once(':')?.1);
    let unit =
        path.iter().rev().filter_map(|name| name.to_str()).find(|name| name.ends_with(".service"));
    unit.map(str::to_owned)
}

/// The same socket as the process has: connections that wait in its queue are then ours too.
///
/// # Errors
///
/// The system's: a kernel before 5.6, or no right to trace the process.
pub fn take(listening: &Listening) -> std::io::Result<OwnedFd> {
    let pid = Pid::from_raw(listening.pid).ok_or(std::io::ErrorKind::NotFound)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let taken = pidfd_getfd(&process, listening.descriptor, PidfdGetfdFlags::empty())?;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn sockets_and_who_is_served_are_found() {
        let me = i32::try_from(std::process::id()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let unix = UnixListener::bind(&path).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = [Address::Unix(path.clone()), Address::Tcp(tcp.local_addr().unwrap())];
        for at in &at {
            assert_eq!(listening(me, at).len(), 1, "{at}");
        }
        assert_eq!(served(&[me], &at), 0);
        let _one = UnixStream::connect(&path).unwrap();
        assert_eq!(served(&[me], &at[..1]), 1, "waits to be accepted");
        let _one = unix.accept().unwrap();
        assert_eq!(served(&[me], &at[..1]), 1);
        let _two = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let two = tcp.accept().unwrap();
        assert_eq!(served(&[me], &at[1..]), 1);
        drop(two);
        let taken = take(&listening(me, &at[1])[0]).unwrap();
        assert_eq!(TcpListener::from(taken).local_addr().unwrap(), tcp.local_addr().unwrap());
        assert!(tree(parent(me).unwrap()).contains(&me));
        assert_eq!(accepted(&[me], &at[0]), 1);
        assert!(!is_open_below(directory.path()));
        let _file = std::fs::File::create(directory.path().join("file")).unwrap();
        assert!(is_open_below(directory.path()));
        assert!(is_alive(me) && !is_stopped(me) && started(me).is_some());
        assert!(!is_alive(i32::MAX - 1));
    }

    #[test]
    fn addresses_and_units_are_read() {
        let given = given_name(Path::new("/run/opendkim/opendkim.sock"));
        assert_eq!(placed(given.to_str().unwrap()), Path::new("/run/opendkim/opendkim.sock"));
        assert_eq!(placed("/run/other"), Path::new("/run/other"));
        assert_eq!(hex_address("0100007F:0019"), Some("127.0.0.1:25".parse().unwrap()));
        let loopback = "00000000000000000000000001000000:22BB";
        assert_eq!(hex_address(loopback), Some("[::1]:8891".parse().unwrap()));
        assert_eq!(hex_address("01:"), None);
        let v2 = "0::/system.slice/system-postfix.slice/postfix@-.service\n";
        assert_eq!(unit_of(v2).as_deref(), Some("postfix@-.service"));
        assert_eq!(unit_of("0::/user.slice/session-1.scope\n"), None);
    }

    #[test]
    fn who_listens_everywhere_listens_here_too() {
        let row =
            |at: &str, listens| Row { listens, inode: 1, at: Address::Tcp(at.parse().unwrap()) };
        let want = Address::Tcp("127.0.0.1:110".parse().unwrap());
        assert!(is_everywhere(&row("0.0.0.0:110", true), &want));
        assert!(is_everywhere(&row("[::]:110", true), &want));
        assert!(!is_at(&row("127.0.0.2:110", true), &want));
        let all = Address::Tcp("0.0.0.0:110".parse().unwrap());
        assert!(is_at(&row("127.0.0.2:110", false), &all) && !is_at(&row("[::]:110", true), &all));
        assert!(is_at(&row("[::ffff:127.0.0.1]:110", false), &want));
    }
}

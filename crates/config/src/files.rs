//! What reading a configuration needs of the machine: files, its name, its networks.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A configuration file larger than this is refused.
pub const LARGEST_FILE: usize = 4 << 20;
/// The most names of one directory that an include pattern looks at.
const LARGEST_DIRECTORY: usize = 10_000;

/// The machine as a configuration reader sees it; [`Disk`] is the real one.
pub trait Files {
    /// The whole file.
    ///
    /// # Errors
    ///
    /// The system's; `FileTooLarge` above [`LARGEST_FILE`].
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names in a directory, sorted by bytes.
    ///
    /// # Errors
    ///
    /// The system's.
    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>>;

    /// Whether the path names something that is not a directory.
    fn is_file(&self, path: &Path) -> bool;

    /// gethostname(2).
    fn host_name(&self) -> String;

    /// The addresses of the machine's interfaces with the length of their network prefix.
    fn addresses(&self) -> Vec<(IpAddr, u8)>;

    /// An environment variable, for the languages that name one.
    fn environment(&self, name: &str) -> Option<String>;
}

/// The real machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = std::fs::File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut content = Vec::new();
        file.take(LARGEST_FILE as u64 + 1).read_to_end(&mut content)?;
        if content.len() > LARGEST_FILE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(content)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)?.take(LARGEST_DIRECTORY) {
            names.push(entry?.file_name());
        }
        names.sort();
        Ok(names)
    }

    fn is_file(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|found| !found.is_dir())
    }

    fn host_name(&self) -> String {
        let name = nix::unistd::gethostname().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn addresses(&self) -> Vec<(IpAddr, u8)> {
        let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
        interfaces.filter_map(address_of).collect()
    }

    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

fn address_of(interface: nix::ifaddrs::InterfaceAddress) -> Option<(IpAddr, u8)> {
    let (address, mask) = (interface.address?, interface.netmask?);
    if let (Some(address), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
        return Some((address.ip().into(), mask.ip().to_bits().count_ones() as u8));
    }
    let (address, mask) = (address.as_sockaddr_in6()?, mask.as_sockaddr_in6()?);
    Some((address.ip().into(), mask.ip().to_bits().count_ones() as u8))
}

/// Files in memory, for tests and for `theoris check` on a copy.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    files: BTreeMap<PathBuf, Vec<u8>>,
    pub host_name: String,
    pub addresses: Vec<(IpAddr, u8)>,
}

impl Memory {
    /// The files given, on a host `host.example.com` with 192.0.2.1/24 beside the loopback.
    pub fn with<P: Into<PathBuf>, C: AsRef<[u8]>>(files: impl IntoIterator<Item = (P, C)>) -> Self {
        let files =
            files.into_iter().map(|(path, content)| (path.into(), content.as_ref().to_vec()));
        let addresses = vec![
            (IpAddr::from([127, 0, 0, 1]), 8),
            (IpAddr::from([192, 0, 2, 1]), 24),
            (std::net::Ipv6Addr::LOCALHOST.into(), 128),
        ];
        Self { files: files.collect(), host_name: "host.example.com".into(), addresses }
    }

    pub fn insert(&mut self, path: impl Into<PathBuf>, content: impl AsRef<[u8]>) {
        self.files.insert(path.into(), content.as_ref().to_vec());
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let inside =
            |path: &PathBuf| path.strip_prefix(directory).ok()?.iter().next().map(OsString::from);
        let mut names: Vec<_> = self.files.keys().filter_map(inside).collect();
        names.dedup();
        if names.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(names) }
    }

    fn is_file(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    fn host_name(&self) -> String {
        self.host_name.clone()
    }

    fn addresses(&self) -> Vec<(IpAddr, u8)> {
        self.addresses.clone()
    }

    fn environment(&self, _name: &str) -> Option<String> {
        None
    }
}

/// Why a file cannot be read, in the words an operator knows.
pub fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::FileTooLarge => format!("larger than {} MiB", LARGEST_FILE >> 20),
        _ => error.to_string(),
    }
}

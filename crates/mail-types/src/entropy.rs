//! Randomness, as something a test can foresee.

use std::fs::File;
use std::io::{self, Read};

/// Where a program gets bits that nobody can guess.
pub trait Entropy: Send + Sync {
    /// # Errors
    ///
    /// The system has none to give; nothing that needs secrecy may go on then.
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()>;

    /// # Errors
    ///
    /// As [`Entropy::fill`].
    fn number(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

/// The kernel's generator. Open it before the sandbox closes the file system.
#[derive(Debug)]
pub struct SystemEntropy(File);

impl SystemEntropy {
    /// # Errors
    ///
    /// `/dev/urandom` cannot be opened.
    pub fn open() -> io::Result<Self> {
        File::open("/dev/urandom").map(Self)
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        (&self.0).read_exact(bytes)
    }
}

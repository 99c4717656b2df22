//! A test that cannot run here says so, and `cargo xtask test` counts it.

use std::io::Write as _;

/// Notes that a test could not run; with `THEORIS_SKIPS` set, the line is kept for the final count.
pub fn skip(reason: &str) {
    eprintln!("SKIPPED: {reason}");
    if let Some(path) = std::env::var_os("THEORIS_SKIPS")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
    {
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        let _ = writeln!(file, "{name}: {reason}");
    }
}

/// Whether this test has root and each of these programs. When not, the test is noted as skipped.
pub fn can_run(root: bool, programs: &[&str]) -> bool {
    if root && !nix::unistd::geteuid().is_root() {
        skip("needs root");
        return false;
    }
    for program in programs {
        let found =
            ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin", "/usr/lib/dovecot"]
                .iter()
                .any(|directory| std::path::Path::new(directory).join(program).exists());
        if !found {
            skip(&format!("needs the program {program}"));
            return false;
        }
    }
    true
}

//! The image recipe and the compose file of `etc/container`: what they name is there.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::site::Site;
use harness::{Scratch, binaries};

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/container")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(sample().join(name)).unwrap()
}

/// Service and its command, which stands in brackets.
fn services() -> Vec<(String, Vec<String>)> {
    let text = text("compose.yaml");
    let mut services = Vec::new();
    let mut name = "";
    for line in text.lines().skip_while(|line| *line != "services:") {
        let inner = line.strip_prefix("  ").unwrap_or_default();
        if let Some(found) = inner.strip_suffix(':').filter(|found| !found.starts_with(' ')) {
            name = found;
        } else if let Some(words) = line.trim().strip_prefix("command: [") {
            let words = words.trim_end_matches(']').split(", ").map(str::to_owned).collect();
            services.push((name.to_owned(), words));
        }
    }
    services
}

#[test]
fn each_service_runs_a_program_of_the_image_that_accepts_its_files() {
    let scratch = Scratch::new();
    let site = Site::render(&sample(), scratch.path());
    let recipe = text("Dockerfile");
    let services = services();
    for (service, command) in &services {
        let program = &command[0];
        assert!(recipe.contains(&format!("/src/target/release/{program} ")), "{program}");
        let mut check = Command::new(binaries::path(program));
        check.arg("--check");
        for word in &command[1..] {
            check.arg(word.replace("/etc/", &format!("{}/etc/", site.root().display())));
        }
        let output = check.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{service}: {said}");
    }
    assert_eq!(services.len(), 7, "{services:?}");
    let transport = format!("virtual_transport = lmtp:inet:{}:", services[4].0);
    assert!(text("postfix/main.cf").contains(&transport), "{transport}");
}

#[test]
fn what_is_copied_and_mounted_is_there() {
    let recipe = text("Dockerfile");
    let copied =
        recipe.split_whitespace().filter_map(|word| word.strip_prefix("/src/target/release/"));
    let copied: Vec<&str> = copied.collect();
    assert_eq!(copied.len(), 12, "{copied:?}");
    for program in copied {
        assert!(binaries::path(program).exists(), "{program}");
    }
    let compose = text("compose.yaml");
    let mounted = compose.lines().filter_map(|line| line.trim().strip_prefix("- ./"));
    let mounted: Vec<&str> = mounted.filter_map(|line| line.split(':').next()).collect();
    assert_eq!(mounted, ["postfix", "dovecot"]);
    // The users and directories that the files name are made.
    for made in [" postfix", " dovecot", " dovenull", " vmail", "/var/mail/vhosts", "/run/dovecot"]
    {
        assert!(recipe.contains(made), "{made}");
    }
}

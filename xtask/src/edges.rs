//! Which crate may use which: an explicit list, so that a new edge is a decision.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::run::{Done, cargo, failed};

/// Foreign crates that any crate of ours may import.
const FOUNDATION: &[&str] =
    &["bytes", "nix", "rustix", "serde", "serde_json", "thiserror", "tokio", "tracing"];

/// Our crates, each with those of ours that it may use (tests and tools may use all).
const EDGES: &[(&str, &[&str])] = &[
    ("mail-types", &[]),
    ("protocol", &["mail-types"]),
    ("message", &["mail-types"]),
    ("config", &[]),
    ("routing", &["mail-types", "config"]),
    ("tables", &["mail-types", "config", "routing"]),
    ("queue", &["mail-types", "protocol"]),
    ("mailstore", &["mail-types", "message"]),
    ("neighbours", &["mail-types", "message", "config", "protocol", "tables", "daemon"]),
    ("pam", &[]),
    ("daemon", &["message", "config"]),
    ("crypto", &[]),
    ("dns", &["mail-types", "config"]),
    ("sender-authentication", &["mail-types", "message", "crypto", "dns"]),
    ("login", &["mail-types", "protocol", "config", "daemon", "neighbours", "mailstore"]),
    (
        "smtpd",
        &[
            "mail-types",
            "protocol",
            "message",
            "config",
            "routing",
            "tables",
            "neighbours",
            "daemon",
            "queue",
            "dns",
        ],
    ),
    (
        "queue-manager",
        &[
            "mail-types",
            "protocol",
            "message",
            "config",
            "routing",
            "tables",
            "neighbours",
            "daemon",
            "queue",
        ],
    ),
    (
        "lmtp-delivery",
        &[
            "mail-types",
            "protocol",
            "message",
            "config",
            "routing",
            "tables",
            "neighbours",
            "daemon",
            "queue",
            "mailstore",
        ],
    ),
    (
        "imapd",
        &[
            "mail-types",
            "protocol",
            "message",
            "config",
            "neighbours",
            "daemon",
            "login",
            "mailstore",
        ],
    ),
    (
        "pop3d",
        &[
            "mail-types",
            "protocol",
            "message",
            "config",
            "neighbours",
            "daemon",
            "login",
            "mailstore",
        ],
    ),
    ("authd", &["mail-types", "protocol", "config", "crypto", "neighbours", "daemon", "pam"]),
    (
        "smtp-delivery",
        &[
            "mail-types",
            "protocol",
            "message",
            "config",
            "crypto",
            "dns",
            "routing",
            "tables",
            "neighbours",
            "daemon",
            "queue",
        ],
    ),
    (
        "dkim-milter",
        &[
            "mail-types",
            "protocol",
            "message",
            "config",
            "crypto",
            "dns",
            "sender-authentication",
            "tables",
            "daemon",
        ],
    ),
    (
        "theoris",
        &[
            "mail-types",
            "protocol",
            "message",
            "config",
            "daemon",
            "queue",
            "routing",
            "tables",
            "crypto",
            "dns",
            "sender-authentication",
        ],
    ),
];

/// Crates that are tests and tools; nothing of ours that runs on a host may depend on them.
const TOOLS: &[&str] = &["harness", "theoris-tests", "xtask"];

/// Reads every manifest and reports every edge that is not allowed.
pub fn check() -> Done {
    let mut command = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| failed(&command, error))?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(&command, error))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata has no packages")?;
    let ours: BTreeSet<&str> =
        packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut problems = Vec::new();
    let mut importers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        let Some(name) = package["name"].as_str() else { continue };
        if TOOLS.contains(&name) {
            continue;
        }
        let Some((_, allowed)) = EDGES.iter().find(|(crate_name, _)| *crate_name == name) else {
            problems.push(format!("{name} is not in the list of edges"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let Some(used) = dependency["name"].as_str() else { continue };
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            if ours.contains(used) {
                if !allowed.contains(&used) {
                    problems.push(format!("{name} may not use {used}"));
                }
            } else if !FOUNDATION.contains(&used) {
                importers.entry(used).or_default().push(name);
            }
        }
    }
    for (foreign, importers) in importers {
        if importers.len() > 1 {
            problems.push(format!(
                "{foreign} is imported by {}: one crate of ours wraps it",
                importers.join(" and ")
            ));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

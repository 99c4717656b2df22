//! CPU and memory of a process with all its descendants, from /proc.

use std::collections::BTreeMap;
use std::fs;

/// A supervisor or master with everything it started.
pub struct Tree {
    roots: Vec<i32>,
}

struct Stat {
    parent: i32,
    /// User and system ticks of the process, and of its children that have ended.
    own: u64,
    ended: u64,
}

impl Tree {
    pub fn of(roots: &[i32]) -> Self {
        Self { roots: roots.to_vec() }
    }

    /// CPU seconds used so far. Children that ended are counted by their parents.
    pub fn cpu(&self) -> f64 {
        let ticks: u64 = self.members().values().map(|stat| stat.own + stat.ended).sum();
        ticks as f64 / 100.0 // USER_HZ, the same on every Linux architecture that we build for
    }

    /// Sum of the proportional set sizes, in MiB.
    pub fn memory(&self) -> f64 {
        let kib: u64 = self.members().keys().filter_map(|pid| pss(*pid)).sum();
        kib as f64 / 1024.0
    }

    fn members(&self) -> BTreeMap<i32, Stat> {
        let mut all: BTreeMap<i32, Stat> = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid
                && let Some(stat) = stat(pid)
            {
                all.insert(pid, stat);
            }
        }
        let belongs = |mut pid: i32| {
            for _ in 0..32 {
                if self.roots.contains(&pid) {
                    return true;
                }
                match all.get(&pid) {
                    Some(stat) => pid = stat.parent,
                    None => return false,
                }
            }
            false
        };
        let members: Vec<i32> = all.keys().copied().filter(|pid| belongs(*pid)).collect();
        all.retain(|pid, _| members.contains(pid));
        all
    }
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: number(11)? + number(12)?,
        ended: number(13)? + number(14)?,
    })
}

fn pss(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

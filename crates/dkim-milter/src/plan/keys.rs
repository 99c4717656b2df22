//! The key files: which there are, whether they are keys, and whether others can read them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use config::opendkim::{Config, names};
use config::{Files, Place, Problems};
use crypto::PrivateKey;

use crate::safety::Safety;
use crate::settings::{Keys, Settings};
use crate::signing::key_path;

/// Below this the key can be broken with some money (RFC 8301 section 3.2).
const GOOD_BITS: usize = 2048;

/// Files that the worker gets, each named by its path. One that cannot be used is told here and missed there.
pub fn files(
    files: &dyn Files,
    config: &Config,
    uid: u32,
    settings: &mut Settings,
    problems: &mut Problems,
) -> Vec<(String, PathBuf)> {
    let safety = Safety { files, uid };
    let demand = config.switch(names::REQUIRESAFEKEYS);
    let mut found = Vec::new();
    match &settings.signing.keys {
        Keys::None => {}
        Keys::Single { path, .. } => {
            let Some(path) = path else { return found };
            let place = config.place(names::KEYFILE);
            if let Some(fault) = safety.fault(Path::new(path)) {
                let text = format!("{path}: key data is not secure: {fault}");
                if demand {
                    problems.error(place.clone(), text).instead("make the key its owner's alone");
                } else {
                    problems.warning(place.clone(), text);
                }
            }
            match key(files, path) {
                Ok(bits) => warn_of_size(bits, path, place, problems),
                Err(why) => {
                    problems
                        .error(place, format!("{path}: {why}"))
                        .instead("name a private key in PEM");
                }
            }
            found.push((path.clone(), PathBuf::from(path)));
        }
        Keys::Tables { keys, .. } => {
            let place = config.place(names::KEYTABLE);
            let paths: BTreeSet<String> = keys
                .entries()
                .filter_map(|(_, entry)| {
                    let mut parts = entry.splitn(3, ':').map(str::trim);
                    Some((parts.next()?, parts.nth(1)?))
                })
                .flat_map(|(domain, key)| paths(files, domain, key))
                .collect();
            for path in paths {
                match key(files, &path) {
                    Ok(bits) => warn_of_size(bits, &path, place.clone(), problems),
                    Err(why) => {
                        // as OpenDKIM: told, and mail that needs it is deferred
                        problems.warning(place.clone(), format!("{path}: {why}"));
                        continue;
                    }
                }
                if let Some(fault) = safety.fault(Path::new(&path)) {
                    problems
                        .warning(place.clone(), format!("{path}: key data is not secure: {fault}"));
                    if demand {
                        settings.signing.unsafe_keys.insert(path.clone(), fault);
                    }
                }
                found.push((path.clone(), PathBuf::from(&path)));
            }
        }
    }
    found
}

/// The file of an entry; of one with `%`, the files of all domains that have one.
fn paths(files: &dyn Files, domain: &str, key: &str) -> Vec<String> {
    if domain != "%" || !key.contains('%') {
        return key_path(key, domain).into_iter().collect();
    }
    let Some(at) = key.find('%') else { return Vec::new() };
    let (before, after) = key.split_at(at);
    let Some((directory, prefix)) = before.rsplit_once('/') else { return Vec::new() };
    let rest = after.strip_prefix('%').unwrap_or(after);
    let suffix = rest.split(['/', '%']).next().unwrap_or_default();
    let entries = files.list(Path::new(directory)).unwrap_or_default();
    let domains = entries.iter().filter_map(|entry| {
        let name = entry.to_str()?;
        name.strip_prefix(prefix)?.strip_suffix(suffix).filter(|name| !name.is_empty())
    });
    domains
        .filter_map(|domain| key_path(key, domain))
        .filter(|path| files.is_file(Path::new(path)))
        .collect()
}

fn key(files: &dyn Files, path: &str) -> Result<Option<usize>, String> {
    let octets = files.read(Path::new(path)).map_err(|error| error.to_string())?;
    let key = PrivateKey::parse(&octets).map_err(|error| error.to_string())?;
    Ok(key.rsa_public().map(crypto::RsaPublicKey::bits))
}

fn warn_of_size(bits: Option<usize>, path: &str, place: Option<Place>, problems: &mut Problems) {
    if let Some(bits) = bits.filter(|bits| *bits < GOOD_BITS) {
        problems
            .warning(place, format!("{path}: an RSA key of {bits} bits can be broken"))
            .instead("make a new one with opendkim-genkey -b 2048");
    }
}

//! The host's configuration, read.

use config::files::Disk;
use config::inventory::Written;
use config::register::Fact;
use config::{Files as _, Problems, dovecot, opendkim, postfix};

use super::machine::Machine;
use super::report::{Coverage, Product, Setting};
use crate::command::paths::{Named, Paths};
use crate::plank::Plank;

/// What was found; `None` is a product that is not there.
#[derive(Clone, Debug)]
pub struct Files {
    pub paths: Paths,
    pub postfix: Option<postfix::Host>,
    pub dovecot: Option<dovecot::Config>,
    pub opendkim: Option<opendkim::Config>,
    /// Of each product by name: what its reader said. The daemons say it too.
    problems: Vec<(&'static str, Problems)>,
}

pub const POSTFIX: &str = "Postfix";
pub const DOVECOT: &str = "Dovecot";
pub const OPENDKIM: &str = "OpenDKIM";

impl Files {
    pub fn read(paths: &Paths) -> Self {
        let mut problems = Vec::new();
        let mut told = Problems::default();
        let main = Named { path: paths.postfix.path.join("main.cf"), ..paths.postfix };
        let postfix =
            is_there(&main).then(|| postfix::Host::read(&Disk, &paths.postfix.path, &mut told));
        problems.push((POSTFIX, std::mem::take(&mut told)));
        let path = &paths.dovecot.path;
        let dovecot =
            is_there(&paths.dovecot).then(|| dovecot::Config::read(&Disk, path, &mut told));
        problems.push((DOVECOT, std::mem::take(&mut told)));
        let path = &paths.opendkim.path;
        let opendkim =
            is_there(&paths.opendkim).then(|| opendkim::Config::read(&Disk, path, &mut told));
        problems.push((OPENDKIM, told));
        Self { paths: paths.clone(), postfix, dovecot, opendkim, problems }
    }

    /// What the reader of a product's files said.
    pub fn told_of(&self, product: &str) -> Problems {
        let told = self.problems.iter().find(|(name, _)| *name == product);
        told.map(|(_, problems)| problems.clone()).unwrap_or_default()
    }

    /// A line for each product.
    pub fn products(&self, machine: &Machine) -> Vec<Product> {
        let product =
            |name, written: Option<Vec<Written>>, named: &Named, version: &Option<String>| {
                Product {
                    name,
                    version: version.clone().filter(|_| written.is_some()),
                    path: named.path.display().to_string(),
                    installed: written.is_some(),
                    coverage: Coverage::of(&written.unwrap_or_default()),
                }
            };
        let [postfix, dovecot, opendkim] = self.written();
        vec![
            product(POSTFIX, postfix, &self.paths.postfix, &machine.postfix),
            product(DOVECOT, dovecot, &self.paths.dovecot, &machine.dovecot),
            product(OPENDKIM, opendkim, &self.paths.opendkim, &machine.opendkim),
        ]
    }

    fn written(&self) -> [Option<Vec<Written>>; 3] {
        [
            self.postfix.as_ref().map(postfix::Host::inventory),
            self.dovecot.as_ref().map(dovecot::Config::inventory),
            self.opendkim.as_ref().map(opendkim::Config::inventory),
        ]
    }

    /// Every line of every file, for those of `planks` that read it, and those that none reads.
    pub fn settings(&self, planks: &[Plank]) -> Vec<Setting> {
        let [postfix, dovecot, opendkim] = self.written();
        let mut settings = Vec::new();
        let products = [(POSTFIX, postfix), (DOVECOT, dovecot), (OPENDKIM, opendkim)];
        for (product, written) in products {
            for one in written.unwrap_or_default() {
                let readers = one.fact().map(|fact| readers(product, fact)).unwrap_or_default();
                if !readers.is_empty() && !readers.iter().any(|plank| planks.contains(plank)) {
                    continue;
                }
                settings.push(Setting {
                    product,
                    meaning: one.meaning(),
                    sentence: one.sentence().to_owned(),
                    name: one.name,
                    of: one.of,
                    place: one.at,
                    planks: readers,
                });
            }
        }
        settings
    }
}

/// A file that the operator named is read even if it is missing: the reader tells.
fn is_there(named: &Named) -> bool {
    named.by_operator || Disk.is_file(&named.path)
}

/// The planks whose originals read a setting.
fn readers(product: &str, fact: &Fact) -> Vec<Plank> {
    let reads = |plank: &Plank| match product {
        POSTFIX => plank.commands().iter().any(|command| fact.is_read_by(command)),
        DOVECOT => plank.dovecot_readers().iter().any(|reader| fact.is_read_by(reader)),
        _ => *plank == Plank::Dkim,
    };
    Plank::ALL.into_iter().filter(reads).collect()
}

//! All tables that a daemon's settings name.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use routing::{Key, LookupError, Maps, TableName, Tables};

use crate::content::Content;
use crate::open::{NonePassed, Opened, Owner, Passed, Problem, Source};
use crate::spec::Spec;
use crate::users::{SystemUsers, Users};

/// unionmap and pipemap may hold each other only this deep.
const DEEPEST: usize = 10;

/// The open tables of one daemon. Cheap to ask from many tasks; share it in an [`Arc`].
pub struct Set {
    open: HashMap<TableName, Arc<Opened>>,
    aliases: HashSet<TableName>,
    users: Arc<dyn Users>,
    passed: Arc<dyn Passed>,
    interval: Duration,
}

impl Default for Set {
    fn default() -> Self {
        Self::new(Arc::new(SystemUsers))
    }
}

impl Set {
    #[must_use]
    pub fn new(users: Arc<dyn Users>) -> Self {
        let (open, aliases) = (HashMap::new(), HashSet::new());
        let interval = Duration::from_secs(1);
        Self { open, aliases, users, passed: Arc::new(NonePassed), interval }
    }

    /// Takes files from `passed` where that has them. Call it before [`Set::open`].
    #[must_use]
    pub fn with_passed(mut self, passed: Arc<dyn Passed>) -> Self {
        self.passed = passed;
        self
    }

    /// How often a lookup looks whether its file changed (once in a second, if not set).
    #[must_use]
    pub fn looking_every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Opens the tables of `alias_maps` or `alias_database`: their files have alias(5) syntax.
    /// Call it before [`Set::open`], as the same file may stand in `local_recipient_maps`.
    pub fn open_aliases(&mut self, maps: &Maps) -> Vec<Problem> {
        for name in maps.iter() {
            self.aliases.insert(without_proxy(name));
        }
        self.open(maps)
    }

    /// Opens the tables that one setting lists. Each is usable at once; one with a problem that makes
    /// it unusable answers every lookup with an error, until its file is mended.
    pub fn open(&mut self, maps: &Maps) -> Vec<Problem> {
        let mut problems = Vec::new();
        for name in maps.iter() {
            self.open_one(name, 0, &mut problems);
        }
        problems
    }

    fn open_one(
        &mut self,
        name: &TableName,
        depth: usize,
        problems: &mut Vec<Problem>,
    ) -> Arc<Opened> {
        if let Some(opened) = self.open.get(name) {
            return Arc::clone(opened);
        }
        let unusable = |text: String| Problem {
            table: name.clone(),
            file: None,
            line: None,
            text,
            unusable: true,
        };
        let spec = if depth > DEEPEST {
            Err("tables are nested too deep".to_owned())
        } else {
            Spec::parse(name, self.aliases.contains(&without_proxy(name)))
        };
        let opened = match spec {
            Ok(Spec::File { path, form, commit }) => {
                let passed = Arc::clone(&self.passed);
                let source = Source { path, form, commit, passed };
                let (opened, found) = Opened::file(name.clone(), source);
                problems.extend(found);
                opened
            }
            Ok(Spec::Ready(content, notes)) => {
                problems.extend(notes.into_iter().map(|note| Problem {
                    line: Some(note.line),
                    unusable: false,
                    ..unusable(note.text)
                }));
                Opened::fixed(name.clone(), content)
            }
            Ok(Spec::Union(names)) => {
                let parts = names.iter().map(|part| self.open_one(part, depth + 1, problems));
                Opened::fixed(name.clone(), Content::Union(parts.collect()))
            }
            Ok(Spec::Pipe(names)) => {
                let parts = names.iter().map(|part| self.open_one(part, depth + 1, problems));
                Opened::fixed(name.clone(), Content::Pipe(parts.collect()))
            }
            Ok(Spec::Accounts(kind)) => {
                Opened::fixed(name.clone(), Content::Accounts(kind, Arc::clone(&self.users)))
            }
            Err(text) => {
                problems.push(unusable(text.clone()));
                Opened::fixed(name.clone(), Content::Fails(text))
            }
        };
        let opened = Arc::new(opened);
        self.open.insert(name.clone(), Arc::clone(&opened));
        opened
    }

    /// Whose a table is; nothing where several users' parts make it up, or where it is not open.
    #[must_use]
    pub fn owner(&self, name: &TableName) -> Option<Owner> {
        self.open.get(name).and_then(owner_of)
    }

    /// Takes the new content of every changed file now, and says what there is to say.
    #[must_use]
    pub fn refresh(&self) -> Vec<String> {
        self.open.values().flat_map(|opened| opened.refresh(Duration::ZERO)).collect()
    }

    /// The files behind the tables: what a sandbox must let the daemon read, and a watch should see.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let paths = self.open.values().filter_map(|opened| opened.path());
        let mut files: Vec<PathBuf> = paths.map(PathBuf::from).collect();
        files.sort();
        files.dedup();
        files
    }

    /// Asks with bytes that need not be text, such as a line of a message's body.
    ///
    /// # Errors
    ///
    /// [`LookupError`] when the table cannot answer.
    pub async fn lookup_bytes(
        &self,
        table: &TableName,
        key: &[u8],
        part: Key,
    ) -> Result<Option<Vec<u8>>, LookupError> {
        let failed = |why| LookupError { table: table.clone(), why };
        let Some(opened) = self.open.get(table) else {
            return Err(failed("the table is not open".to_owned()));
        };
        for report in self.refresh_parts(opened) {
            tracing::warn!(target: "mail", "warning: {report}");
        }
        let content = opened.current();
        if !content.waits() {
            return content.find(key, part).map_err(failed);
        }
        let key = key.to_vec();
        let found = tokio::task::spawn_blocking(move || content.find(&key, part)).await;
        found.unwrap_or_else(|error| Err(error.to_string())).map_err(failed)
    }

    fn refresh_parts(&self, opened: &Arc<Opened>) -> Vec<String> {
        match &*opened.current() {
            Content::Union(parts) | Content::Pipe(parts) => {
                parts.iter().flat_map(|part| self.refresh_parts(part)).collect()
            }
            _ => opened.refresh(self.interval),
        }
    }
}

/// Of parts, the one user whose some of them are.
fn owner_of(opened: &Arc<Opened>) -> Option<Owner> {
    let content = opened.current();
    let (Content::Union(parts) | Content::Pipe(parts)) = &*content else {
        return Some(opened.owner());
    };
    parts.iter().map(owner_of).try_fold(Owner::Root, |all, part| match (all, part?) {
        (Owner::Root, one) | (one, Owner::Root) => Some(one),
        (one, other) => (one == other).then_some(one),
    })
}

fn without_proxy(name: &TableName) -> TableName {
    TableName::new(name.as_str().strip_prefix("proxy:").unwrap_or(name.as_str()))
}

impl Tables for Set {
    async fn lookup(
        &self,
        table: &TableName,
        key: &str,
        part: Key,
    ) -> Result<Option<String>, LookupError> {
        let found = self.lookup_bytes(table, key.as_bytes(), part).await?;
        Ok(found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use routing::{Key, Maps};

    use super::{Owner, Passed, Set};
    use crate::users::Users;

    struct OneUser;
    impl Users for OneUser {
        fn passwd(&self, name: &str) -> Result<Option<String>, String> {
            Ok((name == "root").then(|| "root:x:0:0:root:/root:/bin/bash".to_owned()))
        }
        fn group(&self, _: &str) -> Result<Option<String>, String> {
            Err("no name service".to_owned())
        }
    }

    async fn ask(set: &Set, maps: &Maps, key: &str) -> Result<Option<String>, String> {
        maps.find(set, key, Key::Whole).await.map_err(|error| error.to_string())
    }

    /// Values of `postmap -q` (Postfix 3.7.11).
    #[tokio::test]
    async fn every_type_answers_as_postmap_does() {
        let mut set = Set::new(Arc::new(OneUser));
        for (table, key, answer) in [
            ("inline:{x=1,{y = 2 3}, Z=5}", "Y", Some("2 3")),
            ("inline:{x=1,{y = 2 3}, Z=5}", "Z", Some("5")),
            ("static:{a b}", "any", Some("a b")),
            ("unionmap:{static:a,inline:{x=1}}", "x", Some("a,1")),
            ("unionmap:{static:a,inline:{x=1}}", "y", Some("a")),
            ("pipemap:{inline:{x=y},inline:{y=z}}", "x", Some("z")),
            ("pipemap:{inline:{x=y},inline:{y=z}}", "y", None),
            ("randmap:{q}", "x", Some("q")),
            ("pcre:{{/^x(.)?/ got$1}}", "x", Some("got")),
            ("cidr:{{1.2.3.4 x}}", "1.2.3.4", Some("x")),
            ("proxy:unix:passwd.byname", "Root", Some("root:x:0:0:root:/root:/bin/bash")),
            ("unix:passwd.byname", "nobody", None),
        ] {
            let maps = Maps::parse(&format!("{{{table}}}"));
            assert_eq!(set.open(&maps), [], "{table}");
            assert_eq!(ask(&set, &maps, key).await.unwrap().as_deref(), answer, "{table} {key}");
        }
        for (table, problem) in [
            ("nope:x", "nope:x: unsupported dictionary type: nope"),
            ("randmap:{}", "randmap:{}: bad syntax: \"randmap:{}\"; need \"randmap:{value...}\""),
            ("plain", "plain: open dictionary: expecting \"type:name\" form instead of \"plain\""),
        ] {
            let maps = Maps::parse(table);
            assert_eq!(set.open(&maps).first().unwrap().to_string(), problem);
            assert!(ask(&set, &maps, "x").await.is_err(), "{table}");
        }
        let maps = Maps::parse("unix:group.byname");
        assert_eq!(set.open(&maps), []);
        assert!(ask(&set, &maps, "x").await.is_err());
    }

    #[tokio::test]
    async fn partial_keys_are_not_for_patterns() {
        let mut set = Set::default();
        let maps = Maps::parse("pcre:{{/./ any}}, inline:{a=b}");
        assert_eq!(set.open(&maps), []);
        assert_eq!(maps.find(&set, "a", Key::Part).await.unwrap().as_deref(), Some("b"));
        assert_eq!(maps.find(&set, "a", Key::Whole).await.unwrap().as_deref(), Some("any"));
    }

    /// As on a mixed host: postmap decides when an edit counts.
    #[tokio::test]
    async fn text_beside_an_index_counts_when_the_index_is_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let (text, index) = (dir.path().join("map"), dir.path().join("map.db"));
        let old = SystemTime::now() - Duration::from_secs(1000);
        fs::write(&text, "k old\n").unwrap();
        fs::write(&index, "").unwrap();
        File::options().append(true).open(&text).unwrap().set_modified(old).unwrap();
        let maps = Maps::parse(&format!("hash:{}", text.display()));
        let mut set = Set::default().looking_every(Duration::ZERO);
        assert_eq!(set.open(&maps), []);
        assert_eq!(ask(&set, &maps, "k").await.unwrap().unwrap(), "old");

        fs::write(&text, "k new\n").unwrap();
        assert_eq!(ask(&set, &maps, "k").await.unwrap().unwrap(), "old");
        let earlier = old - Duration::from_secs(10);
        File::options().append(true).open(&index).unwrap().set_modified(earlier).unwrap();
        assert_eq!(set.refresh(), Vec::<String>::new());
        assert_eq!(ask(&set, &maps, "k").await.unwrap().unwrap(), "new");

        File::options().append(true).open(&text).unwrap().set_modified(old).unwrap();
        let warning =
            format!("database {} is older than source file {}", index.display(), text.display());
        assert_eq!(set.refresh(), [warning]);
        assert_eq!(set.refresh(), Vec::<String>::new());

        fs::remove_file(&index).unwrap();
        fs::write(&text, "k alone\n").unwrap();
        assert_eq!(ask(&set, &maps, "k").await.unwrap().unwrap(), "alone");
    }

    struct OneFile(std::sync::Mutex<Arc<File>>);
    impl Passed for OneFile {
        fn file(&self, path: &Path) -> Option<Arc<File>> {
            path.ends_with("passed").then(|| Arc::clone(&self.0.lock().unwrap()))
        }
    }

    #[tokio::test]
    async fn a_passed_file_is_read_again_when_another_one_comes() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text");
        fs::write(&text, "k old\n").unwrap();
        let passed = Arc::new(OneFile(Arc::new(File::open(&text).unwrap()).into()));
        let mut set = Set::default()
            .looking_every(Duration::ZERO)
            .with_passed(Arc::clone(&passed) as Arc<dyn Passed>);
        let maps = Maps::parse("hash:/nowhere/passed");
        assert_eq!(set.open(&maps), []);
        assert_eq!(ask(&set, &maps, "k").await.unwrap().unwrap(), "old");
        fs::remove_file(&text).unwrap();
        fs::write(&text, "k new\n").unwrap();
        *passed.0.lock().unwrap() = Arc::new(File::open(&text).unwrap());
        assert_eq!(ask(&set, &maps, "k").await.unwrap().unwrap(), "new");
    }

    #[test]
    fn a_table_is_its_index_s_owner_s() {
        let dir = tempfile::tempdir().unwrap();
        let owned = |name: &str, uid| {
            let path = dir.path().join(name);
            fs::write(&path, "").unwrap();
            std::os::unix::fs::chown(&path, Some(uid), None).ok()?;
            Some(format!("hash:{}", path.display()))
        };
        let Some(one) = owned("one", 7) else { return }; // only root can
        let (other, root) = (owned("other", 8).unwrap(), owned("root", 0).unwrap());
        let indexed = owned("indexed", 7).unwrap();
        owned("indexed.db", 9).unwrap();
        let mut set = Set::default();
        for (table, owner) in [
            (one.clone(), Some(Owner::User(7))),
            (root.clone(), Some(Owner::Root)),
            (indexed, Some(Owner::User(9))),
            ("inline:{a=b}".to_owned(), Some(Owner::Root)),
            (format!("unionmap:{{{one},{root},inline:{{a=b}}}}"), Some(Owner::User(7))),
            (format!("pipemap:{{{root},{one},{one}}}"), Some(Owner::User(7))),
            (format!("unionmap:{{{one},{other}}}"), None),
        ] {
            let maps = Maps::parse(&format!("{{{table}}}"));
            assert_eq!(set.open(&maps), [], "{table}");
            assert_eq!(set.owner(maps.iter().next().unwrap()), owner, "{table}");
        }
    }

    #[tokio::test]
    async fn bad_new_content_keeps_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("checks");
        fs::write(&text, "/a/ one\n").unwrap();
        let maps = Maps::parse(&format!("regexp:{}", text.display()));
        let mut set = Set::default().looking_every(Duration::ZERO);
        assert_eq!(set.open(&maps), []);
        fs::write(&text, "/a/ two\n/b(/ three\n").unwrap();
        let reports = set.refresh();
        assert!(reports[0].contains("line 2: error in regex"), "{reports:?}");
        assert_eq!(ask(&set, &maps, "a").await.unwrap().unwrap(), "one");
        fs::remove_file(&text).unwrap();
        assert_eq!(set.refresh().len(), 1);
        assert_eq!(ask(&set, &maps, "a").await.unwrap().unwrap(), "one");
        fs::write(&text, "/a/ four\n").unwrap();
        assert_eq!(ask(&set, &maps, "a").await.unwrap().unwrap(), "four");
    }

    #[tokio::test]
    async fn a_missing_table_fails_its_lookups_until_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("aliases");
        let maps = Maps::parse(&format!("hash:{}", text.display()));
        let mut set = Set::default().looking_every(Duration::ZERO);
        let problems = set.open_aliases(&maps);
        assert!(
            problems[0].unusable && problems[0].to_string().ends_with("No such file or directory")
        );
        assert!(ask(&set, &maps, "root").await.is_err());
        fs::write(&text, "root: admin\n").unwrap();
        assert_eq!(ask(&set, &maps, "root").await.unwrap().unwrap(), "admin");
    }
}

use super::*;
use crate::engine::Here;
use crate::mechanism::Claim;
use crate::passwd_file::Files;
use crate::settings::{Field, PassDriver, Settings, SkipUser, UserDriver, Userdb};
use crate::template::Template;
use protocol::dovecot_auth::Request;
use std::sync::Arc;

fn field(name: &str, value: &str) -> Field {
    Field { name: name.into(), value: Template::parse(value).unwrap() }
}

fn passdb(driver: PassDriver) -> Passdb {
    Passdb {
        driver,
        deny: false,
        master: false,
        skip: Skip::Never,
        mechanisms: Vec::new(),
        username_filter: Vec::new(),
        success: Rule::ReturnOk,
        failure: Rule::Continue,
        internal_failure: Rule::Continue,
        default_fields: Vec::new(),
        override_fields: Vec::new(),
        verbose: None,
    }
}

fn file(path: &std::path::Path) -> PassDriver {
    PassDriver::PasswdFile {
        path: Template::parse(path.to_str().unwrap()).unwrap(),
        scheme: "CRYPT".into(),
        username_format: Template::parse("%u").unwrap(),
    }
}

fn fixed(password: &str) -> PassDriver {
    PassDriver::Static { fields: vec![field("password", password)] }
}

fn userdb(driver: UserDriver) -> Userdb {
    Userdb {
        driver,
        skip: SkipUser::Never,
        success: Rule::ReturnOk,
        failure: Rule::Continue,
        internal_failure: Rule::Continue,
        default_fields: Vec::new(),
        override_fields: Vec::new(),
        verbose: None,
    }
}

async fn outcome(realm: Realm, user: &str, password: &str) -> (Result<(), Failure>, Login) {
    let settings = Settings { realm, ..Settings::default() };
    let engine = Engine::new(settings, Box::new(Here(Arc::new(Files::default()))));
    let realm = &engine.settings.realm;
    let mut login = Login::new(Request { mechanism: "PLAIN".into(), ..Request::default() });
    login.set_user(realm, user, None).unwrap();
    let claim = Claim::Password {
        user: user.into(),
        authorization: None,
        password: password.as_bytes().to_vec().into(),
    };
    (authenticate(&engine, realm, &mut login, &claim).await, login)
}

#[tokio::test]
async fn the_first_passdb_that_knows_the_password_decides() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users");
    std::fs::write(&users, "a:{PLAIN}one::::::nologin userdb_x=y\nb:{PLAIN}two\n").unwrap();
    let realm = || Realm {
        passdbs: vec![passdb(file(&users)), passdb(fixed("{PLAIN}three"))],
        ..Realm::default()
    };
    for (user, password, result) in [
        ("a", "one", Ok(())),
        ("a", "three", Ok(())),
        ("b", "two", Ok(())),
        ("A", "one", Ok(())),
        ("b", "one", Err(Failure::Password)),
        ("c", "", Err(Failure::Password)),
    ] {
        assert_eq!(outcome(realm(), user, password).await.0, result, "{user} {password}");
    }
    let (_, login) = outcome(realm(), "a", "one").await;
    assert!(login.fields.has("nologin"));
    let (_, login) = outcome(realm(), "a", "three").await;
    assert!(!login.fields.has("nologin"), "the fields of a passdb that failed are rolled back");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_a_temporary_failure() {
    let realm = Realm { passdbs: vec![passdb(file("/nonexistent".as_ref()))], ..Realm::default() };
    assert_eq!(outcome(realm.clone(), "a", "x").await.0, Err(Failure::Temporary));
    let with_second = Realm {
        passdbs: [realm.passdbs.clone(), vec![passdb(fixed("x"))]].concat(),
        ..Realm::default()
    };
    assert_eq!(outcome(with_second.clone(), "a", "x").await.0, Ok(()));
    assert_eq!(outcome(with_second, "a", "y").await.0, Err(Failure::Temporary));
}

#[tokio::test]
async fn deny_filters_and_rules() {
    let directory = tempfile::tempdir().unwrap();
    let denied = directory.path().join("denied");
    std::fs::write(&denied, "bad\n").unwrap();
    let deny = Passdb { deny: true, ..passdb(file(&denied)) };
    let filtered = Passdb {
        username_filter: vec!["*@example.com".into(), "!root@*".into()],
        ..passdb(fixed("{PLAIN}filtered"))
    };
    let refused = Passdb { success: Rule::ReturnFail, ..passdb(fixed("{PLAIN}refused")) };
    let fields = Passdb {
        success: Rule::Continue,
        override_fields: vec![field("reason", "hello %n")],
        ..passdb(fixed("{PLAIN}ok"))
    };
    let realm = Realm {
        passdbs: vec![deny, filtered, refused, fields, passdb(fixed("{PLAIN}other"))],
        ..Realm::default()
    };
    for (user, password, result) in [
        ("bad", "ok", Err(Failure::Disabled)),
        ("a@example.com", "filtered", Ok(())),
        ("root@example.com", "filtered", Err(Failure::Password)),
        ("a@example.org", "filtered", Err(Failure::Password)),
        ("a", "refused", Err(Failure::Password)),
        ("a", "ok", Ok(())),
    ] {
        let (outcome, login) = outcome(realm.clone(), user, password).await;
        assert_eq!(outcome, result, "{user} {password}");
        if password == "ok" && outcome.is_ok() {
            assert_eq!(login.fields.get("reason"), Some("hello a"));
        }
    }
}

#[tokio::test]
async fn a_master_user_logs_in_as_somebody_who_exists() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users");
    std::fs::write(&users, "bob:{PLAIN}b:5000:5000::/home/bob::\n").unwrap();
    let realm = Realm {
        master_user_separator: Some('*'),
        username_chars: String::new(),
        passdbs: vec![
            Passdb { master: true, ..passdb(fixed("{PLAIN}master")) },
            passdb(file(&users)),
        ],
        userdbs: vec![userdb(UserDriver::PasswdFile {
            path: Template::parse(users.to_str().unwrap()).unwrap(),
            username_format: Template::parse("%u").unwrap(),
        })],
        ..Realm::default()
    };
    let (result, login) = outcome(realm.clone(), "bob*admin", "master").await;
    assert_eq!(result, Ok(()));
    assert_eq!((login.user.as_str(), login.master.as_deref()), ("bob", Some("admin")));
    assert_eq!(outcome(realm.clone(), "zzz*admin", "master").await.0, Err(Failure::Authorization));
    assert_eq!(outcome(realm.clone(), "bob*admin", "b").await.0, Err(Failure::Password));
    assert_eq!(outcome(realm, "bob", "b").await.0, Ok(()));
}

#[test]
fn wildcards() {
    for (pattern, text, fits) in [
        ("*", "", true),
        ("*@example.com", "a@Example.COM", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("*a*b*", "xaxbx", true),
        ("*a*b", "xaxbx", false),
        ("a", "ab", false),
    ] {
        assert_eq!(wildcard(pattern, text), fits, "{pattern} {text}");
    }
}

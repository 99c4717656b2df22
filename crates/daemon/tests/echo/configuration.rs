//! Starting with a bad configuration, and `--check`.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Echo, binary};

#[test]
fn a_bad_configuration_at_the_start_is_exit_code_78() {
    let mut echo = Echo::launch(json!({ "listen": "nowhere" }), false, &[]);
    assert_eq!(echo.wait().code(), Some(78));
    echo.logged("echo.conf:1: invalid socket address syntax");
    let mut echo = Echo::launch(json!({ "fail": "error" }), true, &[]);
    assert_eq!(echo.wait().code(), Some(75));
    echo.logged("line: told to fail");
}

#[test]
fn check_says_what_is_wrong_and_starts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo.conf");
    let check = |text: &str, json: bool| {
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new(binary());
        command.arg("-c").arg(&path).arg("--check").args(json.then_some("--json"));
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let empty = r#"{"listen": "127.0.0.1:1", "greeting": ""}"#;
    let place = path.display();
    assert_eq!(
        check(empty, false).1,
        format!("{place}: warning: an empty greeting confuses clients\n")
    );
    assert_eq!(check(empty, false).0, 0);
    let (code, text) = check("{\n\"greetin\": 1}", true);
    let problems: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &problems[0]["place"]["line"]), (78, &json!(2)));
    let usage = Command::new(binary()).arg("--frobnicate").output().unwrap();
    assert_eq!(usage.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&usage.stderr).contains("unknown argument: --frobnicate"));
}

/// `--plan | head`.
#[test]
fn a_reader_that_has_seen_enough_is_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo.conf");
    let empty = r#"{"listen": "127.0.0.1:1", "greeting": ""}"#;
    for (text, words, code) in [
        (empty, &["--plan"][..], 0),
        (empty, &["--check"], 0),
        (empty, &["--check", "--json"], 0),
        ("{", &["--check"], 78),
    ] {
        std::fs::write(&path, text).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(binary());
        let output = command.arg("-c").arg(&path).args(words).stdout(writer).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*told), (Some(code), ""), "{words:?}");
    }
}

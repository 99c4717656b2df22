//! OpenDKIM's `opendkim-genkey`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    theoris::opendkim::genkey::run(&words).into()
}

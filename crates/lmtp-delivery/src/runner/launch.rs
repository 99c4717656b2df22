//! Starting a command, giving it the message, and waiting for its end.

use std::fs::File;
use std::io::{self, PipeReader, Read as _, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{AccessFlags, Pid, access, getegid, geteuid};
use queue::{Content, LineEnd};

use crate::runner::{Copy, Ended, Program, Run};

/// More output than this is not looked at.
const MOST_OUTPUT: u64 = 4096;
/// `_PATH_DEFPATH`.
const SEARCH_PATH: &str = "/usr/bin:/bin";
/// What a command may consist of, beside blanks, to be started without a shell.
const PLAIN: &str = "1234567890!@%-_=+:,./abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Runs a command to its end, or to the end of its time.
pub fn run(run: &Run, content: File) -> Ended {
    let (child, output) = match start(run) {
        Ok(started) => started,
        Err(why) => return Ended::not_started(&why),
    };
    follow(run, child, output, content)
}

fn start(run: &Run) -> Result<(Child, PipeReader), String> {
    let fatal = |text: String| format!("{}: fatal: {text}", run.name);
    if let Err(errno) = access(Path::new(&run.directory), AccessFlags::X_OK) {
        let (uid, gid) = (geteuid(), getegid());
        return Err(fatal(format!(
            "cannot change directory to \"{}\" for uid={uid} gid={gid}: {}",
            run.directory,
            errno.desc()
        )));
    }
    // Who says so in Postfix depends on whether it looks for a shell.
    let whose = match &run.program {
        Program::Line { shell, .. } if shell.is_empty() => "",
        _ => "pipe_command: ",
    };
    let mut last = String::new();
    for words in attempts(&run.program) {
        let Some(program) = words.first() else { continue };
        match spawn(run, &words) {
            Ok(started) => return Ok(started),
            Err(error) => {
                last = fatal(format!("{whose}execvp {program}: {}", reason(&error)));
                // Perhaps a command that the shell has built in; a path is no such thing.
                if error.kind() != io::ErrorKind::NotFound || program.contains('/') {
                    break;
                }
            }
        }
    }
    Err(last)
}

/// What to execute, one after the other until something is there.
fn attempts(program: &Program) -> Vec<Vec<String>> {
    match program {
        Program::Arguments(words) => vec![words.clone()],
        Program::Line { line, shell } if !shell.is_empty() => {
            let mut words: Vec<String> = shell.split_whitespace().map(str::to_owned).collect();
            words.push(line.clone());
            vec![words]
        }
        Program::Line { line, .. } => {
            let mut attempts = Vec::new();
            let blank = |c| c == ' ' || c == '\t';
            if line.chars().all(|c| blank(c) || PLAIN.contains(c)) && !line.trim().is_empty() {
                attempts
                    .push(line.split(blank).filter(|w| !w.is_empty()).map(str::to_owned).collect());
            }
            attempts.push(vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]);
            attempts
        }
    }
}

fn spawn(run: &Run, words: &[String]) -> io::Result<(Child, PipeReader)> {
    let (reader, writer) = io::pipe()?;
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    if program == "/bin/sh" {
        command.arg0("sh");
    }
    command.args(arguments).env_clear().env("PATH", SEARCH_PATH);
    command.envs(run.environment.iter().map(|(name, value)| (name, value)));
    command.current_dir(&run.directory).process_group(0);
    command.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
    Ok((command.spawn()?, reader))
}

/// The three things that have to end: our writing, its output, and the command itself.
enum Done {
    Written(io::Result<()>),
    Output(Vec<u8>),
    Exited(io::Result<ExitStatus>),
}

fn follow(run: &Run, mut child: Child, mut output: PipeReader, content: File) -> Ended {
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let (sender, events) = channel();
    let (copy, data_offset) = (run.copy.clone(), run.data_offset);
    let input = child.stdin.take();
    let tell = sender.clone();
    std::thread::spawn(move || {
        let written = input.map_or(Ok(()), |input| write(input, &copy, &content, data_offset));
        let _ = tell.send(Done::Written(written));
    });
    let tell = sender.clone();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let _ = (&mut output).take(MOST_OUTPUT).read_to_end(&mut kept);
        // A command that goes on writing must not be stopped by a full pipe.
        let _ = io::copy(&mut output, &mut io::sink());
        let _ = tell.send(Done::Output(kept));
    });
    std::thread::spawn(move || {
        let _ = sender.send(Done::Exited(child.wait()));
    });
    let mut ended = Ended::default();
    let end = Instant::now() + run.limit;
    if !collect(&events, end, &mut ended) {
        ended.timed_out = true;
        let _ = killpg(group, Signal::SIGKILL);
        collect(&events, Instant::now() + Duration::from_secs(1), &mut ended);
    }
    ended
}

/// Waits for all three; false if they are not over by then.
fn collect(events: &Receiver<Done>, end: Instant, ended: &mut Ended) -> bool {
    loop {
        match events.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Done::Written(Err(error))) if error.kind() != io::ErrorKind::BrokenPipe => {
                ended.unwritten = Some(reason(&error));
            }
            Ok(Done::Written(_)) => {}
            Ok(Done::Output(output)) => ended.output = output,
            Ok(Done::Exited(Ok(status))) => {
                (ended.status, ended.signal) = (status.code(), status.signal());
            }
            Ok(Done::Exited(Err(error))) => *ended = Ended::not_started(&error.to_string()),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return true,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return false,
        }
    }
}

fn write(input: ChildStdin, copy: &Copy, content: &File, data_offset: u64) -> io::Result<()> {
    let mut out = io::BufWriter::with_capacity(64 * 1024, input);
    out.write_all(copy.prefix.as_bytes())?;
    let damaged = |error: queue::ReadError| io::Error::other(error.to_string());
    let mut content = Content::at(content, data_offset)?;
    let mut begins = true;
    while let Some((piece, end)) = content.next_piece().map_err(damaged)? {
        if begins && copy.quote && piece.starts_with(b"From ") {
            out.write_all(b">")?;
        }
        if begins && copy.dot && piece.starts_with(b".") {
            out.write_all(b".")?;
        }
        out.write_all(&piece)?;
        begins = end == LineEnd::Newline;
        if begins {
            out.write_all(copy.eol.as_bytes())?;
        }
    }
    if !begins {
        out.write_all(copy.eol.as_bytes())?;
    }
    if copy.blank {
        out.write_all(copy.eol.as_bytes())?;
    }
    out.flush()
}

/// strerror's text, without Rust's number behind it.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => nix::errno::Errno::from_raw(errno).desc().to_owned(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_started_only_where_one_is_needed() {
        let line = |line: &str, shell: &str| {
            attempts(&Program::Line { line: line.into(), shell: shell.into() })
        };
        assert_eq!(line("/bin/x -a  b", "")[0], ["/bin/x", "-a", "b"]);
        assert_eq!(line("x $HOME", ""), [["/bin/sh", "-c", "x $HOME"]]);
        assert_eq!(line("x y", "/bin/bash -c"), [["/bin/bash", "-c", "x y"]]);
        assert_eq!(line(" ", "").len(), 1);
    }

    fn ran(line: &str, limit: u64) -> Ended {
        let mut file = tempfile::tempfile().unwrap();
        let mut records = Vec::new();
        let (kind, end) = (
            protocol::postfix::record::RecordType::LINE,
            protocol::postfix::record::RecordType::EXTRACTED,
        );
        protocol::postfix::record::write(&mut records, kind, b"From me");
        protocol::postfix::record::write(&mut records, kind, b".x");
        protocol::postfix::record::write(&mut records, end, b"");
        file.write_all(&records).unwrap();
        let task = Run {
            program: Program::Line { line: line.into(), shell: String::new() },
            environment: vec![("X".into(), "y z".into())],
            directory: "/".into(),
            limit: Duration::from_millis(limit),
            name: "local".into(),
            copy: Copy {
                prefix: "P: q\n".into(),
                eol: "\r\n".into(),
                quote: true,
                dot: true,
                blank: true,
            },
            data_offset: 0,
        };
        run(&task, file)
    }

    #[test]
    fn a_command_gets_the_message_and_its_environment() {
        let ended = ran("cat; echo \"$X $PATH\" >&2; exit 3", 10_000);
        assert_eq!(ended.status, Some(3));
        let output = String::from_utf8(ended.output).unwrap();
        assert_eq!(output, "P: q\n>From me\r\n..x\r\n\r\ny z /usr/bin:/bin\n");
        assert_eq!(ran("kill -9 $$", 10_000).signal, Some(9));
        let none = ran("/no/such/command", 10_000);
        let text = "local: fatal: execvp /no/such/command: No such file or directory\n";
        assert_eq!(
            (none.status, String::from_utf8(none.output).unwrap().as_str()),
            (Some(75), text)
        );
        // A command may leave its input unread.
        assert_eq!(ran("true", 10_000), Ended { status: Some(0), ..Ended::default() });
    }

    #[test]
    fn a_command_that_takes_too_long_ends_with_its_children() {
        // How long a shell takes to say its first word is a matter of the machine.
        let spoken = [200, 2_000, 20_000].into_iter().any(|limit| {
            let ended = ran("echo before; sleep 100 & sleep 100", limit);
            assert!(ended.timed_out);
            ended.output == b"before\n"
        });
        assert!(spoken);
    }
}

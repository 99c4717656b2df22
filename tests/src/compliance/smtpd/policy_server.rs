//! A policy server that answers by the sender's local part and remembers what it was told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Runs until the test ends.
pub struct PolicyServer {
    pub port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl PolicyServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let shared = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { port, requests }
    }

    /// The requests since the last call, without what differs from run to run.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn serve(stream: &TcpStream, requests: &Mutex<Vec<String>>) {
    let mut input = BufReader::new(stream);
    let mut output = stream;
    for number in 1.. {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if input.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\n" {
                break;
            }
            lines.push(line.trim_end_matches('\n').to_owned());
        }
        let sender = lines.iter().find_map(|line| line.strip_prefix("sender=")).unwrap_or("");
        let word = sender.split('@').next().unwrap_or("").to_owned();
        requests.lock().unwrap().push(lines.iter().map(|line| shown(line) + "\n").collect());
        let action = match word.as_str() {
            "reject" => "REJECT go away".to_owned(),
            "later" => "DEFER_IF_PERMIT 4.2.0 greylisted".to_owned(),
            "code" => "451 busy".to_owned(),
            "prepend" => "PREPEND X-Policy: seen".to_owned(),
            "restrict" => "reject_non_fqdn_helo_hostname".to_owned(),
            "count" => format!("REJECT request {number}"),
            "hang" => continue,
            "close" => return,
            _ => "DUNNO".to_owned(),
        };
        if write!(output, "action={action}\n\n").is_err() {
            return;
        }
    }
}

/// A line with its name alone where the value is of this run, if there is one.
fn shown(line: &str) -> String {
    match line.split_once('=') {
        Some((name, value))
            if ["client_port", "server_port", "instance", "queue_id"].contains(&name)
                && !value.is_empty()
                && value != "unknown" =>
        {
            format!("{name}=…")
        }
        _ => line.to_owned(),
    }
}

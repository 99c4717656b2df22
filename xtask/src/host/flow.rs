//! The mail that flows on a host while planks are swapped: what `flow.py` tells of it, and what of that may be.

use serde_json::Value;

use super::guest::Guest;
use crate::run::Done;

const START: &str = "systemd-run --quiet --unit=flow --service-type=notify --property=NotifyAccess=main \
                     /usr/bin/python3 /mnt/xtask/src/host/flow.py serve";
const ASK: &str = "python3 /mnt/xtask/src/host/flow.py ask";

/// What may happen to mail and readers meanwhile. Lost mail, a changed UID or UIDL, an unsigned message: never.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Nobody is refused or put off; sessions that the original had open end as at its stop.
    Calm,
    /// The operator restarts an original, or the machine.
    Restart,
}

/// Sessions that one swap or reload may cut, or turn away with a temporary error: those that are just logging in while
/// Dovecot's auth is replaced, of two readers in up to three reloads; and those that a reload of Postfix cuts.
const CUT: usize = 8;
/// How a client of submission sees that Dovecot's auth was replaced while it was asked.
const AUTH_LOST: &str =
    "Temporary authentication failure: Connection lost to authentication server";
/// A reload of Postfix may send what its queue manager has under way once more: at most one message in so many.
const TWICE: usize = 20;

pub fn start(guest: &Guest) -> Done {
    guest.run(START).map(drop)
}

/// Waits until `more` messages were accepted and all accepted ones have arrived. Gives the Message-IDs of those that were
/// not signed, if `unsigned` may be.
pub fn more(guest: &Guest, more: usize, mood: Mood) -> Done {
    let unsigned = ask(guest, &format!("more {more}"), mood)?.unsigned;
    if unsigned.is_empty() { Ok(()) } else { Err(format!("not signed: {unsigned:?}")) }
}

/// The same, where a filter has just gone: the Message-IDs of what it did not sign.
pub fn unsigned(guest: &Guest, more: usize, mood: Mood) -> Result<Vec<String>, String> {
    ask(guest, &format!("more {more}"), mood).map(|told| told.unsigned)
}

/// What is left to judge.
struct Told {
    unsigned: Vec<String>,
    accepted: usize,
}

/// All mail has arrived, once; every mailbox was looked through. Gives how many messages were accepted until now.
pub fn end(guest: &Guest) -> Result<usize, String> {
    let told = ask(guest, "end", Mood::Calm)?;
    if told.unsigned.is_empty() {
        Ok(told.accepted)
    } else {
        Err(format!("not signed: {:?}", told.unsigned))
    }
}

fn ask(guest: &Guest, words: &str, mood: Mood) -> Result<Told, String> {
    let said = guest.run(&format!("{ASK} {words}"))?;
    let told: Value = serde_json::from_str(said.trim()).map_err(|_| said.clone())?;
    let list = |name: &str| -> Vec<String> {
        let list = told.get(name).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let number = |name: &str| told.get(name).and_then(Value::as_u64).unwrap_or_default();
    let mut bad = list("wrong");
    if mood == Mood::Calm {
        bad.extend(list("refused").into_iter().map(|text| format!("refused: {text}")));
        let mut cut = list("cut");
        let (lost, put_off): (Vec<String>, Vec<String>) =
            list("put-off").into_iter().partition(|text| text.contains(AUTH_LOST));
        cut.extend(lost);
        bad.extend(put_off.into_iter().map(|text| format!("put off: {text}")));
        if cut.len() > CUT {
            bad.extend(cut.into_iter().map(|text| format!("cut: {text}")));
        }
    }
    let accepted = usize::try_from(number("accepted")).unwrap_or_default();
    let twice = list("twice");
    if twice.len() * TWICE > accepted || number("most") > 2 {
        bad.push(format!("{} of {accepted} came twice: {twice:?}", twice.len()));
    }
    if bad.is_empty() {
        Ok(Told { unsigned: list("unsigned"), accepted })
    } else {
        Err(format!("{words}: {bad:#?}"))
    }
}

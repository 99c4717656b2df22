//! The queue goes from Postfix's queue manager to ours and back while its mail is delivered, and the other way round.
//!
//! `cargo xtask bench handover` plays the same with 10,000 messages.

use harness::handover::{self, Keeper};
use harness::skip;

const MESSAGES: usize = 2_000;

#[test]
fn deferred_mail_of_postfix_is_delivered_by_both() {
    if skip::can_run(true, &["postfix"]) {
        println!("{:?}", handover::play(Keeper::Postfix, MESSAGES));
    }
}

#[test]
fn deferred_mail_of_ours_is_delivered_by_both() {
    if skip::can_run(true, &["postfix"]) {
        println!("{:?}", handover::play(Keeper::Ours, MESSAGES));
    }
}

//! A queue of deferred mail that changes hands in the middle of its delivery, both ways round.

use harness::handover::{Handover, Keeper, play};
use serde_json::json;

/// Plays both and prints the figures; whatever goes wrong stops it.
pub fn run(messages: usize, json: bool) {
    for first in [Keeper::Postfix, Keeper::Ours] {
        let run = play(first, messages);
        let name = match first {
            Keeper::Postfix => "Postfix, ours, Postfix",
            Keeper::Ours => "ours, Postfix, ours",
        };
        if json {
            println!("{}", as_json(name, &run));
        } else {
            show(name, &run);
        }
    }
}

fn show(name: &str, run: &Handover) {
    let (count, time) = run.by_second;
    let [out, back] = run.gaps.map(|gap| gap.as_millis());
    println!("\n{name}: {} messages, {} recipients", run.messages, run.recipients);
    println!("accepted, tried and deferred      {:>8.1} s", run.deferring.as_secs_f64());
    println!("by the second, until stopped      {:>8.1} s for {count}", time.as_secs_f64());
    println!("deliveries under way at its stop  {:>8}", run.under_way);
    println!("gaps                              {out:>8} ms, {back} ms");
    println!("the rest, by the first            {:>8.1} s", run.emptying.as_secs_f64());
    println!("all                               {:>8.1} s", run.total.as_secs_f64());
    println!("recipients served twice or not at all    0");
}

fn as_json(name: &str, run: &Handover) -> String {
    json!({
        "benchmark": "handover",
        "keepers": name,
        "messages": run.messages,
        "recipients": run.recipients,
        "deferring_seconds": run.deferring.as_secs_f64(),
        "by_second": run.by_second.0,
        "by_second_seconds": run.by_second.1.as_secs_f64(),
        "under_way": run.under_way,
        "gaps_ms": run.gaps.map(|gap| u64::try_from(gap.as_millis()).unwrap_or(u64::MAX)),
        "rest_seconds": run.emptying.as_secs_f64(),
        "seconds": run.total.as_secs_f64(),
    })
    .to_string()
}

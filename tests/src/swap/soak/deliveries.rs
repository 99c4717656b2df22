//! Deliveries by both LMTP servers.

use super::World;
use super::content::text;
use super::servers::{Side, USER};

/// Delivers `count` messages into INBOX, one after the other in one connection.
pub fn deliver(world: &World, side: Side, count: usize) {
    let mut client = world.servers.lmtp(side);
    for _ in 0..count {
        let id = world.model().post();
        client.expect("MAIL FROM:<sender@soak.test>", "250");
        client.expect(&format!("RCPT TO:<{USER}>"), "250");
        client.expect("DATA", "354");
        let stuffed = text(&id).replace("\r\n.", "\r\n..");
        client.expect(&format!("{stuffed}."), "250");
    }
    client.expect("QUIT", "221");
}

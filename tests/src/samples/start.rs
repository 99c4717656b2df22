//! Whatever stands in `etc/`, Debian's originals start on it.

use harness::site::SAMPLES;

use super::{Rig, Whose, can_run};

/// What administrators write, and Dovecot complains of without refusing the file.
const WRITTEN_SO: [&str; 2] = ["user1@example.com is missing userdb info", "ssl_protocols"];

#[test]
fn the_originals_start_on_every_sample() {
    if !can_run() {
        return;
    }
    for sample in SAMPLES {
        let rig = Rig::start(sample, Whose::Theirs, None, |_| {});
        let mut smtp = rig.connect("smtp");
        assert!(smtp.reply().starts_with("220 "), "{sample}");
        smtp.expect("EHLO client.example.com", "250");
        let submission = rig.submission();
        assert!(submission.transcript.contains("AUTH PLAIN LOGIN"), "{}", submission.transcript);
        if rig.site.daemons().any(|daemon| daemon == "imapd") {
            let mut imap = rig.tls("imaps");
            assert!(imap.line().starts_with("* OK "), "{sample}");
        }
        for line in rig.site.log.lines() {
            let text = line.text;
            let bad =
                ["fatal:", "error:", "Error:", "Fatal:"].iter().any(|word| text.contains(word));
            let known = WRITTEN_SO.iter().any(|word| text.contains(word));
            assert!(!bad || known, "{sample}: {text}");
        }
    }
}

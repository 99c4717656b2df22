//! Tables that can never answer: each client or address that they decide about would be put off.

use config::postfix::{self, FACTS, Host, View, words};
use config::{Place, Problems};
use routing::TableName;
use routing::tables::unbraced;

use crate::settings::Service;

/// Tells of each table of `service` that can never answer. `views` are those of the lines of master.cf it was read from.
pub(super) fn refuse_unusable(
    host: &Host,
    service: &Service,
    views: &[View<'_>],
    problems: &mut Problems,
) {
    for table in service.tables().iter() {
        if let Some(why) = tables::unusable(table) {
            let place = views.iter().find_map(|view| place(view, table));
            // Of a file that a list names, or of a default.
            let place = place.unwrap_or_else(|| Place::file(host.directory().join("main.cf")));
            problems.error(place, format!("{table}: {why}"));
        }
    }
}

/// Where a setting of smtpd or postscreen names the table: others, such as `proxy_read_maps`, name it too.
fn place(view: &View<'_>, table: &TableName) -> Option<Place> {
    let mut quiet = Problems::default();
    let classes = view.get(postfix::SMTPD_RESTRICTION_CLASSES, &mut quiet);
    let facts =
        FACTS.iter().filter(|fact| fact.is_read_by("smtpd") || fact.is_read_by("postscreen"));
    let mut names = facts.map(|fact| fact.name).chain(classes.iter().map(|class| class.as_str()));
    names.find_map(|name| {
        let text = view.text(name, &mut quiet)?;
        let named = |word: &str| unbraced(word.trim_start_matches('!')) == table.as_str();
        words(&text).into_iter().find(|word| named(word.as_str()))?.at
    })
}

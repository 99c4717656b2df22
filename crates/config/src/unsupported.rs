//! Telling of what we do not obey, in the same words for every file.

use crate::register::{Fact, Ignored};
use crate::{Place, Problems};

/// Tells that `name`, whose row is `fact`, is not obeyed, and what happens instead. `original` is who would obey it.
pub fn tell(name: &str, fact: &Fact, at: &Place, original: &str, problems: &mut Problems) {
    let what = format!("{name}: {}", fact.sentence);
    match fact.ignored {
        Ignored::Tell => {
            problems.warning(at.clone(), what);
        }
        Ignored::Refuse => {
            let instead = format!("remove the line, or keep this service with {original} for now");
            problems.error(at.clone(), what).instead(instead);
        }
    }
}

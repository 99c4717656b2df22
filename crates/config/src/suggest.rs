//! "did you mean": the nearest known name.

/// The known name nearest to `name`, if it is near enough to be what was meant.
pub fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    if name.len() > 100 {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let allowed = match name.len() {
        0..=3 => 1,
        4..=7 => 2,
        _ => 3,
    };
    known
        .into_iter()
        .filter(|known| known.len().abs_diff(name.len()) <= allowed)
        .map(|known| (distance(&name, &known.to_ascii_lowercase()), known))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, known)| (*distance, known.len().abs_diff(name.len())))
        .map(|(_, known)| known)
}

/// How many letters to insert, drop, replace or swap with their neighbour to make one the other.
fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut rows = [vec![0; right.len() + 1], (0..=right.len()).collect::<Vec<_>>(), Vec::new()];
    for (i, a) in left.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best =
                (rows[1][j + 1] + 1).min(next[j] + 1).min(rows[1][j] + usize::from(a != b));
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(rows[0][j - 1] + 1);
            }
            next.push(best);
        }
        rows[2] = next;
        rows.rotate_left(1);
    }
    rows[1][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let known = ["myhostname", "mydomain", "myorigin", "mydestination", "ssl"];
        for (written, meant) in [
            ("myhostnaem", Some("myhostname")),
            ("my_hostname", Some("myhostname")),
            ("MYDOMAIN", Some("mydomain")),
            ("sll", Some("ssl")),
            ("mydestinaton", Some("mydestination")),
            ("favourite_colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
    }
}

//! What failed tests said, in a few lines each.

/// As much of one test as is told.
const LINES: usize = 6;
const CHARACTERS: usize = 400;
/// Two values that differ are both to be seen.
const OF_A_LINE: usize = 140;

/// Reads the output of libtest, where each failed test has a part of its own.
#[derive(Debug, Default)]
pub struct Failures {
    told: Vec<String>,
    part: Option<Part>,
}

#[derive(Debug)]
struct Part {
    test: String,
    lines: Vec<String>,
}

impl Failures {
    /// Takes the next line of the output.
    pub fn line(&mut self, line: &str) {
        let test = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(test) = test {
            self.end();
            self.part = Some(Part { test: test.to_owned(), lines: Vec::new() });
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.end();
        } else if let Some(part) = &mut self.part {
            part.lines.push(line.to_owned());
        }
    }

    fn end(&mut self) {
        self.told.extend(self.part.take().map(|part| part.told()));
    }

    /// The name of each failed test, where it panicked, and the beginning of its message.
    pub fn told(mut self) -> Vec<String> {
        self.end();
        self.told
    }
}

impl Part {
    fn told(&self) -> String {
        let place = |line: &String| line.starts_with("thread '") && line.contains(" panicked at ");
        let panic = self.lines.iter().position(place);
        let message = self.lines.get(panic.map_or(0, |at| at + 1)..).unwrap_or_default();
        let mut told = format!("failed: {}", self.test);
        if let Some((_, place)) = panic.and_then(|at| self.lines[at].split_once(" panicked at ")) {
            told.push_str(&format!(" at {}", place.trim_end_matches(':')));
        }
        let mut room = CHARACTERS;
        let of_message = |line: &&String| !line.starts_with("note: run with ");
        let message = message.iter().take_while(of_message).filter(|line| !line.trim().is_empty());
        for line in message.take(LINES) {
            let shown: String = line.chars().take(room.min(OF_A_LINE)).collect();
            room -= shown.chars().count();
            told.push_str("\n  ");
            told.push_str(&shown);
            if shown.len() < line.len() {
                told.push('…');
            }
            if room == 0 {
                break;
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::Failures;

    #[test]
    fn a_failed_test_is_told_with_its_place_and_the_beginning_of_its_message() {
        let long = "x".repeat(1000);
        let output = format!(
            "running 3 tests\n.FF\nfailures:\n\n---- swap::one stdout ----\nbefore\n\n\
             thread 'swap::one' (7) panicked at tests/src/swap/one.rs:3:5:\nassertion `left == right` failed: why\n\
             \x20 left: {long}\n right: 2\n\
             note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n\n\
             ---- two stdout ----\nError: 1\n2\n3\n4\n5\n6\n7\n\n\nfailures:\n    swap::one\n    two\n\n\
             test result: FAILED. 1 passed; 2 failed; 0 ignored\nafter\n"
        );
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.line(line));
        let told = failures.told();
        let left = "x".repeat(132);
        let one = format!(
            "failed: swap::one at tests/src/swap/one.rs:3:5\n  assertion `left == right` failed: why\n  \x20 left: {left}…\n   right: 2"
        );
        assert_eq!(told, [one.as_str(), "failed: two\n  Error: 1\n  2\n  3\n  4\n  5\n  6"]);
    }

    #[test]
    fn a_message_does_not_fill_the_screen() {
        let mut failures = Failures::default();
        failures.line("---- a stdout ----");
        (0..50).for_each(|_| failures.line(&"ä".repeat(500)));
        let told = failures.told();
        assert_eq!(told[0].matches('ä').count(), 400);
        assert_eq!(told[0].lines().count(), 4);
    }
}

//! The commands of `docs/migration.md`, so that the page stays true: they are run as they stand there.

/// A heading, and the commands below it.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    pub heading: String,
    pub commands: Vec<Line>,
}

/// One command of a block of shell.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub command: String,
    /// The exit code that it may have beside 0: `# 0 or 1: …` behind it.
    pub also: u8,
}

/// The sections that have commands.
pub fn sections(page: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut shell = false;
    for line in page.lines() {
        match (line.trim_start(), shell) {
            ("```", true) => shell = false,
            ("```sh", false) => shell = true,
            (words, true) if !words.is_empty() => {
                if let Some(section) = sections.last_mut() {
                    section.commands.push(of(words));
                }
            }
            (words, false) => {
                if let Some(heading) = words.strip_prefix("## ") {
                    sections.push(Section { heading: heading.to_owned(), commands: Vec::new() });
                }
            }
            _ => {}
        }
    }
    sections.retain(|section| !section.commands.is_empty());
    sections
}

fn of(line: &str) -> Line {
    let also =
        line.split_once("# 0 or ").and_then(|(_, code)| code.split(':').next()?.parse().ok());
    Line { command: line.to_owned(), also: also.unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_shell_are_commands_of_their_section() {
        let page = "# T\n\n```sh\nnone\n```\n## One\n\n```sh\na b   # 0 or 1: look\n\nc\n```\n```text\nno\n```\n## Two\n";
        let line = |command: &str, also| Line { command: command.to_owned(), also };
        let commands = vec![line("a b   # 0 or 1: look", 1), line("c", 0)];
        assert_eq!(sections(page), [Section { heading: "One".into(), commands }]);
    }
}

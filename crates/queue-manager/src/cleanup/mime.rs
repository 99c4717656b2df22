//! Where in a message we are: in its own header, in that of a part, in an attached message's.
//!
//! Only as much of MIME as the checks need, in constant memory but for a bounded stack.

use message::parameters::ContentType;

/// Whose header it is; each has its own checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Section {
    #[default]
    Primary,
    Part,
    /// Of an attached message (message/rfc822).
    Nested,
}

/// What the header that is being read says of the body behind it.
#[derive(Debug, Default)]
enum Announced {
    #[default]
    Leaf,
    Multipart(Vec<u8>),
    Message,
}

/// Which body follows a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Body,
    /// The header of an attached message begins at once.
    NestedHeader,
}

#[derive(Debug, Default)]
pub struct Mime {
    boundaries: Vec<Vec<u8>>,
    pub section: Section,
    announced: Announced,
    pub deepest: usize,
    pub longest_boundary: usize,
}

impl Mime {
    /// A Content-Type field of the current header.
    pub fn content_type(&mut self, value: &[u8]) {
        let kind = ContentType::parse(value);
        if kind.is("message", "rfc822") || kind.is("message", "global") {
            self.announced = Announced::Message;
        } else if let Some(boundary) =
            kind.parameter("boundary").filter(|_| is_multipart(value) && !value.is_empty())
        {
            let length = boundary.len().min(self.longest_boundary);
            self.announced =
                Announced::Multipart(boundary.get(..length).unwrap_or_default().to_vec());
        }
    }

    pub fn end_of_header(&mut self) -> After {
        match std::mem::take(&mut self.announced) {
            Announced::Leaf => After::Body,
            Announced::Multipart(boundary) => {
                if self.boundaries.len() < self.deepest {
                    self.boundaries.push(boundary);
                }
                After::Body
            }
            Announced::Message => {
                self.section = Section::Nested;
                After::NestedHeader
            }
        }
    }

    /// Whether this line of a body is a delimiter behind which a part's header begins. A closing
    /// delimiter ends its multipart and everything in it.
    pub fn begins_part(&mut self, line: &[u8]) -> bool {
        let Some(rest) = line.strip_prefix(b"--") else { return false };
        let longest = self.longest_boundary;
        let matches = |boundary: &Vec<u8>| {
            !boundary.is_empty()
                && rest
                    .get(..rest.len().min(longest))
                    .is_some_and(|rest| rest.starts_with(boundary))
        };
        let Some(level) = self.boundaries.iter().rposition(matches) else { return false };
        let length = self.boundaries.get(level).map_or(0, Vec::len);
        if rest.get(length..).is_some_and(|tail| tail.starts_with(b"--")) {
            self.boundaries.truncate(level);
            return false;
        }
        self.boundaries.truncate(level + 1);
        self.section = Section::Part;
        true
    }
}

fn is_multipart(value: &[u8]) -> bool {
    let value = value.trim_ascii_start();
    value.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_attached_messages_are_found() {
        let mut mime = Mime { deepest: 5, longest_boundary: 2048, ..Mime::default() };
        mime.content_type(b" multipart/mixed; boundary=\"b 1\"");
        assert_eq!(mime.end_of_header(), After::Body);
        assert!(!mime.begins_part(b"--other"));
        assert!(mime.begins_part(b"--b 1"));
        mime.content_type(b" message/rfc822");
        assert_eq!(mime.end_of_header(), After::NestedHeader);
        assert_eq!(mime.section, Section::Nested);
        mime.content_type(b" multipart/alternative; boundary=inner");
        assert_eq!(mime.end_of_header(), After::Body);
        assert!(mime.begins_part(b"--inner"));
        assert!(!mime.begins_part(b"--inner--"));
        assert!(mime.begins_part(b"--b 1 "));
        assert!(!mime.begins_part(b"--b 1--"));
        assert!(!mime.begins_part(b"--b 1"));
    }
}

//! The content stage of one filter: header, body, and its edits at the end.

use bytes::Bytes;
use protocol::milter::{BODY_CHUNK, Event, Reply, Stage, Steps};

use super::filter::{Filter, State, Values};
use super::{Change, Message, Piece, Response};

/// Most edits of one message by one filter.
const MOST_EDITS: usize = 10_000;

impl Filter {
    /// Shows it the message; then its verdict.
    pub async fn message(
        &mut self,
        message: &mut impl Message,
        header: Values,
        body: Values,
    ) -> Option<Response> {
        self.state = State::Message;
        self.limit = self.settings.content_timeout;
        let response = self.walk(message, header, body).await;
        self.limit = self.settings.command_timeout;
        if matches!(self.state, State::Message | State::AcceptMessage) {
            self.state = State::Envelope;
        }
        response
    }

    /// Whether it wants no more, or has said all.
    fn is_done(&self, response: &Option<Response>) -> bool {
        self.state != State::Message || response.is_some()
    }

    async fn walk(
        &mut self,
        message: &mut impl Message,
        header: Values,
        body: Values,
    ) -> Option<Response> {
        if let Err(response) = message.rewind() {
            return Some(response);
        }
        let mut walk = Walk { header, body, ..Walk::default() };
        loop {
            let piece = match message.next() {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(response) => return Some(response),
            };
            let response = self.piece(&mut walk, message, piece).await;
            if self.is_done(&response) {
                return response;
            }
        }
        if !walk.in_body {
            let response = self.end_of_header(&mut walk, message).await;
            if self.is_done(&response) {
                return response;
            }
        }
        if !walk.chunk.is_empty() {
            let chunk = std::mem::take(&mut walk.chunk);
            let response = self.body_chunk(chunk, &walk.body).await;
            if self.is_done(&response) {
                return response;
            }
        }
        self.end_of_message(message, walk.body).await
    }

    async fn piece(
        &mut self,
        walk: &mut Walk,
        message: &impl Message,
        piece: Piece,
    ) -> Option<Response> {
        let continues = std::mem::replace(&mut walk.open, matches!(piece, Piece::Continued(_)));
        let (Piece::Line(data) | Piece::Continued(data)) = piece;
        if walk.in_body {
            return self.body_piece(walk, &data).await;
        }
        let folded = matches!(data.first(), Some(b' ' | b'\t'));
        if continues || (folded && !walk.field.is_empty()) {
            if !continues {
                walk.extend(message.longest_field(), b"\n");
            }
            walk.extend(message.longest_field(), &data);
            return None;
        }
        if is_field(&data) {
            let response = self.field(walk, message.own_field()).await;
            walk.extend(message.longest_field(), &data);
            return response;
        }
        let response = self.end_of_header(walk, message).await;
        walk.in_body = true;
        if data.is_empty() || self.is_done(&response) {
            return response;
        }
        self.body_piece(walk, &data).await
    }

    /// Sends the field that is complete now.
    async fn field(&mut self, walk: &mut Walk, own: &[u8]) -> Option<Response> {
        let field = std::mem::take(&mut walk.field);
        if field.is_empty() || !self.steps.wants(Stage::Header) {
            return None;
        }
        if !walk.hidden && field == own {
            walk.hidden = true;
            return None;
        }
        let colon = field.iter().position(|&octet| octet == b':')?;
        let (name, value) = field.split_at_checked(colon)?;
        let mut value = value.get(1..).unwrap_or_default();
        if !self.steps.contains(Steps::LEADING_SPACE) {
            value = value.strip_prefix(b" ").unwrap_or(value);
        }
        let event = Event::Header {
            name: Bytes::copy_from_slice(name.trim_ascii_end()),
            value: Bytes::copy_from_slice(value),
        };
        self.ask(&event, walk.header.clone()).await
    }

    async fn end_of_header(&mut self, walk: &mut Walk, message: &impl Message) -> Option<Response> {
        let response = self.field(walk, message.own_field()).await;
        if self.is_done(&response) || !self.steps.wants(Stage::Eoh) {
            return response;
        }
        self.ask(&Event::Eoh, walk.header.clone()).await
    }

    async fn body_piece(&mut self, walk: &mut Walk, data: &[u8]) -> Option<Response> {
        if !self.steps.wants(Stage::Body) {
            return None;
        }
        walk.chunk.extend_from_slice(data);
        if !walk.open {
            walk.chunk.extend_from_slice(b"\r\n");
        }
        while walk.chunk.len() >= BODY_CHUNK {
            let rest = walk.chunk.split_off(BODY_CHUNK);
            let chunk = std::mem::replace(&mut walk.chunk, rest);
            let response = self.body_chunk(chunk, &walk.body).await;
            if self.is_done(&response) {
                return response;
            }
        }
        None
    }

    async fn body_chunk(&mut self, chunk: Vec<u8>, values: &Values) -> Option<Response> {
        if !self.steps.wants(Stage::Body) {
            return None;
        }
        self.ask(&Event::Body(chunk.into()), values.clone()).await
    }

    async fn end_of_message(
        &mut self,
        message: &mut impl Message,
        values: Values,
    ) -> Option<Response> {
        if !self.tell(Stage::Eom, &Event::Eom(Bytes::new()), values).await {
            return self.last_word();
        }
        let mut edits = Edits::default();
        let response = loop {
            let reply = match self.reply(Stage::Eom).await {
                Ok(reply) => reply,
                Err(response) => break response,
            };
            if !matches!(reply, Reply::ReplaceBody(_)) {
                edits.end_body(message).await;
            }
            match self.edit(reply, &mut edits) {
                Step::Change(change) => edits.carry_out(message, change).await,
                Step::Verdict(response) => break response,
                Step::More => {}
            }
        };
        edits.end_body(message).await;
        edits.over(response)
    }

    fn edit(&mut self, reply: Reply, edits: &mut Edits) -> Step {
        let change = match reply {
            Reply::AddHeader { name, value } => {
                self.named(&name, &value).map(|field| Change::AddHeader { field })
            }
            Reply::InsertHeader { index, name, value } => {
                self.named(&name, &value).map(|field| Change::InsertHeader { index, field })
            }
            Reply::ChangeHeader { index, name, value } => {
                let index = index.max(1);
                self.named(&name, &value).map(|field| {
                    let name = name.to_vec();
                    if value.is_empty() {
                        Change::DeleteHeader { index, name }
                    } else {
                        Change::ChangeHeader { index, name, field }
                    }
                })
            }
            Reply::ChangeFrom { address, parameters } => {
                Ok(Change::ChangeFrom { address, parameters })
            }
            Reply::AddRcpt { address } => {
                Ok(Change::AddRecipient { address, parameters: Bytes::new() })
            }
            Reply::AddRcptWithParameters { address, parameters } => {
                Ok(Change::AddRecipient { address, parameters })
            }
            Reply::DelRcpt { address } => Ok(Change::DeleteRecipient { address }),
            Reply::ReplaceBody(_) if edits.body == Body::Closed => {
                let problem =
                    "body replacement requests can't currently be mixed with other requests";
                Err(problem.to_owned())
            }
            Reply::ReplaceBody(bytes) => {
                edits.body = Body::Open;
                Ok(Change::Body(bytes))
            }
            other => {
                return match self.decide(Stage::Eom, other) {
                    Some(response) => Step::Verdict(response),
                    None => Step::More,
                };
            }
        };
        edits.count += 1;
        let change = change.and_then(|change| match edits.count {
            ..=MOST_EDITS => Ok(change),
            _ => Err(format!("more than {MOST_EDITS} edits of one message")),
        });
        match change {
            Ok(change) => Step::Change(change),
            Err(problem) => {
                self.warn(&problem);
                Step::Verdict(self.misconfigured())
            }
        }
    }

    /// `name:value`; without the leading-space step the blank between them is ours to write.
    fn named(&self, name: &[u8], value: &[u8]) -> Result<Vec<u8>, String> {
        if name.is_empty() {
            return Err("null change header name".to_owned());
        }
        if !name.iter().all(|&octet| octet.is_ascii_graphic() && octet != b':') {
            let shown = name.escape_ascii();
            return Err(format!("bad header name: \"{shown}\""));
        }
        let mut field = name.to_vec();
        field.push(b':');
        if !self.steps.contains(Steps::LEADING_SPACE) {
            field.push(b' ');
        }
        field.extend_from_slice(value);
        Ok(field)
    }
}

enum Step {
    Change(Change),
    Verdict(Option<Response>),
    More,
}

/// Whether the filter writes a new body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Body {
    #[default]
    Kept,
    Open,
    Closed,
}

#[derive(Default)]
struct Edits {
    body: Body,
    count: usize,
    /// The first edit that could not be carried out; those after it are read and left.
    failed: Option<Response>,
}

impl Edits {
    async fn carry_out(&mut self, message: &mut impl Message, change: Change) {
        if self.failed.is_none() {
            self.failed = message.change(change).await;
        }
    }

    async fn end_body(&mut self, message: &mut impl Message) {
        if self.body == Body::Open {
            self.body = Body::Closed;
            self.carry_out(message, Change::EndBody).await;
        }
    }

    /// A failed edit counts, unless the message goes away or comes back later anyway.
    fn over(self, response: Option<Response>) -> Option<Response> {
        let gone = match &response {
            Some(Response::Discard | Response::Shutdown) => true,
            Some(Response::Reply(text)) => text.starts_with('4'),
            Some(Response::Hold) | None => false,
        };
        if gone { response } else { self.failed.or(response) }
    }
}

/// How far the message has been shown.
#[derive(Default)]
struct Walk {
    header: Values,
    body: Values,
    /// The field that is being collected, its lines divided by LF.
    field: Vec<u8>,
    /// The last piece was no complete line.
    open: bool,
    in_body: bool,
    /// Our own field has been seen, and not shown.
    hidden: bool,
    chunk: Vec<u8>,
}

impl Walk {
    fn extend(&mut self, longest: usize, data: &[u8]) {
        let room = longest.saturating_sub(self.field.len()).min(data.len());
        self.field.extend_from_slice(data.get(..room).unwrap_or_default());
    }
}

fn is_field(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|&octet| octet == b':') else { return false };
    let name = line.get(..colon).unwrap_or_default().trim_ascii_end();
    !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

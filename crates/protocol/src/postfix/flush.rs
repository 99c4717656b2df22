//! The flush service (`public/flush`): which mail waits for which destination.

use mail_types::QueueId;

use super::attr::{AttrError, AttrList, AttrWriter, excerpt};

/// One request. The answer is [`super::status_reply`] with a [`FlushStatus`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlushRequest {
    /// Remember that this message waits for this destination.
    Add { site: String, queue_id: QueueId },
    /// Deliver what waits for this destination (`postqueue -s`, ETRN).
    SendSite(String),
    /// Deliver this message (`postqueue -i`).
    SendFile(QueueId),
    /// Deliver everything that any log names.
    Purge,
    /// Forget what is not in the queue any more.
    Refresh,
}

/// What the service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushStatus {
    Ok,
    /// A malformed request or queue id.
    Bad,
    /// The destination is not eligible (`fast_flush_domains`).
    Denied,
    Failed,
}

impl FlushStatus {
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::Bad => 3,
            Self::Denied => 4,
            Self::Failed => -1,
        }
    }

    #[must_use]
    pub const fn of(number: i32) -> Self {
        match number {
            0 => Self::Ok,
            3 => Self::Bad,
            4 => Self::Denied,
            _ => Self::Failed,
        }
    }
}

impl FlushRequest {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut list = AttrWriter::new();
        match self {
            Self::Add { site, queue_id } => {
                list.text("request", "add");
                list.text("site", site);
                list.text("queue_id", queue_id.as_str());
            }
            Self::SendSite(site) => {
                list.text("request", "send_site");
                list.text("site", site);
            }
            Self::SendFile(queue_id) => {
                list.text("request", "send_file");
                list.text("queue_id", queue_id.as_str());
            }
            Self::Purge => list.text("request", "purge"),
            Self::Refresh => list.text("request", "rfrsh"),
        }
        list.end()
    }

    /// # Errors
    ///
    /// [`AttrError`] if it is no request.
    pub fn decode(list: &AttrList) -> Result<Self, AttrError> {
        let mut fields = list.fields();
        let id = |id: &str| {
            QueueId::parse(id)
                .map_err(|_| AttrError::Value { name: "queue_id", value: excerpt(id) })
        };
        let request = match fields.text("request")? {
            "add" => {
                Self::Add { site: fields.string("site")?, queue_id: id(fields.text("queue_id")?)? }
            }
            "send_site" => Self::SendSite(fields.string("site")?),
            "send_file" => Self::SendFile(id(fields.text("queue_id")?)?),
            "purge" => Self::Purge,
            "rfrsh" => Self::Refresh,
            other => return Err(AttrError::Value { name: "request", value: excerpt(other) }),
        };
        fields.finish()?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_and_printed_back() {
        for captured in [
            "request|add|site|down.test|queue_id|CF8F99A449F||",
            "request|send_site|site|sink.test||",
            "request|send_file|queue_id|CF8F99A449F||",
            "request|purge||",
            "request|rfrsh||",
        ] {
            let bytes = captured.replace('|', "\0").into_bytes();
            let request = FlushRequest::decode(&AttrList::parse(&bytes).unwrap()).unwrap();
            assert_eq!(request.encode(), bytes);
        }
        let bad = AttrList::parse(b"request\0send_file\0queue_id\0../x\0\0").unwrap();
        assert!(FlushRequest::decode(&bad).is_err());
    }
}

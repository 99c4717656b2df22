//! Handing a recipient on to another agent (`mailbox_transport`, `fallback_transport`): the same
//! request, asked as the queue manager would ask it.

use std::time::Duration;

use neighbours::attributes::{AttrIoError, AttrStream};
use protocol::postfix::Recipient;
use protocol::postfix::delivery::{DeliveryReply, DeliveryRequest, Remaining, read_agent_greeting};

use crate::agent::Service;
use crate::agent::job::Job;

const PATIENCE: Duration = Duration::from_secs(3600);

impl Service {
    /// Passes one recipient to `TRANSPORT[:NEXTHOP]`; whether it is done. That agent reports and
    /// logs; we mark.
    pub(super) async fn pass(
        &self,
        job: &Job,
        recipient: &Recipient,
        transport: &str,
    ) -> Result<bool, AttrIoError> {
        let (name, nexthop) = transport.split_once(':').unwrap_or((transport, ""));
        let nexthop = if nexthop.is_empty() { &self.settings.myhostname } else { nexthop };
        let path = self.settings.queue.root.join("private").join(name);
        let mut stream = AttrStream::connect(&path, PATIENCE).await?;
        read_agent_greeting(&stream.list().await?)?;
        let request = DeliveryRequest {
            nexthop: nexthop.to_owned(),
            recipients: vec![Recipient { offset: -1, ..recipient.clone() }],
            ..job.request.clone()
        };
        stream.send(&request.encode(self.dialect())).await?;
        let reply = DeliveryReply::decode(&stream.list().await?)?;
        Ok(reply.status == Remaining::Nothing)
    }
}

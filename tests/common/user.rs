//! A user: a signed-in account, with calls through the client library and calls to one node.

use std::time::Duration;

use quorate::{
    client::{Cluster, Recipient, Session, Start, Subscription, Update},
    types::{Consistency, ConversationId, RequestId},
    wire::{
        Fault,
        chat::{
            self, event_service_client::EventServiceClient, message_service_client::MessageServiceClient,
            subscribe_response::Event,
        },
        metadata,
    },
};
use tokio::task::JoinHandle;
use tonic::{Request, Status, transport::Channel};

use super::{PASSWORD, TIMEOUT, eventually};

pub struct User {
    pub name: String,
    pub session: Session,
    pub token: String,
}

impl User {
    /// Creates an account and signs in.
    pub async fn register(cluster: &Cluster, name: &str) -> Self {
        Session::register(cluster, name, PASSWORD).await.expect("an account is made");
        let (session, created) = Session::login(cluster, name, PASSWORD, "test").await.expect("a sign-in");
        Self { name: name.to_owned(), session, token: created.token }
    }

    pub fn request_id(&self) -> RequestId {
        self.session.cluster().request_id()
    }

    /// Sends a direct message.
    pub async fn send(&self, to: &str, body: &str) -> chat::Message {
        self.try_send(self.request_id(), to, body)
            .await
            .unwrap_or_else(|fault| panic!("{body} was not sent: {fault:?}"))
            .0
    }

    /// Sends a direct message under this request_id. Also returns whether it was deduplicated.
    pub async fn try_send(&self, id: RequestId, to: &str, body: &str) -> Result<(chat::Message, bool), Fault> {
        let sent = self.session.send_as(id, &Recipient::Username(to.to_owned()), body).await?;
        Ok((sent.message.expect("a message"), sent.deduplicated))
    }

    /// The bodies of the direct conversation with `other`, in order.
    pub async fn bodies(&self, other: &str, consistency: Consistency) -> Result<Vec<String>, Fault> {
        let session = self.session.reading(consistency);
        let all = timeline(&session, &Recipient::Username(other.to_owned())).await?;
        Ok(all.into_iter().map(|message| message.body).collect())
    }

    /// Waits until the conversation with `other` consists of these messages.
    pub async fn eventually_sees(&self, other: &str, bodies: &[&str]) {
        eventually(&format!("{} sees {bodies:?}", self.name), async || {
            match self.bodies(other, Consistency::Linearizable).await {
                Ok(seen) if seen == bodies => Ok(()),
                Ok(seen) => Err(format!("{seen:?}")),
                Err(fault) => Err(format!("{fault:?}")),
            }
        })
        .await;
    }

    /// A request with this user's token, for a call to one node.
    pub fn signed<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        let bearer = format!("Bearer {}", self.token).parse().expect("a token");
        request.metadata_mut().insert(metadata::AUTHORIZATION, bearer);
        request
    }

    /// Reads the conversation with `other` at one node, within `timeout`.
    pub async fn read_at(
        &self,
        channel: Channel,
        other: &str,
        consistency: Consistency,
        timeout: Duration,
    ) -> Result<Vec<String>, Status> {
        let mut request = self.signed(chat::ListMessagesRequest {
            recipient: Some(chat::list_messages_request::Recipient::Username(other.to_owned())),
            page_size: 500,
            ..Default::default()
        });
        request.set_timeout(timeout);
        match consistency {
            Consistency::Linearizable => {}
            Consistency::AtLeast(index) => {
                request.metadata_mut().insert(metadata::MIN_INDEX, index.into());
            }
            Consistency::Stale => {
                request.metadata_mut().insert(metadata::CONSISTENCY, "stale".parse().expect("ASCII"));
            }
        }
        let response = MessageServiceClient::new(channel).list_messages(request).await?;
        Ok(response.into_inner().messages.into_iter().map(|message| message.body).collect())
    }

    /// Sends a direct message through one node. Does not follow redirects.
    pub async fn send_at(
        &self,
        channel: Channel,
        to: &str,
        body: &str,
        timeout: Duration,
    ) -> Result<chat::Message, Status> {
        let mut request = self.signed(chat::SendMessageRequest {
            request_id: self.request_id().to_string(),
            recipient: Some(chat::send_message_request::Recipient::Username(to.to_owned())),
            body: body.to_owned(),
        });
        request.set_timeout(timeout);
        let response = MessageServiceClient::new(channel).send_message(request).await?;
        Ok(response.into_inner().message.expect("a message"))
    }

    /// The next `count` events after `cursor`, without heartbeats, from one node.
    pub async fn events_at(&self, channel: Channel, cursor: u64, count: usize) -> Vec<chat::SubscribeResponse> {
        let request = self.signed(chat::SubscribeRequest { after_cursor: cursor, from_now: false });
        let mut stream = EventServiceClient::new(channel).subscribe(request).await.expect("a stream").into_inner();
        let mut events = Vec::new();
        while events.len() < count {
            let next = tokio::time::timeout(TIMEOUT, stream.message()).await.expect("an event in time");
            let event = next.expect("no fault").expect("an open stream");
            if !matches!(event.event, Some(Event::Heartbeat(_))) {
                events.push(event);
            }
        }
        events
    }

    /// Collects this many message events from one node, in the background.
    pub fn follow_at(
        &self,
        channel: Channel,
        cursor: u64,
        messages: usize,
    ) -> JoinHandle<Vec<chat::SubscribeResponse>> {
        let request = self.signed(chat::SubscribeRequest { after_cursor: cursor, from_now: false });
        tokio::spawn(async move {
            let mut stream = EventServiceClient::new(channel).subscribe(request).await.expect("a stream").into_inner();
            let mut events = Vec::new();
            while events.len() < messages {
                let next = tokio::time::timeout(TIMEOUT, stream.message()).await.expect("an event in time");
                let event = next.expect("no fault").expect("an open stream");
                if matches!(event.event, Some(Event::Message(_))) {
                    events.push(event);
                }
            }
            events
        })
    }

    /// Subscribes after `cursor`.
    pub fn subscribe(&self, cursor: u64) -> Subscription {
        self.session.subscribe(Start::After(cursor))
    }
}

/// Reads all messages of a conversation, in order.
pub async fn timeline(session: &Session, of: &Recipient) -> Result<Vec<chat::Message>, Fault> {
    let mut all: Vec<chat::Message> = Vec::new();
    loop {
        let after_seq = all.last().map_or(0, |message| message.seq);
        let request = chat::ListMessagesRequest { after_seq, page_size: 500, ..Default::default() };
        let page = session.messages(Some(of), request).await?;
        if page.messages.is_empty() {
            return Ok(all);
        }
        all.extend(page.messages);
    }
}

/// The id of a message's conversation.
pub fn conversation(message: &chat::Message) -> ConversationId {
    message.conversation_id.parse().expect("a conversation id")
}

/// The next event of a subscription. Panics if the stream ends, has a gap (P5), or stays silent.
pub async fn event_of(subscription: &mut Subscription) -> chat::SubscribeResponse {
    loop {
        let next = tokio::time::timeout(TIMEOUT, subscription.next()).await;
        match next.expect("an event in time").expect("an open stream") {
            Ok(Update::Event(event)) => return event,
            Ok(Update::Broken(fault)) => panic!("a gap or a duplicate (P5): {fault:?}"),
            Ok(_) => {}
            Err(fault) => panic!("the subscription ended: {fault:?}"),
        }
    }
}

/// The next `count` messages of a subscription.
pub async fn messages_of(subscription: &mut Subscription, count: usize) -> Vec<chat::Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        if let Some(Event::Message(message)) = event_of(subscription).await.event {
            messages.push(message);
        }
    }
    messages
}

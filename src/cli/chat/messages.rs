//! Sending, reading and deleting messages.

use std::io::Read as _;

use super::{
    Desk,
    args::{Delete, History, Read, Send},
    outbox, pipe, recipient, rooms,
    show::{self, Titles},
    write_failed,
};
use crate::{
    cli::{Exit, Failure, Result, Table, text},
    client::{Recipient, Session, outcome_is_unknown},
    types::limits,
    wire::chat::{
        Conversation, ListConversationsResponse, ListMessagesRequest, Message, MessageRef, SendMessageResponse,
    },
};

pub(super) async fn send(mut desk: Desk, args: Send) -> Result<()> {
    let body = match &args.message[..] {
        [] if args.to == "-" => return pipe::run(desk).await,
        [] => return Err(Failure::new(Exit::Usage, "what is to be sent is missing").next("chat send TO MESSAGE…")),
        [dash] if dash == "-" => body_from(&mut desk.around.input)?,
        words => words.join(" "),
    };
    let (session, context) = desk.session()?;
    let outbox = desk.outbox(&context)?;
    let id = args.request_id.unwrap_or_else(|| session.cluster().request_id());
    if args.queue {
        return outbox::queue(&mut desk, &session, &outbox, id, recipient::read(&args.to)?, &body).await;
    }
    let to = recipient::resolve(&session, &args.to).await?;
    outbox::make_way(&mut desk, &session, &outbox).await?;
    let answer = session.send_as(id, &to, &body).await.map_err(|fault| {
        let look = format!("repeat it with --request-id {id}: it takes effect once, whatever became of it so far");
        let what = if outcome_is_unknown(&fault) { "not acknowledged" } else { "not sent" };
        write_failed(fault, look).context(what)
    })?;
    show_sent(&mut desk, &answer)
}

/// Says that a message was acknowledged.
pub(super) fn show_sent(desk: &mut Desk, answer: &SendMessageResponse) -> Result<()> {
    if desk.output().is_json() {
        return desk.output().message(answer);
    }
    let message = answer.message.clone().unwrap_or_default();
    let already = if answer.deduplicated { " before" } else { "" };
    let place = format!("{}/{}", text::line(&message.conversation_id), message.seq);
    desk.output().talk(format!("sent{already} as {place}"));
    Ok(())
}

fn body_from(input: &mut dyn std::io::Read) -> Result<String> {
    let mut bytes = Vec::new();
    // One more than fits, besides a line end, so that too much is seen as such by the server's rule.
    input.take(limits::BODY_BYTES as u64 + 2).read_to_end(&mut bytes)?;
    let mut body = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Exit::Failure, "the message on standard input is not UTF-8 text"))?;
    if body.ends_with('\n') {
        body.pop();
    }
    Ok(body)
}

pub(super) async fn inbox(mut desk: Desk, unread: bool) -> Result<()> {
    let (session, context) = desk.session()?;
    let conversations = rooms::conversations(&session, false, unread).await?;
    if desk.output().is_json() {
        return desk.output().message(&ListConversationsResponse { conversations, ..Default::default() });
    }
    let mut table = Table::new(["UNREAD", "WITH", "ID", "LAST", "SEEN"]);
    for conversation in &conversations {
        let (unread, last) = (conversation.unread_count.to_string(), conversation.last_seq.to_string());
        let seen = seen(conversation).map(|seq| seq.to_string()).unwrap_or_default();
        table.row([&unread, &name(conversation, &context.account), &conversation.conversation_id, &last, &seen]);
    }
    desk.output().table(&table)?;
    if conversations.is_empty() {
        desk.output().talk(if unread { "nothing unread" } else { "no conversations yet" });
    }
    Ok(())
}

/// A room's title, or the other one in a direct conversation.
pub(super) fn name(conversation: &Conversation, me: &str) -> String {
    if !conversation.direct {
        return text::title(&conversation.title);
    }
    let other = conversation.members.iter().find(|name| !name.eq_ignore_ascii_case(me));
    other.or(conversation.members.first()).cloned().unwrap_or_else(|| "(deleted account)".to_owned())
}

/// How far the other one in a direct conversation has read, if that is shown.
fn seen(conversation: &Conversation) -> Option<u64> {
    Some(conversation.peer_read_seq).filter(|seq| conversation.direct && *seq > 0)
}

pub(super) async fn read(mut desk: Desk, args: Read) -> Result<()> {
    let (session, _) = desk.session()?;
    let of = match &args.to {
        Some(to) => Some(recipient::resolve(&session, to).await?),
        None => None,
    };
    let messages = oldest_unread(&session, of.as_ref(), args.limit as usize).await?;
    let conversations = conversations_of(&mut desk, &session, &messages).await?;
    print(&mut desk, &conversations, &messages)?;
    if messages.is_empty() {
        desk.output().talk("nothing unread");
    } else if !args.peek {
        let shown: Vec<MessageRef> = messages.iter().map(reference).collect();
        let left = session.mark_read(shown).await.map_err(|fault| {
            write_failed(fault, "repeating it does no harm").context("shown, but perhaps not marked as read")
        })?;
        desk.output().talk(format!("{} shown and marked as read; {left} left unread in all", messages.len()));
    }
    Ok(())
}

async fn oldest_unread(session: &Session, of: Option<&Recipient>, limit: usize) -> Result<Vec<Message>> {
    let mut messages: Vec<Message> = Vec::new();
    let mut page_token = String::new();
    while messages.len() < limit {
        let page_size = (limit - messages.len()).min(limits::PAGE_SIZE) as i32;
        let request = ListMessagesRequest { unread_only: true, page_size, page_token, ..Default::default() };
        let page = session.messages(of, request).await?;
        messages.extend(page.messages);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    messages.truncate(limit);
    Ok(messages)
}

pub(super) async fn history(mut desk: Desk, args: History) -> Result<()> {
    let (session, context) = desk.session()?;
    let of = recipient::resolve(&session, &args.to).await?;
    let mut messages: Vec<Message> = Vec::new();
    let mut before_seq = args.before.unwrap_or(u64::MAX);
    while messages.len() < args.limit as usize && before_seq > 1 {
        let page_size = (args.limit as usize - messages.len()).min(limits::PAGE_SIZE) as i32;
        let request = ListMessagesRequest { before_seq, page_size, ..Default::default() };
        let page = session.messages(Some(&of), request).await?.messages;
        // Each page lies before the last one: an answer that does not would have us ask for ever.
        let Some(first) = page.iter().map(|message| message.seq).min().filter(|first| *first < before_seq) else {
            break;
        };
        before_seq = first;
        messages.extend(page);
    }
    messages.sort_by_key(|message| message.seq);
    let conversations = conversations_of(&mut desk, &session, &messages).await?;
    print(&mut desk, &conversations, &messages)?;
    let Some(shown) = messages.first() else { return Ok(()) };
    let of = conversations.iter().find(|conversation| conversation.conversation_id == shown.conversation_id);
    match of.and_then(|of| seen(of).map(|seq| show::read(&of.conversation_id, &name(of, &context.account), seq))) {
        Some(receipt) => desk.output().line(receipt),
        None => Ok(()),
    }
}

/// What people are told of the conversations of `messages` besides them. JSON bears ids alone.
async fn conversations_of(desk: &mut Desk, session: &Session, messages: &[Message]) -> Result<Vec<Conversation>> {
    if messages.is_empty() || desk.output().is_json() {
        return Ok(Vec::new());
    }
    rooms::all(session, false).await
}

fn print(desk: &mut Desk, conversations: &[Conversation], messages: &[Message]) -> Result<()> {
    if desk.output().is_json() {
        return messages.iter().try_for_each(|message| desk.output().message(message));
    }
    let titles = Titles::of(conversations);
    messages.iter().try_for_each(|message| desk.output().line(show::message(message, &titles)))?;
    desk.output().raw([])
}

pub(super) async fn delete(mut desk: Desk, args: Delete) -> Result<()> {
    let (session, _) = desk.session()?;
    let conversation_id = match recipient::resolve(&session, &args.to).await? {
        Recipient::Conversation(id) => id.to_string(),
        Recipient::Username(name) => direct_with(&session, &name).await?,
    };
    let place = |seq| MessageRef { conversation_id: conversation_id.clone(), seq };
    let messages = args.seqs.into_iter().map(place).collect();
    let deleted_count = session
        .delete(messages, args.for_everyone)
        .await
        .map_err(|fault| write_failed(fault, "repeating it does no harm").context("cannot delete"))?;
    if desk.output().is_json() {
        return desk.output().message(&crate::wire::chat::DeleteMessagesResponse { deleted_count });
    }
    let whom = if args.for_everyone { "everyone" } else { "you" };
    desk.output().talk(format!("{deleted_count} deleted for {whom}"));
    Ok(())
}

/// The id of the direct conversation with `name`, which its messages bear.
async fn direct_with(session: &Session, name: &str) -> Result<String> {
    let of = Recipient::Username(name.to_owned());
    let request = ListMessagesRequest { page_size: 1, ..Default::default() };
    let first = session.messages(Some(&of), request).await?.messages.into_iter().next();
    first.map(|message| message.conversation_id).ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there are no messages between you and {}", text::line(name)))
            .next("`chat inbox` lists your conversations")
    })
}

fn reference(message: &Message) -> MessageRef {
    MessageRef { conversation_id: message.conversation_id.clone(), seq: message.seq }
}

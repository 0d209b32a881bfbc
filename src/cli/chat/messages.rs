//! Sending, reading and deleting messages.

use std::{collections::BTreeMap, io::Read as _};

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
        Conversation, ListConversationsResponse, ListMessagesRequest, Message, MessageRef, RoomChange,
        SendMessageResponse,
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
    print(&mut desk, &session, &messages).await?;
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
    let mut changes: BTreeMap<u64, RoomChange> = BTreeMap::new();
    let mut before_seq = args.before.unwrap_or(u64::MAX);
    while messages.len() < args.limit as usize && before_seq > 1 {
        let page_size = (args.limit as usize - messages.len()).min(limits::PAGE_SIZE) as i32;
        let request = ListMessagesRequest { before_seq, page_size, ..Default::default() };
        let page = session.messages(Some(&of), request).await?;
        changes.extend(page.changes.into_iter().map(|change| (change.seq, change)));
        // Each page lies before the last one: an answer that does not would have us ask for ever.
        let first = page.messages.iter().map(|message| message.seq).min();
        let Some(first) = first.filter(|first| *first < before_seq) else { break };
        before_seq = first;
        messages.extend(page.messages);
    }
    messages.sort_by_key(|message| message.seq);
    if desk.output().is_json() {
        return messages.iter().try_for_each(|message| desk.output().message(message));
    }
    if messages.is_empty() && changes.is_empty() {
        return Ok(());
    }
    let conversations = rooms::all(&session, false).await?;
    let shown = |conversation: &&Conversation| match (&of, messages.first()) {
        (Recipient::Conversation(id), _) => conversation.conversation_id == id.to_string(),
        (_, Some(message)) => conversation.conversation_id == message.conversation_id,
        _ => false,
    };
    let of = conversations.iter().find(shown);
    let titles = Titles::of(&conversations);
    let mut lines: Vec<(u64, String)> =
        messages.iter().map(|message| (message.seq, show::message(message, &titles))).collect();
    if let Some(of) = of {
        let line = |change: &RoomChange| (change.seq, show::room_change(change, &of.conversation_id, &titles));
        lines.extend(changes.values().map(line));
    }
    lines.sort_by_key(|(seq, _)| *seq);
    let receipt =
        of.and_then(|of| seen(of).map(|seq| show::read(&of.conversation_id, &name(of, &context.account), seq)));
    lines.into_iter().map(|(_, line)| line).chain(receipt).try_for_each(|line| desk.output().line(line))
}

async fn print(desk: &mut Desk, session: &Session, messages: &[Message]) -> Result<()> {
    if desk.output().is_json() {
        return messages.iter().try_for_each(|message| desk.output().message(message));
    }
    if messages.is_empty() {
        return Ok(());
    }
    let titles = Titles::of(&rooms::all(session, false).await?);
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

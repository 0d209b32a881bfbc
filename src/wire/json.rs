//! The proto3 JSON form of any of our messages: lowerCamelCase names, 64-bit integers as strings, RFC 3339 times.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use super::DESCRIPTORS;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("the build wrote these descriptors"));

/// `message` as one line of proto3 JSON, with every field written out, so that scripts need no defaults.
///
/// # Panics
/// Never for messages of this crate's proto files, which the pool holds.
pub fn to_string<M: Message + Name>(message: &M) -> String {
    let descriptor = POOL.get_message_by_name(&M::full_name()).expect("a message of our own proto files");
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .expect("a message decodes from its own encoding");
    let mut out = Vec::new();
    let options = SerializeOptions::new().skip_default_fields(false).stringify_64_bit_integers(true);
    dynamic
        .serialize_with_options(&mut serde_json::Serializer::new(&mut out), &options)
        .expect("writing JSON to memory does not fail");
    String::from_utf8(out).expect("JSON is UTF-8")
}

#[cfg(test)]
mod tests {
    use crate::wire::{chat, cluster};

    #[test]
    fn json_follows_the_proto3_mapping() {
        let message = chat::Message {
            conversation_id: "c1".into(),
            seq: 7,
            create_time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..Default::default()
        };
        let json = super::to_string(&message);
        assert!(json.contains(r#""conversationId":"c1""#), "{json}");
        assert!(json.contains(r#""seq":"7""#), "{json}");
        assert!(json.contains(r#""createTime":"1970-01-01T00:00:00Z""#), "{json}");
        assert!(json.contains(r#""deleted":false"#), "{json}");
    }

    #[test]
    fn enums_are_written_by_name() {
        let node = cluster::Node { role: cluster::Role::Voter.into(), ..Default::default() };
        assert!(super::to_string(&node).contains(r#""role":"ROLE_VOTER""#));
    }
}

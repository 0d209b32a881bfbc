//! Our messages in proto3 JSON: lowerCamelCase names, 64-bit integers as strings, RFC 3339 times.

use std::{ops::RangeInclusive, sync::LazyLock};

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, SerializeOptions, Value};

use super::DESCRIPTORS;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("the build wrote these descriptors"));

/// `message` as one line of proto3 JSON. Every field is written, so that scripts need no defaults.
///
/// # Panics
/// Never for messages of this crate's proto files: the pool holds them.
pub fn to_string<M: Message + Name>(message: &M) -> String {
    let descriptor = POOL.get_message_by_name(&M::full_name()).expect("a message of our own proto files");
    let mut dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .expect("a message decodes from its own encoding");
    clamp_times(&mut dynamic);
    let mut out = Vec::new();
    let options = SerializeOptions::new().skip_default_fields(false).stringify_64_bit_integers(true);
    dynamic
        .serialize_with_options(&mut serde_json::Serializer::new(&mut out), &options)
        .expect("writing JSON to memory does not fail");
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// Clamps times to the range that JSON can express. A peer may send others.
fn clamp_times(message: &mut DynamicMessage) {
    match message.descriptor().full_name() {
        // The years 1 to 9999.
        "google.protobuf.Timestamp" => clamp(message, -62_135_596_800..=253_402_300_799, 0..=999_999_999),
        // 10,000 years either way. Seconds and nanos must have the same sign.
        "google.protobuf.Duration" => {
            clamp(message, -315_576_000_000..=315_576_000_000, -999_999_999..=999_999_999);
            let fields = (message.get_field_by_name("seconds"), message.get_field_by_name("nanos"));
            let (Some(seconds), Some(nanos)) = fields else { return };
            let (seconds, nanos) = (seconds.as_i64().unwrap_or(0), nanos.as_i32().unwrap_or(0));
            if seconds.signum() * i64::from(nanos.signum()) < 0 {
                message.set_field_by_name("nanos", Value::I32(0));
            }
        }
        _ => message.fields_mut().for_each(|(_, value)| clamp_times_in(value)),
    }
}

fn clamp_times_in(value: &mut Value) {
    match value {
        Value::Message(inner) => clamp_times(inner),
        Value::List(values) => values.iter_mut().for_each(clamp_times_in),
        Value::Map(values) => values.values_mut().for_each(clamp_times_in),
        _ => {}
    }
}

fn clamp(message: &mut DynamicMessage, seconds: RangeInclusive<i64>, nanos: RangeInclusive<i32>) {
    if let Some(Value::I64(value)) = message.get_field_by_name_mut("seconds") {
        *value = (*value).clamp(*seconds.start(), *seconds.end());
    }
    if let Some(Value::I32(value)) = message.get_field_by_name_mut("nanos") {
        *value = (*value).clamp(*nanos.start(), *nanos.end());
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::{admin, chat, cluster};

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

    #[test]
    fn a_time_that_nobody_can_have_meant_is_written_as_the_nearest_there_is() {
        let message = |seconds, nanos| {
            let create_time = Some(prost_types::Timestamp { seconds, nanos });
            super::to_string(&chat::Message { create_time, ..Default::default() })
        };
        assert!(message(i64::MAX, i32::MIN).contains("9999-12-31T23:59:59Z"));
        assert!(message(i64::MIN, 0).contains("0001-01-01T00:00:00Z"));
        for (seconds, nanos) in [(i64::MAX, i32::MAX), (i64::MIN, i32::MIN), (1, -1), (-1, 1)] {
            let write_gap = Some(prost_types::Duration { seconds, nanos });
            let told = admin::TransferLeadershipResponse { write_gap, ..Default::default() };
            assert!(super::to_string(&told).contains("writeGap"));
        }
    }
}

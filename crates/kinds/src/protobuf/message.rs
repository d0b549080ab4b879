//! From messages to the JSON that Go's encoder would show: zero values go where Go leaves them out, and where Go
//! shows nothing but an empty shell (`status: {}`, `creationTimestamp: null`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::Malformed;
use super::table::{Field, Holds, Shape, Table};
use super::wire::{Payload, Reader};

/// Adds a message's members to `members`. Fields that the table does not know are passed over.
pub(super) fn decode(table: &Table, index: usize, message: &[u8], members: &mut Map<String, Value>) -> Result<(), Malformed> {
    let known = table.message(index);
    let mut reader = Reader::new(message);
    while let Some((number, payload)) = reader.next()? {
        let Some(field) = known.field(number) else { continue };
        match (field.shape, field.holds) {
            (Shape::Plain, Holds::Message(inner)) if field.name.is_empty() => {
                decode(table, inner, bytes(field, payload)?, members)?;
            }
            (Shape::Plain | Shape::Pointer, _) => {
                let value = value(table, field, payload)?;
                if is_shown(field, &value) {
                    members.insert(field.name.to_owned(), value);
                } else {
                    members.remove(field.name);
                }
            }
            (Shape::List, _) => {
                let list = members.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                let list = list.as_array_mut().expect("a field keeps its shape, and names are unique in a message");
                push(table, field, payload, list)?;
            }
            (Shape::Map, _) => {
                let (key, value) = entry(table, field, bytes(field, payload)?)?;
                let map = members.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                map.as_object_mut().expect("a field keeps its shape, and names are unique in a message").insert(key, value);
            }
        }
    }
    Ok(())
}

/// One element of a list, or many numbers packed.
fn push(table: &Table, field: &Field, payload: Payload, list: &mut Vec<Value>) -> Result<(), Malformed> {
    match (field.holds, payload) {
        (Holds::Bool | Holds::Int32 | Holds::Int64, Payload::Bytes(packed)) => {
            let mut reader = Reader::new(packed);
            while !reader.is_empty() {
                let number = Payload::Varint(reader.varint()?);
                list.push(value(table, field, number)?);
            }
        }
        _ => list.push(value(table, field, payload)?),
    }
    Ok(())
}

/// An entry of a map: key 1, value 2, either left out where it is zero.
fn entry(table: &Table, field: &Field, message: &[u8]) -> Result<(String, Value), Malformed> {
    let (mut key, mut held) = (String::new(), None);
    let mut reader = Reader::new(message);
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => key = text(bytes(field, payload)?),
            2 => held = Some(value(table, field, payload)?),
            _ => {}
        }
    }
    let held = held.map_or_else(|| value(table, field, Payload::Bytes(&[])), Ok)?;
    Ok((key, held))
}

fn value(table: &Table, field: &Field, payload: Payload) -> Result<Value, Malformed> {
    Ok(match field.holds {
        Holds::Bool => (varint(field, payload)? != 0).into(),
        Holds::Int32 => (varint(field, payload)? as i32).into(),
        Holds::Int64 => (varint(field, payload)? as i64).into(),
        Holds::Text => text(bytes(field, payload)?).into(),
        Holds::Bytes => STANDARD.encode(bytes(field, payload)?).into(),
        Holds::Message(index) => {
            let mut members = Map::new();
            decode(table, index, bytes(field, payload)?, &mut members)?;
            match table.message(index).fields.first() {
                Some(only) if table.message(index).is_list => {
                    members.remove(only.name).unwrap_or_else(|| Vec::<Value>::new().into())
                }
                _ => members.into(),
            }
        }
        holds => {
            let message = bytes(field, payload)?;
            let parts = Parts::read(message)?;
            match holds {
                Holds::Quantity => text(parts.bytes[0]).into(),
                Holds::IntOrString => parts.int_or_string(field)?,
                // A time that was never set is an empty message.
                Holds::Time | Holds::MicroTime if message.is_empty() => Value::Null,
                Holds::MicroTime => format!("{:.6}", parts.time(field, parts.numbers[1] as i32)?).into(),
                Holds::Time => parts.time(field, 0)?.to_string().into(),
                _ if parts.bytes[0].is_empty() => Value::Null,
                _ => serde_json::from_slice(parts.bytes[0]).map_err(|source| Malformed::Json { field: field.name, source })?,
            }
        }
    })
}

/// Whether JSON has the field: zero values of pointers count, those of plain fields as their `omitempty` says.
fn is_shown(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => false,
        _ if field.shape == Shape::Pointer || field.shows_zero => true,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

fn varint(field: &Field, payload: Payload) -> Result<u64, Malformed> {
    match payload {
        Payload::Varint(number) => Ok(number),
        other => Err(wrong_type(field, other)),
    }
}

fn bytes<'a>(field: &Field, payload: Payload<'a>) -> Result<&'a [u8], Malformed> {
    match payload {
        Payload::Bytes(bytes) => Ok(bytes),
        other => Err(wrong_type(field, other)),
    }
}

fn wrong_type(field: &Field, payload: Payload) -> Malformed {
    let name = if field.name.is_empty() { format!("number {}", field.number) } else { field.name.to_owned() };
    Malformed::FieldType { field: name, wire_type: payload.wire_type() }
}

/// Go takes texts as they come and replaces what is no UTF-8 when it writes JSON.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The fields 1 to 3 of a message that JSON shows as one value.
#[derive(Default)]
struct Parts<'a> {
    numbers: [u64; 3],
    bytes: [&'a [u8]; 3],
}

impl<'a> Parts<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut parts = Self::default();
        let mut reader = Reader::new(message);
        while let Some((number, payload)) = reader.next()? {
            match (number, payload) {
                (1..=3, Payload::Varint(value)) => parts.numbers[number as usize - 1] = value,
                (1..=3, Payload::Bytes(value)) => parts.bytes[number as usize - 1] = value,
                _ => {}
            }
        }
        Ok(parts)
    }

    /// `type` 1, `intVal` 2, `strVal` 3 (apimachinery pkg/util/intstr/intstr.go).
    fn int_or_string(&self, field: &Field) -> Result<Value, Malformed> {
        match self.numbers[0] {
            0 => Ok((self.numbers[1] as i32).into()),
            1 => Ok(text(self.bytes[2]).into()),
            other => Err(Malformed::IntOrString { field: field.name, kind: other }),
        }
    }

    /// `seconds` 1, `nanos` 2: a `Time` has no nanoseconds whatever is sent, a `MicroTime` whole microseconds
    /// (apimachinery pkg/apis/meta/v1/time_proto.go, micro_time_proto.go).
    fn time(&self, field: &Field, nanos: i32) -> Result<jiff::Timestamp, Malformed> {
        jiff::Timestamp::new(self.numbers[0] as i64, nanos - nanos % 1000)
            .map_err(|source| Malformed::Time { field: field.name, source })
    }
}
